package onboard

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// maxUndos is how often undoing one step is tried. A step that cannot be undone must not keep the device from ever
// being provisioned: then it is given up with a warning, and the next session builds on what is there.
const maxUndos = 3

// order is that of RFC 8572 §5.6.
var order = []state.StepName{state.StepPreScript, state.StepConfiguration, state.StepPostScript}

// Files in Options.Dir.
const (
	stagedPre    = "pre-script"
	stagedPost   = "post-script"
	stagedConfig = "configuration"
	backupConfig = "backup"
	workFolder   = "work" // the working directory of a script, while it runs
)

// Recover undoes what an interrupted session left: processes of its scripts, then its steps in reverse order. It also
// makes up for a slot that was not marked good because the process died just then. It does nothing, quickly, when there
// is nothing to do, and it must be called before anything else looks at the device's configuration, also when the device
// is disabled or provisioned.
func (e *Executor) Recover(ctx context.Context) error {
	_, err := e.recover(ctx)
	return err
}

// recover returns how many steps it undid.
func (e *Executor) recover(ctx context.Context) (int, error) {
	r, err := e.Store.Load()
	if err != nil {
		return 0, err
	}
	if err := e.blessAgain(ctx, r); err != nil {
		e.warn("the running slot could not be marked good; the boot loader may return to the old one", err)
	}
	if len(r.Journal) == 0 {
		e.cleanUp()
		return 0, nil
	}
	e.Logger.Info("undoing an interrupted session", "steps", len(r.Journal))
	for _, entry := range r.Journal {
		killSession(entry.Session)
	}
	return len(r.Journal), e.rollback(ctx)
}

// blessAgain makes up for a power cut between the acknowledgement and the boot loader, and tells a boot loader that counts
// every boot that the provisioned system is still good.
func (e *Executor) blessAgain(ctx context.Context, r *state.Record) error {
	acknowledged := func(i state.ImageRecord) bool { return i.State == state.ImageGood && i.Slot != "" }
	onTrial := r.Session != nil && r.Session.Moved // what runs until that session has succeeded
	provisioned := r.Outcome == state.OutcomeProvisioned && !onTrial
	if e.Slots == nil || !provisioned && !slices.ContainsFunc(slices.Collect(maps.Values(r.Images)), acknowledged) {
		return nil
	}
	d, err := e.Slots.Describe(ctx)
	if err != nil || d.Trial() && !acknowledged(r.Images[imageIn(r, d.Running)]) || !d.Trial() && !provisioned {
		return err
	}
	return e.perform(ctx, bless)
}

// record makes an entry durable. The effect it names may happen only after it returned nil.
func (s *session) record(entry state.Entry) error {
	entry.Session, entry.At = s.id, s.Now().UTC()
	return s.Store.Update(func(r *state.Record) error {
		var there *state.Entry // that step, or one that comes after it
		for i := range r.Journal {
			if slices.Index(order, r.Journal[i].Step) >= slices.Index(order, entry.Step) {
				there = &r.Journal[i]
			}
		}
		if _, err := findStep(there, begin); err != nil {
			return fmt.Errorf("%s: %w", entry.Step, err)
		}
		r.Journal = append(r.Journal, entry)
		return nil
	})
}

// rollback undoes the steps in the journal, the last one first. Each leaves the journal when it has been undone; one
// whose undoing is interrupted, by a power cut or the end of ctx, is undone again.
func (e *Executor) rollback(ctx context.Context) error {
	for {
		r, err := e.Store.Load()
		if err != nil {
			return rollbackError(err)
		}
		if len(r.Journal) == 0 {
			e.cleanUp()
			return nil
		}
		entry := r.Journal[len(r.Journal)-1]
		if _, err := findStep(&entry, undo); err != nil {
			return rollbackError(err)
		}
		undoErr := e.undo(ctx, entry)
		if ctx.Err() != nil {
			return rollbackError(ctx.Err()) // the step was not given its chance
		}
		if undoErr != nil && entry.Undos+1 < maxUndos {
			return errors.Join(rollbackError(undoErr), e.note(undoFailed))
		}
		if entry.File == nil {
			e.settle()
		}
		came := undone
		if undoErr != nil {
			came = giveUp
			e.warn(fmt.Sprintf("gave up undoing %s after %d attempts", entry.Step, maxUndos), undoErr)
		}
		if err := e.note(came); err != nil {
			return rollbackError(err)
		}
	}
}

// note records what came of undoing the last step. With the last of all, the flag is what it was before the session: a script
// that turned it off was undone.
func (e *Executor) note(on event) error {
	return e.Store.Update(func(r *state.Record) error {
		n := len(r.Journal)
		if n == 0 {
			return nil
		}
		last := &r.Journal[n-1]
		step, err := findStep(last, on)
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", last.Step, err)
		case step.to != string(absent):
			last.Undos++
			return nil
		}
		r.Journal = r.Journal[:n-1]
		if n == 1 && r.Session != nil && r.Session.FlagCleared {
			r.Enabled, r.Session.FlagCleared = true, false
		}
		return nil
	})
}

func (e *Executor) undo(ctx context.Context, entry state.Entry) error {
	e.Logger.Info("undoing", "step", entry.Step)
	var err error
	switch {
	case entry.Step == state.StepConfiguration && entry.File != nil:
		err = e.restore(entry.File)
	case entry.Step == state.StepConfiguration && entry.Seed != nil:
		err = e.restoreSeed(ctx, entry)
	case entry.Step == state.StepConfiguration:
		err = e.undoCommand(ctx, entry)
	default:
		// The script had its chance; what it makes of it is the business of whoever wrote it.
		if scriptErr := e.undoScript(ctx, entry); scriptErr != nil && ctx.Err() == nil {
			e.warn(fmt.Sprintf("%s did not undo its work", entry.Step), scriptErr)
			e.stepUndone(entry, scriptErr)
			return nil
		}
	}
	if ctx.Err() == nil {
		e.stepUndone(entry, err)
	}
	return err
}

// stage keeps data in the private folder, durably.
func (e *Executor) stage(name string, data []byte, mode fs.FileMode) error {
	err := durable.MkdirAll(e.FS, e.Dir, 0o700)
	if err == nil {
		err = durable.WriteFile(e.FS, filepath.Join(e.Dir, name), data, mode, nil)
	}
	if err != nil {
		return &reason.Error{
			Code: ReasonStaging,
			Msg:  "cannot keep " + name,
			Fix:  "check that " + e.Dir + " has free space and is writable",
			Err:  err,
		}
	}
	return nil
}

// cleanUp removes what stage kept. Nothing in the journal may need it any more, not even in one that a power cut brings back
// because its end was not durable yet. A file that stays is overwritten by the next session.
func (e *Executor) cleanUp() {
	seed := e.oldSeed()
	left, err := os.ReadDir(e.Dir)
	if len(left) == 0 && (err == nil || gone(err)) && seed == "" {
		return
	}
	err = e.Store.Update(func(*state.Record) error { return nil })
	if err == nil {
		err = e.removeStaged()
	}
	if err == nil && seed != "" {
		err = removeTree(e.FS, seed)
	}
	if err != nil {
		e.Logger.Warn("what is left of the last onboarding is not removed yet", "error", err)
	}
}

func (e *Executor) removeStaged() error {
	err := os.RemoveAll(filepath.Join(e.Dir, workFolder))
	removed := false
	for _, name := range []string{stagedPre, stagedPost, stagedConfig, backupConfig} {
		for _, path := range []string{filepath.Join(e.Dir, name), durable.TempName(filepath.Join(e.Dir, name))} {
			removeErr := e.FS.Remove(path)
			removed = removed || removeErr == nil
			if removeErr != nil && !gone(removeErr) {
				err = errors.Join(err, removeErr)
			}
		}
	}
	if removed { // for good: they may hold secrets
		err = errors.Join(err, e.FS.SyncDir(e.Dir))
	}
	return err
}

func rollbackError(err error) error {
	return &reason.Error{
		Code: ReasonRollback,
		Msg:  "cannot undo what was done so far; the next session tries again",
		Fix:  fmt.Sprintf("see why; after %d attempts it is given up with a warning", maxUndos),
		Err:  err,
	}
}
