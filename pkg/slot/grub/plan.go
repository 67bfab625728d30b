package grub

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"

	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/slot"
)

// plan is what GRUB is going to do, by names of slots.
type plan struct {
	good, next string
	tries      int // of next
}

// decide is what the fragment decides. main and second are nil when they are no blocks. base is the one that the plan
// comes from, or else any.
func (o *Options) decide(main, second *block) (p plan, base *block) {
	if main != nil {
		if p.good = o.slotOf(main.get(o.Names.Good)); p.good != "" {
			p.next, p.tries = o.trial(main)
			return p, main
		}
	}
	if second != nil {
		if p.good = o.slotOf(second.get(o.Names.Good)); p.good != "" {
			return p, second
		}
	}
	p.good = o.Slots[0].Name
	if main != nil {
		return p, main
	}
	return p, second
}

// trial is the slot that GRUB would try, and how often.
func (o *Options) trial(b *block) (next string, tries int) {
	next, tries = o.slotOf(b.get(o.Names.Next)), 1
	if o.Names.Tries != "" {
		digit := b.get(o.Names.Tries)
		if len(digit) != 1 || digit < "1" || digit > "9" {
			return "", 0
		}
		tries = int(digit[0] - '0')
	}
	if next == "" {
		return "", 0
	}
	return next, tries
}

// write puts p into b.
func (o *Options) write(p plan, b *block) {
	b.set(o.Names.Good, o.entryOf(p.good))
	b.set(o.Names.Next, o.entryOf(p.next))
	if o.Names.Tries != "" {
		b.set(o.Names.Tries, strconv.Itoa(p.tries))
	}
}

func (o *Options) slotOf(entry string) string {
	for i := range o.Slots {
		if entry == o.Slots[i].Entry {
			return o.Slots[i].Name
		}
	}
	return ""
}

func (o *Options) entryOf(name string) string {
	for i := range o.Slots {
		if name == o.Slots[i].Name {
			return o.Slots[i].Entry
		}
	}
	return ""
}

func (o *Options) known(name string) bool { return o.entryOf(name) != "" }

// found is what was read.
type found struct {
	plan plan
	base *block
	// counts is the path of the block that GRUB goes by: the one to be overwritten last.
	counts string
}

// read reads the blocks. It is an error when neither is one.
func (l *Loader) read() (*found, error) {
	main, err := readBlock(l.o.Main)
	var second *block
	if l.o.Copy != "" {
		var more error
		second, more = readBlock(l.o.Copy)
		if err != nil && more != nil {
			err = fmt.Errorf("%w; %w", err, more)
		}
	}
	if main == nil && second == nil {
		return nil, noEnvironment(l.o.Main, err)
	}
	p, base := l.o.decide(main, second)
	f := &found{plan: p, base: base, counts: l.o.Main}
	if base != main {
		f.counts = l.o.Copy
	}
	return f, nil
}

func readBlock(path string) (*block, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, blockSize+1))
	if err != nil {
		return nil, err
	}
	b, err := parseBlock(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

// change writes a changed plan into both blocks, also when nothing changes: an earlier call may have been interrupted before
// it had made both durable. The block that counts is written last, so that one of them is whole at any instant.
func (l *Loader) change(edit func(*plan) error) error {
	f, err := l.read()
	if err != nil {
		return err
	}
	if err := edit(&f.plan); err != nil {
		return err
	}
	if !l.o.known(f.plan.good) || f.plan.next != "" && !l.o.known(f.plan.next) {
		return fail(slot.CodeUnavailable, "GRUB's environment block "+f.counts+" has it start "+strconv.Quote(f.plan.good)+" or "+strconv.Quote(f.plan.next)+
			", of which one is no slot of the configuration", "compare [image.slot] with `grub-editenv "+f.counts+" list`, and correct what is wrong", nil)
	}
	l.o.write(f.plan, f.base)
	if f.base.used() > sector {
		return fail(CodeEnvironmentFull, "the variables in "+f.counts+" would take more than 512 bytes, and a power cut could tear what exceeds them",
			"remove variables with grub-editenv, or give the slots an environment block of their own", nil)
	}
	data, err := f.base.encode()
	if err != nil {
		return err
	}
	paths := []string{l.o.Main}
	if l.o.Copy != "" {
		paths = []string{l.o.Copy, l.o.Main}
		if f.counts == l.o.Copy {
			paths = []string{l.o.Main, l.o.Copy}
		}
	}
	for _, path := range paths { // before the first is changed
		if err := checkFile(path); err != nil {
			return err
		}
	}
	for _, path := range paths {
		if err := overwrite(l.o.FS, path, data); err != nil {
			return fail(slot.CodeWriteFailed, "the boot loader cannot be told, since "+path+" cannot be written",
				"see that its file system is mounted for writing (`findmnt -T "+path+"`), also for the unit; the kernel log tells of failing storage", err)
		}
	}
	return nil
}

// checkFile refuses what cannot be overwritten in place. A file that has to be made or to grow is not the device's business:
// GRUB might not see it after a power cut.
func checkFile(path string) error {
	info, err := os.Stat(path)
	if err == nil && (!info.Mode().IsRegular() || info.Size() != blockSize) {
		err = errNoBlock
	}
	if err != nil {
		return noEnvironment(path, err)
	}
	return nil
}

// overwrite makes data the durable content of a file that has that length.
func overwrite(on durable.FS, path string, data []byte) (err error) {
	file, err := on.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := file.Close(); err == nil {
			err = closeErr
		}
	}()
	present := make([]byte, len(data))
	if _, err := file.ReadAt(present, 0); err != nil {
		return err
	}
	if !bytes.Equal(present, data) {
		if _, err := file.WriteAt(data, 0); err != nil {
			return err
		}
	}
	return file.Sync() // even so: whoever wrote it may have been killed before this
}

func noEnvironment(path string, err error) error {
	fix := "make it with: grub-editenv " + path + " create"
	if errors.Is(err, fs.ErrPermission) {
		fix = "let root read and write it"
	}
	return fail(CodeNoEnvironment, "there is no usable GRUB environment block at "+path, fix, err)
}
