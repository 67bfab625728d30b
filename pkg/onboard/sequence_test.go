package onboard

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// types turns "a, b" into progress types.
func types(list string) []progress.Type {
	var all []progress.Type
	for one := range strings.SplitSeq(list, ",") {
		all = append(all, progress.Type(strings.TrimSpace(one)))
	}
	return all
}

func TestReports(t *testing.T) {
	const opening = "bootstrap-initiated, parsing-initiated, parsing-complete, "
	imageIsRight := func(r *rig, p *plan) { p.boot = &artifacts.BootImage{OSName: "AcmeOS", OSVersion: "1"} }
	flagOff := func(r *rig, _ *plan) {
		r.store.Update(func(rec *state.Record) error { rec.Enabled = false; return nil })
	}
	refuse := func(t progress.Type) func(*rig, *plan) { return func(r *rig, _ *plan) { r.server.refuse[t] = 500 } }
	both := func(first, second func(*rig, *plan)) func(*rig, *plan) {
		return func(r *rig, p *plan) { first(r, p); second(r, p) }
	}
	tests := []struct {
		name   string
		level  progress.Level
		change func(*rig, *plan)
		want   string
	}{
		{"minimal/no-reboot", progress.Minimal, flagOff, "bootstrap-initiated, bootstrap-complete"},
		{"minimal/flag-still-on", progress.Minimal, func(*rig, *plan) {},
			"bootstrap-initiated, bootstrap-warning, bootstrap-complete"},
		{"minimal/pre-script-fails", progress.Minimal, func(r *rig, p *plan) { p.pre = r.tracer("pre", 1) },
			"bootstrap-initiated, pre-script-error"},
		{"minimal/config-fails", progress.Minimal, func(r *rig, p *plan) { p.config.Handling = "upsert" },
			"bootstrap-initiated, config-error"},
		{"minimal/post-script-fails", progress.Minimal, func(r *rig, p *plan) { p.post = r.tracer("post", 1) },
			"bootstrap-initiated, post-script-error"},
		{"minimal/complete-refused", progress.Minimal, both(flagOff, refuse(progress.BootstrapComplete)),
			"bootstrap-initiated, bootstrap-complete, bootstrap-error"},
		{"minimal/initiated-refused", progress.Minimal, refuse(progress.BootstrapInitiated),
			"bootstrap-initiated, bootstrap-error"},
		{"verbose/all-parts", progress.Verbose, both(flagOff, imageIsRight),
			opening + "boot-image-initiated, boot-image-complete, pre-script-initiated, pre-script-complete, " +
				"config-initiated, config-complete, post-script-initiated, post-script-complete, bootstrap-complete"},
		{"verbose/nothing-to-do", progress.Verbose, both(flagOff, func(_ *rig, p *plan) { *p = plan{} }),
			opening + "bootstrap-complete"},
		{"verbose/flag-still-on", progress.Verbose, func(_ *rig, p *plan) { *p = plan{} },
			opening + "bootstrap-warning, bootstrap-complete"},
		{"verbose/warnings", progress.Verbose, both(flagOff, func(r *rig, p *plan) {
			*p = plan{pre: r.tracer("pre", 10), post: r.tracer("post", 10)}
		}), opening + "pre-script-initiated, pre-script-warning, pre-script-complete, " +
			"post-script-initiated, post-script-warning, post-script-complete, bootstrap-complete"},
		{"verbose/passing-reports-refused", progress.Verbose, both(flagOff, func(r *rig, p *plan) {
			*p = plan{pre: p.pre}
			for _, one := range progress.All {
				if one != progress.BootstrapInitiated && one != progress.BootstrapComplete {
					r.server.refuse[one] = 500
				}
			}
		}), opening + "pre-script-initiated, pre-script-complete, bootstrap-complete"},
		{"verbose/initiated-refused", progress.Verbose, refuse(progress.BootstrapInitiated),
			"bootstrap-initiated, bootstrap-error"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			p := r.full()
			tt.change(r, &p)
			outcome, err := r.run(tt.level, p)
			if diff := cmp.Diff(types(tt.want), r.server.types()); diff != "" {
				t.Error(diff)
			}
			failed := strings.HasSuffix(tt.want, "-error")
			if failed != (err != nil) || failed != (outcome == 0) {
				t.Errorf("outcome %v, error %v", outcome, err)
			}
			rec := r.record(t)
			if len(rec.Journal) != 0 || failed != (rec.Outcome == "") {
				t.Errorf("journal %v, outcome %q", rec.Journal, rec.Outcome)
			}
			var shown []progress.Type
			for _, one := range r.board.Snapshot().Reports {
				shown = append(shown, progress.Type(one.Type))
			}
			if diff := cmp.Diff(r.server.types(), shown); diff != "" {
				t.Errorf("the status shows other reports: %s", diff)
			}
		})
	}
}

func TestInitiatedRefusedExecutesNothing(t *testing.T) {
	r := newRig(t)
	r.server.refuse[progress.BootstrapInitiated] = 404
	_, err := r.run(progress.Minimal, r.full())
	wantCode(t, err, ReasonReport)
	if got := r.trace(); got != nil {
		t.Errorf("executed %v", got)
	}
}

func TestInitiatedHangsIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.server.hang = progress.BootstrapInitiated
		start := time.Now()
		_, err := r.run(progress.Minimal, r.full())
		wantCode(t, err, ReasonReport)
		if waited := time.Since(start); waited != reportTimeout {
			t.Errorf("waited %v", waited)
		}
	})
}

func TestErrorReportIsBestEffort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.server.hang = progress.ConfigError
		p := plan{config: &artifacts.Configuration{Handling: "upsert"}}
		start := time.Now()
		_, err := r.run(progress.Minimal, p)
		wantCode(t, err, ReasonConfigMerge)
		if waited := time.Since(start); waited != errorTimeout {
			t.Errorf("waited %v for a server that hangs, want %v", waited, errorTimeout)
		}
	})
}

func TestErrorReportAfterCancel(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	fifo := filepath.Join(r.dir, "started")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	p := plan{pre: []byte("#!/bin/sh\n[ \"$1\" = undo ] && exit\necho >" + fifo + "\nsleep 1000\n")}
	go func() {
		os.ReadFile(fifo) // until the script has started
		cancel()
	}()
	_, err := New(r.opts).execute(ctx, Request{Reporter: r.server}, p)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff(types("bootstrap-initiated, pre-script-error"), r.server.types()); diff != "" {
		t.Error(diff)
	}
	if accepted := r.board.Snapshot().Reports[1].Accepted; !accepted {
		t.Error("the error report was cut short by what stopped the session")
	}
}

func TestUntrustedServerIsNeverTold(t *testing.T) {
	for name, exit := range map[string]int{"success": 0, "warning": 10, "failure": 1} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			p := r.full()
			p.post = r.tracer("post", exit)
			outcome, err := New(r.opts).execute(t.Context(), Request{Level: progress.Verbose, Warnings: []string{"w"}}, p)
			if (err == nil) != (exit != 1) || (outcome == Complete) != (exit != 1) {
				t.Errorf("got %v, %v", outcome, err)
			}
			if got := r.board.Snapshot().Reports; got != nil {
				t.Errorf("reports %v", got)
			}
			if provisioned := r.record(t).Outcome == state.OutcomeProvisioned; provisioned != (exit != 1) {
				t.Errorf("provisioned %v", provisioned)
			}
		})
	}
}

func TestParsingReports(t *testing.T) {
	cause := errors.New("voucher serial-number differs")
	tests := []struct {
		name   string
		level  progress.Level
		refuse progress.Type
		want   string
	}{
		{"minimal", progress.Minimal, "", "bootstrap-initiated, parsing-error"},
		{"verbose", progress.Verbose, "", "bootstrap-initiated, parsing-initiated, parsing-error"},
		{"initiated-refused", progress.Verbose, progress.BootstrapInitiated, "bootstrap-initiated, bootstrap-error"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			r.server.refuse[tt.refuse] = 500
			New(r.opts).ReportParsingError(t.Context(), r.server, tt.level, cause)
			if diff := cmp.Diff(types(tt.want), r.server.types()); diff != "" {
				t.Error(diff)
			}
			if tt.refuse == "" && r.server.message(progress.ParsingError) != cause.Error() {
				t.Errorf("message %q", r.server.message(progress.ParsingError))
			}
		})
	}
	t.Run("untrusted", func(t *testing.T) {
		r := newRig(t)
		New(r.opts).ReportParsingError(t.Context(), nil, progress.Verbose, cause)
		if got := r.board.Snapshot().Reports; got != nil {
			t.Errorf("reports %v", got)
		}
	})
	t.Run("warnings", func(t *testing.T) {
		r := newRig(t)
		req := Request{Reporter: r.server, Level: progress.Verbose, Warnings: []string{"one", "two"}}
		if _, err := New(r.opts).execute(t.Context(), req, plan{}); err != nil {
			t.Fatal(err)
		}
		if got := r.server.message(progress.ParsingWarning); got != "one\ntwo" {
			t.Errorf("message %q", got)
		}
	})
}

func TestUnvalidatedOnboardingIsRefused(t *testing.T) {
	for name, info := range map[string]*artifacts.Onboarding{"nil": nil, "zero": {}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			_, err := New(r.opts).Execute(t.Context(), Request{Info: info, Reporter: r.server})
			wantCode(t, err, ReasonUntrusted)
			if len(r.server.reports) > 0 {
				t.Errorf("reports %v", r.server.types())
			}
		})
	}
}

func TestMessages(t *testing.T) {
	r := newRig(t)
	p := r.full()
	p.pre, p.post = r.tracer("pre", 10), r.tracer("post", 7)
	_, err := r.run(progress.Verbose, p)
	wantCode(t, err, ReasonScriptFailed)
	for _, one := range []progress.Type{progress.PreScriptWarning, progress.PostScriptError} {
		if got := r.server.message(one); !strings.Contains(got, "output of") {
			t.Errorf("%s has no output: %q", one, got)
		}
	}
	status, err := os.ReadFile(filepath.Join(r.dir, "run", "status.json"))
	if err != nil || strings.Contains(string(status), "output of") {
		t.Errorf("the output of a script is in the status: %v", err)
	}
	if got := r.server.message(progress.PostScriptError); !strings.Contains(got, "exit code 7") {
		t.Errorf("got %q", got)
	}
}
