// Package faultfs is a durable.FS that goes wrong on purpose: it counts the operations on a folder of the real file system,
// and at a given one the process is killed, the disk is full or broken, or the power fails. For a power cut it knows of every
// file what it held when it was last synced, and of every folder its names when it was last synced; it turns the folder into
// something that a disk may hold afterwards, and then kills its process. What a disk may hold is what POSIX leaves open and
// file systems make use of: a name appears, changes or disappears for good only with a sync of its folder, content, size, mode
// and owner are kept only by a sync of the file, and each of them may have got there earlier, on its own. On a file
// system with a journal (ext4, xfs) a name is changed in one piece, and changes of names reach the disk in the order in which they were made;
// without one (vfat) each name fares for itself, so that a renamed file may have both names afterwards or none. Of a file
// each sector of 512 bytes may be old or new, and those that were never written read as zeros. What others do in
// the folder, such as scripts, is noticed when something is synced or lost, and counts as not synced; sync(2) makes all of it durable. Block
// devices are passed through; nothing of them is lost. All choices come from a seed.
package faultfs

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/xpu-sztp/ztp/pkg/durable"
)

// Fault is a way to go wrong.
type Fault string

// The faults. A power cut comes before its operation; the last one that can be lost is therefore one behind the last
// operation.
const (
	Kill      Fault = "kill"       // SIGKILL before the operation
	KillAfter Fault = "kill-after" // SIGKILL after it
	KillTorn  Fault = "kill-torn"  // SIGKILL in the middle of a write: some of it is there

	CutKept  Fault = "cut-kept"  // everything reached the disk
	CutLost  Fault = "cut-lost"  // nothing that was not synced did
	CutNames Fault = "cut-names" // names did, content did not: the empty file after a rename
	CutData  Fault = "cut-data"  // content did, names did not
	CutTorn  Fault = "cut-torn"  // some of both did

	Full      Fault = "full"       // ENOSPC
	FullShort Fault = "full-short" // a write takes half of the bytes; then ENOSPC
	Broken    Fault = "broken"     // EIO; a failed sync may be tried again
	SyncLost  Fault = "sync-lost"  // EIO from a sync, and what was to be synced is never written, though later syncs succeed and reads show it until the power fails
	Flipped   Fault = "flipped"    // a write succeeds, but the disk holds something else
)

// Cuts are the power cuts.
func Cuts() []Fault { return []Fault{CutKept, CutLost, CutNames, CutData, CutTorn} }

// Errors are the faults that operations report.
func Errors() []Fault { return []Fault{Full, FullShort, Broken, SyncLost} }

// Plan says what goes wrong in the life of a process.
type Plan struct {
	What Fault  `json:"what,omitempty"` // empty is nothing
	At   int    `json:"at"`             // the operation, counted from 0
	More int    `json:"more,omitempty"` // how many operations after it fail with the same error, as far as they can; -1 is all
	Only string `json:"only,omitempty"` // count only operations that have this in their description
	Seed uint64 `json:"seed,omitempty"` // of what is random
}

// Options describe the disk.
type Options struct {
	Root     string   // the folder that is the disk; what is outside of it is passed through, but counted
	Volatile []string // folders below Root, relative to it, that a power cut empties
	FAT      bool     // names change without a journal
	Memory   string   // a file outside of Root that tells the next process what is durable; without it, everything is that it finds
	Plan     Plan
	Log      func(n int, op string) // is told of every operation that is counted, before it happens; may be nil
	Die      func()                 // ends the process; nil is SIGKILL
}

// FS is a file system with a fault. It is safe for use by several goroutines.
type FS struct {
	opts Options
	disk *disk
	rand *rand.Rand

	mu   sync.Mutex
	next int // the number of the next operation
}

var _ durable.FS = (*FS)(nil)

// New returns a file system; what is below o.Root is durable.
func New(o Options) (*FS, error) {
	if o.Die == nil {
		o.Die = func() {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // nothing happens any more, on no account
		}
	}
	d, err := newDisk(o.Root, o.FAT)
	if err != nil {
		return nil, err
	}
	if o.Memory != "" {
		if err := d.recall(o.Memory); err != nil {
			return nil, err
		}
	}
	return &FS{opts: o, disk: d, rand: rand.New(rand.NewPCG(o.Plan.Seed, uint64(o.Plan.At)))}, nil
}

// Close ends the use of f, as the end of its process does.
func (f *FS) Close() error {
	defer f.disk.close()
	return f.remember()
}

// Count is how many operations there were.
func (f *FS) Count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.next
}

// Moment counts as an operation that changes no file, such as a message that is sent.
func (f *FS) Moment(what string) { _ = f.do(op{what: what}) }

// Cut cuts the power, and lets the process go on.
func (f *FS) Cut(how Fault) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.disk.cut(how, f.opts.Volatile, f.rand)
}

// Settle takes everything that is there for durable: what a boot loader wrote, or an orderly shutdown left.
func (f *FS) Settle() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.disk.anew()
}

// op is one operation.
type op struct {
	what    string       // for people and Plan.Only, such as "rename a to b"
	effect  func() error // nil is none
	note    func()       // after a success: tells the disk
	grows   bool         // needs space
	broken  func()       // what EIO does in addition
	torn    func(r *rand.Rand) error
	short   func() error // writes half
	flipped func() error
}

// do counts an operation and lets it happen, or something else.
func (f *FS) do(o op) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.opts.Plan
	if p.Only != "" && !strings.Contains(o.what, p.Only) {
		return o.happen()
	}
	n := f.next
	f.next++
	if f.opts.Log != nil {
		f.opts.Log(n, o.what)
	}
	due := n == p.At
	failing := n >= p.At && (p.More < 0 || n <= p.At+p.More)
	switch p.What {
	case Kill, CutKept, CutLost, CutNames, CutData, CutTorn:
		if due {
			f.die(p.What)
		}
	case KillAfter:
		err := o.happen()
		if due {
			f.die(Kill)
		}
		return err
	case KillTorn:
		if due {
			if o.torn != nil {
				_ = o.torn(f.rand)
			}
			f.die(Kill)
		}
	case Full, FullShort, Broken, SyncLost, Flipped:
		if failing {
			return o.fail(p.What)
		}
	}
	return o.happen()
}

func (o op) happen() error {
	if o.effect != nil {
		if err := o.effect(); err != nil {
			return err
		}
	}
	if o.note != nil {
		o.note()
	}
	return nil
}

// fail lets an operation end with an error, if it is one that can.
func (o op) fail(how Fault) error {
	switch {
	case o.effect == nil:
	case how == FullShort && o.short != nil:
		if err := o.short(); err != nil {
			return err
		}
		return syscall.ENOSPC
	case (how == Full || how == FullShort) && o.grows:
		return syscall.ENOSPC
	case how == Flipped && o.flipped != nil:
		return o.flipped()
	case how == Broken:
		return syscall.EIO
	case how == SyncLost && o.broken != nil:
		o.broken()
		return syscall.EIO
	}
	return o.happen()
}

func (f *FS) die(how Fault) {
	if how.cuts() {
		if err := f.disk.cut(how, f.opts.Volatile, f.rand); err != nil {
			fmt.Fprintln(os.Stderr, "power cut:", err)
			os.Exit(1) // the test is wrong, not what it tests
		}
	}
	if err := f.remember(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	f.opts.Die()
}

func (f *FS) short(name string) string {
	if rel, err := filepath.Rel(f.opts.Root, name); err == nil {
		return rel
	}
	return name
}

func pathError(what, name string, err error) error {
	if _, bare := err.(syscall.Errno); bare {
		return &fs.PathError{Op: what, Path: name, Err: err}
	}
	return err
}

// OpenFile opens a file. It is an operation when it makes or empties one.
func (f *FS) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	var opened *os.File
	open := func() (err error) {
		opened, err = os.OpenFile(name, flag, perm)
		return err
	}
	_, statErr := os.Lstat(name)
	making := flag&os.O_CREATE != 0 && statErr != nil
	emptying := flag&os.O_TRUNC != 0 && statErr == nil
	var err error
	switch {
	case making:
		err = f.do(op{what: "create " + f.short(name), effect: open, note: func() { f.disk.named(name) }, grows: true})
	case emptying:
		err = f.do(op{what: "empty " + f.short(name), effect: open, note: func() { f.disk.rewritten(name) }})
	default:
		err = open()
	}
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return &file{File: opened, on: f, node: f.opened(opened)}, nil
}

// Mkdir makes a folder.
func (f *FS) Mkdir(name string, perm fs.FileMode) error {
	return pathError("mkdir", name, f.do(op{
		what: "mkdir " + f.short(name), effect: func() error { return os.Mkdir(name, perm) },
		note: func() { f.disk.named(name) }, grows: true,
	}))
}

// Rename renames a file.
func (f *FS) Rename(from, to string) error {
	return pathError("rename", to, f.do(op{
		what: "rename " + f.short(from) + " to " + f.short(to), effect: func() error { return os.Rename(from, to) },
		note: func() { f.disk.renamed(from, to) }, grows: true,
	}))
}

// Exchange swaps two names, in one piece. Disks without a journal cannot.
func (f *FS) Exchange(one, other string) error {
	if f.opts.FAT {
		return pathError("exchange", one, syscall.EINVAL)
	}
	return pathError("exchange", one, f.do(op{
		what: "exchange " + f.short(one) + " with " + f.short(other), effect: func() error { return durable.OS{}.Exchange(one, other) },
		note: func() { f.disk.exchanged(one, other) }, grows: true,
	}))
}

// Link gives a file another name.
func (f *FS) Link(from, to string) error {
	return pathError("link", to, f.do(op{
		what: "link " + f.short(from) + " to " + f.short(to), effect: func() error { return os.Link(from, to) },
		note: func() { f.disk.named(to) }, grows: true,
	}))
}

// Remove removes a file or an empty folder. It is an operation when there is one.
func (f *FS) Remove(name string) error {
	if _, err := os.Lstat(name); err != nil {
		return os.Remove(name)
	}
	return pathError("remove", name, f.do(op{
		what: "remove " + f.short(name), effect: func() error { return os.Remove(name) }, note: func() { f.disk.removed(name) },
	}))
}

// SyncDir makes the names in a folder durable.
func (f *FS) SyncDir(name string) error {
	return pathError("fsync", name, f.do(op{
		what: "sync folder " + f.short(name), effect: func() error { return lookAt(name) }, note: func() { f.disk.syncNames(name) },
		broken: func() {}, // names that were not written stay dirty: the journal of the file system stops otherwise
	}))
}

// lookAt fails as opening a folder does. Nothing is synced really: the machine of the tests does not lose its power.
func lookAt(folder string) error {
	d, err := os.Open(folder)
	if err != nil {
		return err
	}
	return d.Close()
}

// SyncAll makes everything durable.
func (f *FS) SyncAll() error {
	return f.do(op{what: "sync all", effect: func() error { return nil }, note: f.disk.syncAll})
}
