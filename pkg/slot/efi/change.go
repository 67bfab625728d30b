package efi

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/xpu-sztp/ztp/pkg/slot"
)

// Disarm leaves a slot without a name that systemd-boot finds, after the good one was made to be started whatever happens.
func (l *Loader) Disarm(ctx context.Context, target string) error {
	s, err := l.changing(ctx, target)
	if err != nil {
		return err
	}
	if target == s.Running || target == s.Good {
		return fail(slot.CodeInTrial, "slot "+target+" runs, or is the one to fall back to", "leave it as it is", nil)
	}
	if err := l.settle(s); err != nil {
		return err
	}
	if err := l.forget(s, target); err != nil {
		return err
	}
	return l.withdraw(s, target)
}

// Arm gives a slot a name with one try left, and has systemd-boot start that once.
func (l *Loader) Arm(ctx context.Context, target string) error {
	s, err := l.changing(ctx, target)
	if err != nil {
		return err
	}
	switch target {
	case s.Good: // it is what will be started
		return l.forget(s, s.Next)
	case s.Running:
		return fail(slot.CodeInTrial, "slot "+target+" runs, and is on trial already", "let it be marked good, or restart the device", nil)
	}
	if err := l.settle(s); err != nil {
		return err
	}
	trial := l.entries[target].trial()
	if err := l.present(s, target, trial); err != nil {
		return err
	}
	return l.set(varOneShot, trial)
}

// Bless gives the running slot a name without a counter, and has systemd-boot start that from now on.
func (l *Loader) Bless(ctx context.Context, target string) error {
	s, err := l.changing(ctx, target)
	if err != nil {
		return err
	}
	if target != s.Running {
		return fail(slot.CodeInTrial, "slot "+target+" does not run", "start it first", nil)
	}
	if err := l.makeDefault(s, target); err != nil {
		return err
	}
	if s.Next == "" {
		return nil
	}
	return l.forget(s, s.Next)
}

// changing looks at everything before a slot is changed.
func (l *Loader) changing(ctx context.Context, target string) (*scene, error) {
	s, err := l.look(ctx)
	if _, ok := l.entries[target]; !ok && err == nil {
		err = fail(slot.CodeUnavailable, "there is no slot "+target, "name its boot entry in the configuration: entry in [image.slot."+target+"]", nil)
	}
	return s, err
}

// settle has systemd-boot start the good slot whatever becomes of the other one, which until then may have followed from the
// order of the entries.
func (l *Loader) settle(s *scene) error {
	image := l.entries[s.Good].suffix == suffixUKI
	if !s.slots[s.Good].plain() && (s.Good != s.Running || image) {
		// The only image is not renamed: FAT might lose it.
		return fail(slot.CodeInTrial, "the entry of slot "+s.Good+" has a boot counter and was not found good yet",
			"have systemd-bless-boot.service find it good, or ship it without a counter", nil)
	}
	return l.makeDefault(s, s.Good)
}

// makeDefault makes a slot the good one. The name comes before the variable, so that the variable never names nothing.
func (l *Loader) makeDefault(s *scene, target string) error {
	plain := l.entries[target].plain()
	if err := l.present(s, target, plain); err != nil {
		return err
	}
	if err := l.set(varDefault, plain); err != nil {
		return err
	}
	// It comes before the default, and before both of them comes what loader.conf prefers, unless it is set.
	if s.features&preference != 0 {
		return l.set(varPreferred, plain)
	}
	return l.unset(varPreferred)
}

// forget removes LoaderEntryOneShot if it asks for a slot.
func (l *Loader) forget(s *scene, target string) error {
	if oneShot := s.vars[varOneShot]; oneShot == "" || (s.Next != target && l.slotOf(oneShot) != target) {
		return nil
	}
	return l.unset(varOneShot)
}

func (l *Loader) set(name, text string) error {
	if err := l.vars.SetText(name, text); err != nil {
		return unset(name, err)
	}
	return nil
}

func (l *Loader) unset(name string) error {
	if err := l.vars.Delete(name); err != nil {
		return unset(name, err)
	}
	return nil
}

// present gives a slot one name that systemd-boot finds, and no other.
func (l *Loader) present(s *scene, target, want string) error {
	if l.entries[target].suffix == suffixUKI {
		return l.moveImage(s, target, want)
	}
	return l.copyEntry(s, target, want)
}

// withdraw leaves a slot no name that systemd-boot finds. What it holds stays.
func (l *Loader) withdraw(s *scene, target string) error {
	if l.entries[target].suffix == suffixUKI {
		return l.moveImage(s, target, l.entries[target].hidden())
	}
	return l.copyEntry(s, target, "")
}

// remove removes files of a slot that must not stay beside the one that is kept. Removing one of two names that share their
// clusters would free what the other one needs, and removing both would have the kernel stop writing to the partition.
func (l *Loader) remove(s *scene, kept string, others []*file) error {
	names := []string{kept}
	for _, f := range others {
		for _, other := range names {
			shared, err := shareContent(filepath.Join(s.dir, other), filepath.Join(s.dir, f.file))
			if err != nil {
				return unreadable(err)
			}
			if shared {
				return fail(CodeDamaged, "a power cut has left "+other+" and "+f.file+" as two names of the same content",
					"unmount the EFI system partition and repair it with fsck.vfat -a; have it checked at each start (pass 2 in /etc/fstab)", nil)
			}
		}
		names = append(names, f.file)
	}
	for _, f := range others {
		if err := l.opts.FS.Remove(filepath.Join(s.dir, f.file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return unwritten(err)
		}
	}
	if len(others) == 0 {
		return nil
	}
	return l.syncDir(s)
}

func (l *Loader) syncDir(s *scene) error {
	if err := l.opts.FS.SyncDir(s.dir); err != nil {
		return unwritten(err)
	}
	return nil
}

// sync forces a file to the storage. On FAT it is the file itself that knows under which name it is stored.
func (l *Loader) sync(s *scene, file string) error {
	f, err := l.opts.FS.OpenFile(filepath.Join(s.dir, file), os.O_RDONLY, 0)
	if err != nil {
		return unwritten(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return unwritten(err)
	}
	return l.syncDir(s)
}
