package onboard

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// tree is what is on the device's disk, apart from what is the agent's own.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		switch name {
		case "state", "run":
			return filepath.SkipDir
		case "trace", "killed":
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		files[name] = info.Mode().String()
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			files[name] += " " + string(content)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// wantNothingStaged checks that no script, data or backup stayed behind.
func wantNothingStaged(t *testing.T, r *rig) {
	t.Helper()
	entries, err := os.ReadDir(r.opts.Dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if len(entries) > 0 {
		t.Errorf("left in the private folder: %v", entries)
	}
}

func TestRollback(t *testing.T) {
	tests := []struct {
		name   string
		change func(*rig, *plan)
		want   []string // what the scripts saw
	}{
		{"pre-script", func(r *rig, p *plan) { p.pre = r.tracer("pre", 1) }, []string{"pre", "pre undo"}},
		{"configuration", func(r *rig, p *plan) { p.config.Handling = artifacts.Merge; p.config.Data = []byte("no JSON") },
			[]string{"pre", "pre undo"}},
		{"post-script", func(r *rig, p *plan) { p.post = r.tracer("post", 1) },
			[]string{"pre", "post", "post undo", "pre undo"}},
		{"complete", func(r *rig, _ *plan) { r.server.refuse[progress.BootstrapComplete] = 500 },
			[]string{"pre", "post", "post undo", "pre undo"}},
	}
	for _, tt := range tests {
		for _, old := range []string{"", `{"old":1}`} {
			t.Run(tt.name+"/"+map[bool]string{true: "file-existed", false: "no-file"}[old != ""], func(t *testing.T) {
				r := newRig(t)
				if old != "" {
					put(t, r.opts.Configuration.Path, old, 0o644)
				}
				before := tree(t, r.dir)
				p := r.full()
				tt.change(r, &p)
				if _, err := r.run(progress.Minimal, p); err == nil {
					t.Fatal("no error")
				}
				if diff := cmp.Diff(tt.want, r.trace()); diff != "" {
					t.Error(diff)
				}
				if diff := cmp.Diff(before, tree(t, r.dir)); diff != "" {
					t.Errorf("the device was changed: %s", diff)
				}
				wantNothingStaged(t, r)
				// R5.6-07: what is left does not hinder the next try.
				r.server = &server{}
				if outcome, err := r.run(progress.Minimal, r.full()); outcome != Complete || err != nil {
					t.Errorf("the next try ended with %v, %v", outcome, err)
				}
				wantNothingStaged(t, r)
			})
		}
	}
}

func TestRollbackStatus(t *testing.T) {
	r := newRig(t)
	p := r.full()
	p.post = r.tracer("post", 3)
	r.run(progress.Minimal, p)
	got := map[string]string{}
	for _, step := range r.board.Snapshot().Steps {
		got[step.Name] = step.Result
		if step.Undo != "done" {
			t.Errorf("step %+v", step)
		}
	}
	want := map[string]string{"pre-script": "undone", "configuration": "undone", "post-script": string(ReasonScriptFailed)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestRollbackRestoresTheFlag(t *testing.T) {
	tests := []struct {
		name        string
		byScript    bool
		wantEnabled bool
	}{{"script", true, true}, {"person", false, false}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			disable := &disabler{Reporter: r.server, store: r.store, byScript: tt.byScript}
			r.server.refuse[progress.BootstrapComplete] = 500
			_, err := New(r.opts).execute(t.Context(), Request{Reporter: disable, Level: progress.Verbose}, r.full())
			wantCode(t, err, ReasonReport)
			if got := r.record(t).Enabled; got != tt.wantEnabled {
				t.Errorf("after the rollback the flag is %v", got)
			}
		})
	}
}

// disabler turns the flag off when it sees that the post-script is about to run, as `ztp disable` does.
type disabler struct {
	Reporter
	store    *state.Store
	byScript bool
}

func (d *disabler) ReportProgress(ctx context.Context, r progress.Report) error {
	if r.Type == progress.PostScriptInitiated {
		err := d.store.Update(func(rec *state.Record) error {
			if d.byScript {
				rec.SetEnabled(false, rec.Session.ID)
			} else {
				rec.SetEnabled(false, "")
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return d.Reporter.ReportProgress(ctx, r)
}

func TestUndoThatFails(t *testing.T) {
	t.Run("script", func(t *testing.T) {
		r := newRig(t)
		p := r.full()
		p.pre = []byte("#!/bin/sh\n[ \"$1\" != undo ]\n")
		p.post = r.tracer("post", 1)
		_, err := r.run(progress.Minimal, p)
		wantCode(t, err, ReasonScriptFailed)
		if len(r.record(t).Journal) > 0 || len(r.board.Snapshot().Warnings) == 0 {
			t.Error("a script that cannot undo must be passed over with a warning")
		}
	})
	t.Run("handler", func(t *testing.T) {
		r := newRig(t)
		handler := filepath.Join(r.dir, "handler")
		put(t, handler, "#!/bin/sh\n[ \"$1\" != undo ]\n", 0o755)
		r.opts.Configuration.Handler, r.opts.Configuration.Command = "exec", []string{handler}
		p := r.full()
		p.post = r.tracer("post", 1)
		r.run(progress.Minimal, p)
		if got := r.record(t).Journal; len(got) != 2 || got[1].Undos != 1 {
			t.Fatalf("journal %+v", got)
		}
		wantCode(t, New(r.opts).Recover(t.Context()), ReasonRollback)
		if err := New(r.opts).Recover(t.Context()); err != nil {
			t.Fatalf("the third attempt must be the last: %v", err)
		}
		if diff := cmp.Diff([]string{"pre", "post", "post undo", "pre undo"}, r.trace()); diff != "" {
			t.Error(diff)
		}
		if len(r.record(t).Journal) > 0 {
			t.Error("the journal is not empty")
		}
	})
	t.Run("execute-goes-on-when-repaired", func(t *testing.T) {
		r := newRig(t)
		handler := filepath.Join(r.dir, "handler")
		put(t, handler, "#!/bin/sh\n[ \"$1\" != undo ]\n", 0o755)
		r.opts.Configuration.Handler, r.opts.Configuration.Command = "exec", []string{handler}
		p := r.full()
		p.post = r.tracer("post", 1)
		r.run(progress.Minimal, p)
		put(t, handler, "#!/bin/sh\nexit 0\n", 0o755)
		r.server = &server{}
		if outcome, err := r.run(progress.Verbose, r.full()); outcome != Complete {
			t.Fatalf("%v, %v", outcome, err)
		}
		if got := r.server.message(progress.Informational); got != "undid 2 steps of an interrupted session" {
			t.Errorf("informational: %q", got)
		}
	})
}

func TestStateThatCannotBeWritten(t *testing.T) {
	r := newRig(t)
	full := errors.New("no space left")
	for writes := range 6 {
		before := tree(t, r.dir)
		r.opts.Store = &failingStore{Store: r.store, writes: writes, err: full}
		_, err := r.run(progress.Minimal, r.full())
		r.opts.Store = r.store
		if err == nil {
			continue
		}
		if !errors.Is(err, full) {
			t.Fatalf("after %d writes: %v", writes, err)
		}
		if err := New(r.opts).Recover(t.Context()); err != nil {
			t.Fatalf("after %d writes: recover: %v", writes, err)
		}
		if diff := cmp.Diff(before, tree(t, r.dir)); diff != "" {
			t.Errorf("after %d writes the device was changed: %s", writes, diff)
		}
	}
}

// failingStore takes a number of writes and then no more.
type failingStore struct {
	*state.Store
	writes int
	err    error
}

func (s *failingStore) Update(change func(*state.Record) error) error {
	if s.writes--; s.writes < 0 {
		return s.err
	}
	return s.Store.Update(change)
}

func put(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}
