package faultfs

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
)

// cut turns the folder into what the disk holds after a power cut.
func (d *disk) cut(how Fault, volatile []string, r *rand.Rand) error {
	d.lookBelow(d.root, d.top, func(*node) {})
	c := &choice{disk: d, how: how, rand: r, turn: d.turn}
	switch how {
	case CutLost, CutData:
		c.turn = 0
	case CutTorn:
		c.turn = d.anyTurn(r)
	}
	built := &builder{choice: c, made: map[*node]string{}}
	// Beside the folder first, since the content of files is read from those that are to go.
	next, err := os.MkdirTemp(filepath.Dir(d.root), ".after-power-cut-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(next)
	if err := built.folder(next, d.top); err != nil {
		return err
	}
	for _, name := range volatile {
		if err := empty(filepath.Join(next, name)); err != nil {
			return err
		}
	}
	if err := empty(d.root); err != nil {
		return err
	}
	entries, err := os.ReadDir(next)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.Rename(filepath.Join(next, e.Name()), filepath.Join(d.root, e.Name())); err != nil {
			return err
		}
	}
	return d.anew()
}

// anew takes what is there for durable.
func (d *disk) anew() error {
	fresh, err := newDisk(d.root, d.fat)
	if err != nil {
		return err
	}
	d.close()
	*d = *fresh
	return nil
}

func empty(folder string) error {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(folder, e.Name())))
	}
	return err
}

// anyTurn picks how many of the changes of names reached the disk, of those that need not have.
func (d *disk) anyTurn(r *rand.Rand) int {
	for _, c := range d.log {
		if c.turn >= c.in.since {
			return c.turn + r.IntN(d.turn-c.turn+1)
		}
	}
	return d.turn
}

// choice is what came of what was not durable.
type choice struct {
	*disk
	how  Fault
	rand *rand.Rand
	turn int // the first change of a name that did not reach the disk unless it was synced
}

func (c *choice) names(n *node) map[string]*node {
	if c.how != CutTorn || !c.fat {
		return c.namesOf(n, c.turn)
	}
	// Each name by itself: any of the changes since the last sync is the last one that counts.
	names := c.namesOf(n, 0)
	later := map[string][]change{}
	for _, one := range c.log {
		if one.in == n && one.turn >= n.since {
			later[one.name] = append(later[one.name], one)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(later)) {
		if k := c.rand.IntN(len(later[name]) + 1); k > 0 {
			set(names, later[name][k-1])
		}
	}
	return names
}

func (c *choice) content(n *node) ([]byte, attributes) {
	now, attr := n.now()
	for s := range n.lost { // a cache shows it, the disk never had it
		clear(piece(now, s))
		copy(piece(now, s), piece(n.data, s))
	}
	switch c.how {
	case CutKept, CutData:
		return now, attr
	case CutLost:
		return n.data, n.attr
	case CutNames:
		return n.data, attr
	}
	if c.rand.IntN(2) == 0 {
		attr = n.attr
	}
	size := len(n.data)
	if c.rand.IntN(2) == 0 {
		size = len(now)
	}
	data := make([]byte, size)
	copy(data, n.data)
	all := c.rand.IntN(4) // often whole, often nothing, else a mixture
	for s := int64(0); s*sector < int64(size); s++ {
		if all == 0 || all > 1 && c.rand.IntN(2) == 0 {
			to := piece(data, s)
			clear(to[copy(to, piece(now, s)):])
		}
	}
	return data, attr
}

// builder makes files and folders.
type builder struct {
	*choice
	made map[*node]string
}

func (b *builder) folder(path string, n *node) error {
	b.made[n] = path
	names := b.names(n)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if err := b.node(filepath.Join(path, name), names[name]); err != nil {
			return err
		}
	}
	_, attr := b.content(n)
	return attr.give(path)
}

func (b *builder) node(path string, n *node) error {
	switch twin, ok := b.made[n]; {
	case ok && n.mode.IsDir():
		return nil // only without a journal: a folder in the middle of being renamed
	case ok:
		return os.Link(twin, path)
	}
	switch {
	case n.mode.IsDir():
		if err := os.Mkdir(path, 0o700); err != nil {
			return err
		}
		return b.folder(path, n)
	case n.mode&fs.ModeSymlink != 0:
		return os.Symlink(n.target, path)
	case n.mode.IsRegular():
		data, attr := b.content(n)
		b.made[n] = path
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return err
		}
		return attr.give(path)
	}
	return fmt.Errorf("%s: a disk with %v is not supported", path, n.mode.Type())
}

// give sets the owner first, which takes bits from the mode.
func (a attributes) give(path string) error {
	if err := os.Chown(path, a.UID, a.GID); err != nil {
		return err
	}
	return os.Chmod(path, a.Mode)
}
