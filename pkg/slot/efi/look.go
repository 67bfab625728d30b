package efi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/xpu-sztp/ztp/pkg/slot"
	"github.com/xpu-sztp/ztp/pkg/slot/efi/efivar"
)

// The variables of systemd's Boot Loader Interface that matter here.
const (
	varFeatures  = "LoaderFeatures"
	varSelected  = "LoaderEntrySelected"
	varCountPath = "LoaderBootCountPath"
	varOneShot   = "LoaderEntryOneShot"
	varPreferred = "LoaderEntryPreferred"
	varDefault   = "LoaderEntryDefault"
)

// needed are the bits of LoaderFeatures for what is relied on: LoaderEntryDefault, LoaderEntryOneShot and boot counting.
const needed = 1<<2 | 1<<3 | 1<<4

// preference is the bit for LoaderEntryPreferred.
const preference = 1 << 19

// scene is everything that systemd-boot's choice and ours depend on.
type scene struct {
	slot.State
	found
	features uint64 // of systemd-boot
	vars     map[string]string
}

// look reads the variables and the partition.
func (l *Loader) look(ctx context.Context) (*scene, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	features, err := l.features()
	if err != nil {
		return nil, err
	}
	s := &scene{features: features, vars: map[string]string{}}
	read := []string{varSelected, varCountPath, varOneShot, varDefault}
	if features&preference != 0 {
		read = append(read, varPreferred)
	}
	for _, name := range read {
		text, err := l.vars.Text(name)
		// What makes no sense counts as absent to systemd-boot too.
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, efivar.ErrMalformed) {
			return nil, unset(name, err)
		}
		s.vars[name] = text
	}
	if s.found, err = l.find(); err != nil {
		return nil, err
	}
	return s, l.judge(s)
}

// features tells what the boot loader that started the device can do, which must be all that is relied on.
func (l *Loader) features() (uint64, error) {
	features, err := l.vars.Uint64(varFeatures)
	if _, statErr := os.Stat(l.opts.Vars); errors.Is(statErr, fs.ErrNotExist) {
		return 0, fail(CodeVariables, "the device has no EFI variables at "+l.opts.Vars,
			"start it by UEFI firmware, or set image.installer to what its boot loader is", statErr)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, fail(CodeLoader, "no boot loader has reported its features",
			"start the device by systemd-boot, and see that efivarfs is mounted at "+l.opts.Vars, err)
	case err != nil:
		return 0, unset(varFeatures, err)
	case features&needed != needed:
		return 0, fail(CodeLoader, fmt.Sprintf("the boot loader lacks a default entry, entries for one start, or boot counting (features %#x)", features),
			"update systemd-boot on the EFI system partition: bootctl update", nil)
	}
	return features, nil
}

// judge tells what runs, what is good, and what comes next.
func (l *Loader) judge(s *scene) error {
	// The name of what was started, or the path of what was renamed when it was.
	started := s.vars[varSelected]
	if started == "" {
		started = s.vars[varCountPath][strings.LastIndexByte(s.vars[varCountPath], '\\')+1:]
	}
	if s.Running = l.slotOf(started); s.Running == "" {
		return fail(slot.CodeUnavailable, fmt.Sprintf("the boot loader has reported %.128q as the entry that it started, which is none of %s", started, l.ids()),
			"start the device by one of them, or correct entry in [image.slot.NAME]", nil)
	}
	s.Good = s.good()
	if s.Next = s.only(varOneShot, true); s.Next != "" {
		s.Tries = 1
	}
	return nil
}

// good is the slot that systemd-boot starts from now on. Where no variable says so, nothing was ever armed or the firmware has
// lost its variables: then the running slot is as good as any, unless it is on trial and the other one is not.
func (s *scene) good() string {
	for _, variable := range []string{varPreferred, varDefault} {
		if slot := s.only(variable, false); slot != "" {
			return slot
		}
	}
	good := s.Running
	for _, of := range s.slots {
		if of.good() && !s.of(s.Running).good() {
			good = of.slot
		}
	}
	return good
}

// only returns the slot that has a name that a variable asks for: one with a counter if that is allowed. When it asks for
// several slots, systemd-boot chooses by an order that the vendor's entries have: settle ends that before it matters.
func (s *scene) only(variable string, counted bool) (found string) {
	for _, of := range s.slots {
		for _, f := range of.visible {
			if !f.fits(s.vars[variable]) || f.counted && !counted || of.slot == found {
				continue
			}
			if found != "" {
				return ""
			}
			found = of.slot
		}
	}
	return found
}

// slotOf returns the slot that an id of an entry belongs to, or "".
func (l *Loader) slotOf(id string) string {
	if n, ok := entryOf(id); ok {
		for _, e := range l.entries {
			if e.has(n) {
				return e.slot
			}
		}
	}
	return ""
}

// of returns what there is of a slot, or nil.
func (s *found) of(slot string) *files {
	for _, of := range s.slots {
		if of.slot == slot {
			return of
		}
	}
	return nil
}

// unknown is the error about a slot that is none.
func unknown(name string) error {
	return fail(slot.CodeUnavailable, "there is no slot "+name, "name its boot entry in the configuration: entry in [image.slot."+name+"]", nil)
}
