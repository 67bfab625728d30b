package faultfs

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
)

// saved is what is known of a disk, between two processes. Nodes are named by their place.
type saved struct {
	Nodes []savedNode   `json:"nodes"` // the first is the root
	Log   []savedChange `json:"log"`
	Turn  int           `json:"turn"`
}

type savedNode struct {
	Dev    uint64         `json:"dev"`
	Ino    uint64         `json:"ino"`
	Here   bool           `json:"here"` // it has a name
	Mode   fs.FileMode    `json:"mode"`
	Data   []byte         `json:"data"`
	Attr   attributes     `json:"attr"`
	Lost   map[int64]bool `json:"lost"`
	Names  map[string]int `json:"names"`
	Since  int            `json:"since"`
	Target string         `json:"target"`
	// What a file without a name held.
	Rest     []byte     `json:"rest"`
	RestAttr attributes `json:"rest_attr"`
}

type savedChange struct {
	Turn int    `json:"turn"`
	In   int    `json:"in"`
	Name string `json:"name"`
	To   int    `json:"to"` // -1: the name is gone
}

// save writes down what is known, for the process that comes next.
func (d *disk) save(path string) error {
	here := map[*node]bool{}
	d.lookBelow(d.root, d.top, func(n *node) { here[n] = true })
	var s saved
	s.Turn = d.turn
	places := map[*node]int{}
	var place func(n *node) int
	place = func(n *node) int {
		if n == nil {
			return -1
		}
		if i, ok := places[n]; ok {
			return i
		}
		i := len(s.Nodes)
		places[n] = i
		one := savedNode{Dev: n.id.dev, Ino: n.id.ino, Here: here[n], Mode: n.mode, Data: n.data, Attr: n.attr, Lost: n.lost,
			Since: n.since, Target: n.target, Names: map[string]int{}}
		if !here[n] {
			one.Rest, one.RestAttr = n.now()
		}
		s.Nodes = append(s.Nodes, one)
		for name, to := range n.names {
			one.Names[name] = place(to)
		}
		return i
	}
	place(d.top)
	for _, c := range d.log {
		s.Log = append(s.Log, savedChange{c.turn, place(c.in), c.name, place(c.to)})
	}
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o600)
}

// recall takes over what another process knew, if it has written anything down.
func (d *disk) recall(path string) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var s saved
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		return err
	}
	pins := map[identity]int{}
	for id, n := range d.nodes { // all that has a name
		pins[id] = n.pin
	}
	nodes := make([]*node, len(s.Nodes))
	known := map[identity]*node{}
	for i, one := range s.Nodes {
		n := &node{id: identity{one.Dev, one.Ino}, pin: -1, mode: one.Mode, data: one.Data, attr: one.Attr, lost: one.Lost,
			since: one.Since, target: one.Target, names: map[string]*node{}, rest: one.Rest, restAttr: one.RestAttr}
		if n.lost == nil {
			n.lost = map[int64]bool{}
		}
		if pin, ok := pins[n.id]; ok && one.Here {
			n.pin = pin
			known[n.id] = n
			delete(pins, n.id)
		}
		nodes[i] = n
	}
	for i, one := range s.Nodes {
		for name, to := range one.Names {
			nodes[i].names[name] = nodes[to]
		}
	}
	d.log, d.turn = nil, s.Turn
	for _, c := range s.Log {
		var to *node
		if c.To >= 0 {
			to = nodes[c.To]
		}
		d.log = append(d.log, change{c.Turn, nodes[c.In], c.Name, to})
	}
	// What has come since is not durable.
	for id := range pins {
		n := d.nodes[id]
		n.data, n.names, n.since = nil, map[string]*node{}, d.turn
	}
	maps.Copy(d.nodes, known)
	d.top = nodes[0]
	return nil
}

// remember keeps what is known for the next process, if that is wanted.
func (f *FS) remember() error {
	if f.opts.Memory == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(f.opts.Memory), 0o755); err != nil {
		return err
	}
	return f.disk.save(f.opts.Memory)
}
