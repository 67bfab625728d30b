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
	s, of, err := l.changing(ctx, target)
	if err != nil {
		return err
	}
	if target == s.Running || target == s.Good {
		return fail(slot.CodeInTrial, "slot "+target+" cannot be given up: it runs, or is the one to fall back to",
			"reboot the device into its good slot, and have the image installed from there", nil)
	}
	if err := l.settle(s); err != nil {
		return err
	}
	if err := l.forget(s, of); err != nil {
		return err
	}
	return l.rename(s, of, of.hidden())
}

// Arm gives a slot a name with one try left, and has systemd-boot start that once.
func (l *Loader) Arm(ctx context.Context, target string) error {
	s, of, err := l.changing(ctx, target)
	if err != nil {
		return err
	}
	if err := l.startable(s, of); err != nil {
		return err
	}
	switch target {
	case s.Good: // it is what will be started
		return l.forget(s, s.slots...)
	case s.Running:
		return fail(slot.CodeInTrial, "slot "+target+" runs, and is on trial already",
			"let the session end, which marks it good; or restart the device, which then returns to its good slot", nil)
	}
	once, err := s.trialOf(of)
	if err != nil {
		return err
	}
	if err := l.settle(s); err != nil {
		return err
	}
	if err := l.rename(s, of, once.file); err != nil {
		return err
	}
	return l.set(varOneShot, once.pattern)
}

// Bless gives the running slot a name without a counter, and has systemd-boot start that from now on.
func (l *Loader) Bless(ctx context.Context, target string) error {
	s, of, err := l.changing(ctx, target)
	if err != nil {
		return err
	}
	if target != s.Running {
		return fail(slot.CodeInTrial, "slot "+target+" cannot be called good, because slot "+s.Running+" runs",
			"reboot into it; `bootctl list` tells what the boot loader would start", nil)
	}
	if err := l.makeDefault(s, of); err != nil {
		return err
	}
	return l.forget(s, s.slots...)
}

// changing looks at everything before a slot is changed.
func (l *Loader) changing(ctx context.Context, target string) (*scene, *files, error) {
	s, err := l.look(ctx)
	if err != nil {
		return nil, nil, err
	}
	of := s.of(target)
	if of == nil {
		return nil, nil, unknown(target)
	}
	return s, of, nil
}

// settle has systemd-boot start the good slot whatever becomes of the other one, which until then may have followed from the
// order of the entries.
func (l *Loader) settle(s *scene) error {
	good := s.of(s.Good)
	if !good.good() && (s.Good != s.Running || good.suffix == suffixUKI) {
		// The only image is not renamed: FAT might lose it.
		return fail(slot.CodeInTrial, "the entry of slot "+s.Good+" has a boot counter and was not found good yet",
			"have systemd-bless-boot.service find it good, or ship it without a counter", nil)
	}
	return l.makeDefault(s, good)
}

// makeDefault makes a slot the good one. The name comes before the variable, so that the variable never names nothing.
func (l *Loader) makeDefault(s *scene, of *files) error {
	if err := l.rename(s, of, of.plain()); err != nil {
		return err
	}
	if err := l.set(varDefault, of.plain()); err != nil {
		return err
	}
	// It comes before the default, and before both of them comes what loader.conf prefers, unless it is set.
	if s.features&preference != 0 {
		return l.set(varPreferred, of.plain())
	}
	return l.unset(varPreferred)
}

// forget removes LoaderEntryOneShot if it asks for one of these slots.
func (l *Loader) forget(s *scene, slots ...*files) error {
	for _, of := range slots {
		if of.wanted(s.vars[varOneShot]) {
			return l.unset(varOneShot)
		}
	}
	return nil
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

// rename gives a slot one name, which may be the hidden one, and leaves it no other that systemd-boot finds.
func (l *Loader) rename(s *scene, of *files, want string) error {
	if of.suffix == suffixUKI {
		return l.moveImage(s, of, want)
	}
	return l.copyEntry(s, of, want)
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
