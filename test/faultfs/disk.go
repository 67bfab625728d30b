package faultfs

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

const sector = 512 // bytes, which a disk writes in one piece

// disk knows what of a folder is durable. The folder itself holds what programs see.
type disk struct {
	root  string
	fat   bool
	nodes map[identity]*node
	top   *node
	log   []change // of names since the last syncAll, in order
	turn  int      // counts changes; the two of a rename are one
}

// identity tells files from one another as long as they are pinned: numbers of inodes are used again.
type identity struct{ dev, ino uint64 }

// node is a file or a folder, whatever its names.
type node struct {
	id   identity
	pin  int // keeps it and its content when it has no name any more; -1 when only what is below is left
	mode fs.FileMode

	// What of a file is durable.
	data  []byte
	attr  attributes
	lost  map[int64]bool   // sectors that a failed sync has dropped: later ones do not write them
	names map[string]*node // of a folder, when the log began
	since int              // of a folder: the turn from which on changes of names are not durable

	target string // of a symbolic link

	rest     []byte // what it held when the process ended that removed it
	restAttr attributes
}

type attributes struct {
	Mode     fs.FileMode `json:"mode"`
	UID, GID int
}

// change gives a name in a folder another meaning.
type change struct {
	turn int
	in   *node
	name string
	to   *node // nil: the name is gone
}

func newDisk(root string, fat bool) (*disk, error) {
	d := &disk{root: filepath.Clean(root), fat: fat, nodes: map[identity]*node{}}
	if d.top = d.at(d.root); d.top == nil || !d.top.mode.IsDir() {
		return nil, fmt.Errorf("%s is no folder", root)
	}
	d.syncAll()
	return d, nil
}

// at returns the node with a name, which it gets to know if need be; nil when there is none.
func (d *disk) at(path string) *node {
	var st unix.Stat_t
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil
	}
	id := identity{uint64(st.Dev), st.Ino}
	if n := d.nodes[id]; n != nil {
		unix.Close(fd)
		return n
	}
	info, err := os.Lstat(path)
	if err != nil {
		unix.Close(fd)
		return nil
	}
	n := &node{id: id, pin: fd, mode: info.Mode(), attr: attributesOf(info), lost: map[int64]bool{}, names: map[string]*node{}, since: d.turn}
	if info.Mode()&fs.ModeSymlink != 0 {
		n.target, _ = os.Readlink(path)
	}
	d.nodes[id] = n
	return n
}

func attributesOf(info fs.FileInfo) attributes {
	a := attributes{Mode: info.Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		a.UID, a.GID = int(st.Uid), int(st.Gid)
	}
	return a
}

// folder returns the folder with a name that belongs to the disk, or nil.
func (d *disk) folder(path string) *node {
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil
	}
	if rel, err := filepath.Rel(d.root, resolved); err != nil || !filepath.IsLocal(rel) {
		return nil
	}
	return d.at(resolved)
}

// open returns the node of an open file: nil when it is no regular one of the disk.
func (d *disk) open(f *os.File) *node {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	st := info.Sys().(*syscall.Stat_t)
	if n := d.nodes[identity{uint64(st.Dev), st.Ino}]; n != nil {
		return n
	}
	if in := d.folder(filepath.Dir(f.Name())); in == nil {
		return nil
	}
	return d.at(f.Name()) // somebody else made it
}

// close forgets everything.
func (d *disk) close() {
	for _, n := range d.nodes {
		unix.Close(n.pin)
	}
	d.nodes = nil
}

// now is what programs see of a file.
func (n *node) now() (data []byte, a attributes) {
	if n.pin < 0 {
		return slices.Clone(n.rest), n.restAttr
	}
	name := fmt.Sprintf("/proc/self/fd/%d", n.pin)
	info, err := os.Stat(name)
	if err != nil {
		return nil, n.attr
	}
	if info.Mode().IsRegular() {
		data, _ = os.ReadFile(name)
	}
	return data, attributesOf(info)
}

func (d *disk) change(path string, to *node) {
	if in := d.folder(filepath.Dir(path)); in != nil {
		d.log = append(d.log, change{d.turn, in, filepath.Base(path), to})
	}
}

// named notes a new name, of a new file or another one.
func (d *disk) named(path string) {
	d.change(path, d.at(path))
	d.turn++
}

func (d *disk) renamed(from, to string) {
	d.change(to, d.at(to))
	d.change(from, nil)
	d.turn++
}

func (d *disk) exchanged(one, other string) {
	d.change(one, d.at(one))
	d.change(other, d.at(other))
	d.turn++
}

func (d *disk) removed(path string) {
	d.change(path, nil)
	d.turn++
}

// rewritten notes that a file was emptied.
func (d *disk) rewritten(path string) { d.written(d.at(path), 0, 0) }

// written notes that size bytes at a place were written; a size of 0 stands for everything behind the place.
func (d *disk) written(n *node, at, size int64) {
	if n == nil {
		return
	}
	for s := range n.lost {
		if s >= at/sector && (size == 0 || s <= (at+size-1)/sector) {
			delete(n.lost, s)
		}
	}
}

// syncContent makes the content of a file durable, but for what an earlier sync has dropped.
func (d *disk) syncContent(n *node) {
	if n == nil {
		return
	}
	data, a := n.now()
	for s := range n.lost {
		from, to := s*sector, min((s+1)*sector, int64(len(data)))
		if from >= to {
			continue
		}
		clear(data[from:to])
		if from < int64(len(n.data)) {
			copy(data[from:to], n.data[from:])
		}
	}
	n.data, n.attr = data, a
}

// loseDirty drops what is not durable of a file, without anybody noticing.
func (d *disk) loseDirty(n *node) {
	if n == nil {
		return
	}
	data, _ := n.now()
	for s := int64(0); s*sector < int64(len(data)); s++ {
		if string(piece(data, s)) != string(piece(n.data, s)) {
			n.lost[s] = true
		}
	}
}

// piece is a sector of data, shorter at its end.
func piece(data []byte, s int64) []byte {
	return data[min(s*sector, int64(len(data))):min((s+1)*sector, int64(len(data)))]
}

func (d *disk) syncNames(path string) {
	n := d.folder(path)
	if n == nil {
		return
	}
	d.look(path, n)
	n.since = d.turn
	_, n.attr = n.now()
}

// syncAll makes everything durable.
func (d *disk) syncAll() {
	d.lookBelow(d.root, d.top, func(n *node) {
		n.names, n.since = d.namesOf(n, d.turn), d.turn
		d.syncContent(n)
	})
	d.log = nil
}

// namesOf returns the names in a folder as they were in a turn, or as they were synced if that was later.
func (d *disk) namesOf(n *node, turn int) map[string]*node {
	names := make(map[string]*node, len(n.names))
	for name, to := range n.names {
		names[name] = to
	}
	for _, c := range d.log {
		if c.in == n && c.turn < max(turn, n.since) {
			set(names, c)
		}
	}
	return names
}

func set(names map[string]*node, c change) {
	if c.to == nil {
		delete(names, c.name)
	} else {
		names[c.name] = c.to
	}
}

// look notes what others have changed in a folder.
func (d *disk) look(path string, n *node) {
	known := d.namesOf(n, d.turn)
	entries, err := os.ReadDir(path)
	if err != nil {
		return
	}
	there := map[string]bool{}
	for _, e := range entries {
		there[e.Name()] = true
		if to := d.at(filepath.Join(path, e.Name())); to != known[e.Name()] {
			d.log = append(d.log, change{d.turn, n, e.Name(), to})
			d.turn++
		}
	}
	for name := range known {
		if !there[name] {
			d.log = append(d.log, change{d.turn, n, name, nil})
			d.turn++
		}
	}
}

// lookBelow looks at a folder and all folders below, and visits every node.
func (d *disk) lookBelow(path string, n *node, visit func(*node)) {
	d.look(path, n)
	for name, to := range d.namesOf(n, d.turn) {
		if to.mode.IsDir() {
			d.lookBelow(filepath.Join(path, name), to, visit)
		} else {
			visit(to)
		}
	}
	visit(n)
}
