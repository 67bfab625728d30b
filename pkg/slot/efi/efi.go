// Package efi is the boot loader systemd-boot as a slot.Loader: for devices whose firmware is UEFI and whose two systems are
// two entries of the Boot Loader Specification (UAPI.1) on the EFI system partition. An entry is a file that the vendor made
// (type 1, loader/entries/ID.conf), which says what to start of a slot that lies elsewhere; or a unified kernel image (type 2,
// EFI/Linux/ID.efi), which is the image itself.
package efi

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"syscall"

	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/slot"
	"github.com/xpu-sztp/ztp/pkg/slot/efi/efivar"
)

// Reasons why systemd-boot could not be used, besides those of package slot.
const (
	CodeESP       reason.Code = "slot-esp-unavailable"     // the EFI system partition is not mounted, or cannot be written to
	CodeDamaged   reason.Code = "slot-esp-damaged"         // two files share their content: a power cut, and no fsck since
	CodeEntry     reason.Code = "slot-entry-missing"       // a slot has no entry that could be started
	CodeVariables reason.Code = "slot-efivars-unavailable" // EFI variables cannot be read or written
	CodeLoader    reason.Code = "slot-loader-unsupported"  // not started by systemd-boot, or by one that lacks something
)

// Options say where everything is. The zero values of all but Entries are those of a usual device.
type Options struct {
	FS      durable.FS        // every change goes through it; nil is durable.OS
	ESP     []string          // where the partition with the entries may be mounted, looked at in this order; nil is StandardPlaces
	Vars    string            // the folder where efivarfs is mounted; empty is /sys/firmware/efi/efivars
	Entries map[string]string // id of the entry of each slot, by slot: "ztp-a" and "ztp-a.conf" are of type 1, "ztp-a.efi" is a unified kernel image
	// Filesystem returns the type of the file system that holds a folder, as statfs(2) does, which nil is.
	Filesystem func(dir string) (int64, error)
}

// Loader is systemd-boot. Its errors are *reason.Error.
//
// What systemd-boot starts is decided as follows, in all versions from 246 on: LoaderEntryOneShot, which it removes before it
// looks for the entry; from 260 on LoaderEntryPreferred, or else "preferred" in loader.conf, unless that entry is bad;
// LoaderEntryDefault; "default" in loader.conf; the first entry in its order, in which bad entries come last. All of these are
// patterns, in lower case, for the name of a file: for all of it, or, in newer versions, for what it is without its boot counter.
// What was chosen is renamed from ID+1-1.conf to ID+0-2.conf before it is started, but LoaderEntrySelected is what it was chosen
// by. From that follows what is done here:
//
//	LoaderEntryDefault   names the good slot, at every instant, by a name without a counter. Bless alone changes which.
//	                     LoaderEntryPreferred is the same where it is known, and absent elsewhere.
//	LoaderEntryOneShot   asks for the slot on trial in a way that all versions understand. After one start, whatever becomes
//	                     of it, the variable is gone, and to older versions the name too, should a firmware fail to remove
//	                     the variable.
//	the counter +1       has the entry be a bad one from its only start until it is blessed, so that it comes last on a
//	                     device whose firmware has lost its variables, and newer versions restart the device when they
//	                     fail to load it (reboot-on-error). More tries than one would leave an entry that has failed
//	                     not bad; a try that was cut short is begun again by whoever armed it.
//	a name with a dot    is what nothing starts: the slot that is written to has no other.
//
// Whoever else blesses does no harm: systemd-bless-boot removes the counter when boot-complete.target is reached, but not
// LoaderEntryDefault, which decides; only a device that has lost its variables might then start a slot that nobody vouched for.
// ztp-boot-good.service, which comes before boot-complete.target and waits for the agent, closes that gap too.
//
// FAT has no journal: a power cut amid a rename leaves the old name, both, or a name without content. The vendor's entries
// are therefore never renamed: a copy of each lies beside it under a name with a dot, and the others are made of that copy
// and removed. A unified kernel image is too large for that; what a cut leaves of one is found, and can be installed again.
type Loader struct {
	opts    Options
	vars    efivar.Store
	entries []*entry // one of each slot
	folder  string   // of the entries, on the partition
}

// Images is systemd-boot with unified kernel images: it knows where they are to be written.
type Images struct{ *Loader }

var (
	_ slot.Loader = (*Loader)(nil)
	_ slot.Placer = Images{}
)

// New returns the boot loader; an Images when the entries are unified kernel images. Nothing is read yet. An error is about
// Options.Entries, of which there must be two of one kind.
func New(o Options) (slot.Loader, error) {
	if o.FS == nil {
		o.FS = durable.OS{}
	}
	if o.Filesystem == nil {
		o.Filesystem = statfs
	}
	if o.ESP == nil {
		o.ESP = StandardPlaces()
	}
	if o.Vars == "" {
		o.Vars = "/sys/firmware/efi/efivars"
	}
	l := &Loader{opts: o, vars: efivar.Store{FS: o.FS, Dir: o.Vars}}
	for slot, id := range o.Entries {
		e, err := parseEntry(slot, id)
		if err != nil {
			return nil, err
		}
		l.entries = append(l.entries, e)
	}
	if len(l.entries) != 2 || l.entries[0].suffix != l.entries[1].suffix || strings.EqualFold(l.entries[0].stem, l.entries[1].stem) {
		return nil, errors.New("two slots must have two different boot entries of one kind, both .conf or both .efi")
	}
	sort.Slice(l.entries, func(i, j int) bool { return l.entries[i].slot < l.entries[j].slot })
	if l.entries[0].suffix == suffixUKI {
		l.folder = "EFI/Linux"
		return Images{l}, nil
	}
	l.folder = "loader/entries"
	return l, nil
}

// State tells which slot runs, as systemd-boot has reported it, and what it will start next.
func (l *Loader) State(ctx context.Context) (slot.State, error) {
	s, err := l.look(ctx)
	if err != nil {
		return slot.State{}, err
	}
	return s.State, nil
}

// ids names the entries for people.
func (l *Loader) ids() string { return l.entries[0].plain() + " and " + l.entries[1].plain() }

func fail(code reason.Code, msg, fix string, err error) error {
	return &reason.Error{Code: code, Msg: msg, Fix: fix, Err: err}
}

// unreadable explains why the partition could not be read.
func unreadable(err error) error {
	return fail(CodeESP, "the boot entries cannot be read",
		"see that the EFI system partition is mounted and that root may read it; where its storage or FAT is damaged, unmount and repair it with fsck.vfat -a", err)
}

// unwritten explains why the partition could not be changed.
func unwritten(err error) error {
	if errors.Is(err, syscall.EROFS) {
		return fail(CodeESP, "the boot entries cannot be changed",
			"mount the EFI system partition for writing; a kernel that finds it damaged keeps it read-only until fsck.vfat has repaired it", err)
	}
	return fail(slot.CodeWriteFailed, "the boot entries cannot be changed",
		"make room on the EFI system partition (`df`), or repair it with fsck.vfat -a; the kernel log tells of failing storage", err)
}

// unset explains why a variable could not be read or changed.
func unset(name string, err error) error {
	fix := "see whether the firmware lets the running system change its variables"
	switch {
	case errors.Is(err, syscall.EROFS):
		fix = "mount efivarfs for writing, and let the unit of the agent write to it"
	case errors.Is(err, syscall.ENOSPC):
		fix = "the firmware has no room for variables: remove old ones, such as those that begin with dump-, or update the firmware"
	}
	return fail(CodeVariables, fmt.Sprintf("the EFI variable %s cannot be used", name), fix, err)
}
