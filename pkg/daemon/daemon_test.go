package daemon_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/daemon"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/tpm"
)

// device is a root folder whose configured TPM is a socket of the test.
type device struct {
	root     string
	paths    config.Paths
	store    *state.Store
	listener net.Listener
}

func newDevice(t *testing.T, change func(*state.Record)) *device {
	t.Helper()
	root, err := os.MkdirTemp("", "ztp") // a short path: it holds a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	d := &device{root: root}
	if d.paths, err = config.NewPaths(root); err != nil {
		t.Fatal(err)
	}
	if d.store, err = state.Open(d.paths.State); err != nil {
		t.Fatal(err)
	}
	if err := d.store.Update(func(r *state.Record) error { change(r); return nil }); err != nil {
		t.Fatal(err)
	}
	if d.listener, err = net.Listen("unix", filepath.Join(root, "tpm.sock")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.listener.Close() })
	d.configure(t, "[identity]\ntpm = \"unix:/tpm.sock\"\n")
	return d
}

func (d *device) configure(t *testing.T, content string) {
	t.Helper()
	file := d.paths.Below(config.AdminFile)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (d *device) options() daemon.Options {
	return daemon.Options{Root: d.root, Logger: slog.New(slog.DiscardHandler)}
}

func (d *device) record(t *testing.T) *state.Record {
	t.Helper()
	r, err := d.store.Load()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestAtRest: a device that is disabled or provisioned is left alone (R5.2-01). Identity comes before everything that
// touches a network, so that nobody asked the TPM proves that nobody asked the network.
func TestAtRest(t *testing.T) {
	tests := map[string]struct {
		change func(*state.Record)
		exit   int
	}{
		"disabled":                 {func(r *state.Record) { r.Enabled = false }, state.ExitDisabled},
		"provisioned":              {func(r *state.Record) { r.Outcome = state.OutcomeProvisioned }, state.ExitProvisioned},
		"provisioned and disabled": {func(r *state.Record) { r.Enabled, r.Outcome = false, state.OutcomeProvisioned }, state.ExitProvisioned},
		"disabled on the move": {func(r *state.Record) {
			r.Enabled, r.Outcome, r.Session = false, state.OutcomeProvisioned, &state.Session{ID: "moved", Moved: true}
		}, state.ExitProvisioned},
	}
	for name, tt := range tests {
		for _, content := range []string{"[identity]\ntpm = \"unix:/tpm.sock\"\n", "no = \"configuration\"\n", watching} {
			if content == watching && name == "provisioned" {
				continue // it looks for another network
			}
			t.Run(name, func(t *testing.T) {
				d := newDevice(t, tt.change)
				d.configure(t, content)
				before := d.record(t)
				s, err := daemon.Run(t.Context(), d.options())
				if err != nil || s.ExitCode() != tt.exit {
					t.Errorf("exit code %d, %v; want %d", s.ExitCode(), err, tt.exit)
				}
				if err := d.listener.(*net.UnixListener).SetDeadline(time.Now()); err != nil {
					t.Fatal(err)
				}
				if conn, err := d.listener.Accept(); !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("the TPM was asked: %v, %v", conn, err)
				}
				if _, err := os.Stat(d.paths.Status); err == nil {
					t.Error("there is a live status")
				}
				if after := d.record(t); after.Outcome != before.Outcome || after.Enabled != before.Enabled || after.Session != nil {
					t.Errorf("the record changed to %+v", after)
				}
			})
		}
	}
}

const watching = "[identity]\ntpm = \"unix:/tpm.sock\"\n[reprovision]\npolicy = \"on-network-change\"\nafter = \"1s\"\n"

// TestMoveIsAbandoned: a session that a crash interrupted does not go on where the policy has been changed meanwhile.
func TestMoveIsAbandoned(t *testing.T) {
	d := newDevice(t, func(r *state.Record) {
		r.Outcome, r.Session = state.OutcomeProvisioned, &state.Session{ID: "moved", Moved: true}
	})
	if s, err := daemon.Run(t.Context(), d.options()); err != nil || s.ExitCode() != state.ExitProvisioned {
		t.Errorf("status %+v, %v", s, err)
	}
	if r := d.record(t); r.Session != nil || r.Outcome != state.OutcomeProvisioned {
		t.Errorf("record %+v", r)
	}
}

// TestMoveGoesOn after a reboot, once more when it is stopped, and all the time the device stays provisioned.
func TestMoveGoesOn(t *testing.T) {
	d := newDevice(t, func(r *state.Record) {
		r.Outcome, r.Session = state.OutcomeProvisioned, &state.Session{ID: "moved", Moved: true}
	})
	d.configure(t, watching)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		if conn, err := d.listener.Accept(); err == nil {
			conn.Close()
		}
		cancel()
	}()
	s, err := daemon.Run(ctx, d.options())
	if err != nil || s.ExitCode() != state.ExitProvisioned || s.PID != 0 {
		t.Errorf("status %+v, %v", s, err)
	}
	if r := d.record(t); r.Session == nil || r.Session.ID != "moved" || r.Outcome != state.OutcomeProvisioned {
		t.Errorf("record %+v", r)
	}
}

// TestNothingIsForgottenInVain: asking for a new session that cannot begin leaves a provisioned device provisioned.
func TestNothingIsForgottenInVain(t *testing.T) {
	tests := map[string]struct {
		configuration string
		change        func(*daemon.Options)
		code          reason.Code
	}{
		"invalid configuration": {"no = 1\n", func(o *daemon.Options) { o.Fresh = true }, config.Invalid},
		"no trust anchor": {
			"", func(o *daemon.Options) { o.Once, o.Trusted, o.Servers = true, true, []string{"https://a"} }, daemon.CodeNoAnchor,
		},
		"bad URL": {"", func(o *daemon.Options) { o.Once, o.Servers = true, []string{"https://a/b?c"} }, config.BadURL},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d := newDevice(t, func(r *state.Record) { r.Outcome = state.OutcomeProvisioned })
			d.configure(t, tt.configuration)
			o := d.options()
			tt.change(&o)
			_, err := daemon.Run(t.Context(), o)
			if code, hint := reason.Of(err); code != tt.code || hint == "" {
				t.Errorf("got %v [%s] %q, want %s", err, code, hint, tt.code)
			}
			if r := d.record(t); r.Outcome != state.OutcomeProvisioned {
				t.Errorf("the device is %q", r.Outcome)
			}
		})
	}
}

// TestDisableInSession: a script of the session that runs can clear the flag without ending its own session (R5.2-03), and
// only such a script.
// TestWarnsOfMissingVoucherAnchors: a device without them asks the TPM and the network in vain, and should say so first.
func TestWarnsOfMissingVoucherAnchors(t *testing.T) {
	d := newDevice(t, func(*state.Record) {})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { // once the TPM is asked
		if conn, err := d.listener.Accept(); err == nil {
			conn.Close()
		}
		cancel()
	}()
	s, err := daemon.Run(ctx, d.options())
	if err != nil {
		t.Fatal(err)
	}
	folder := d.paths.Below("/etc/ztp/trust/vouchers")
	if len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0].Text, "voucher") || !strings.Contains(s.Warnings[0].Text, folder) {
		t.Errorf("warnings %+v", s.Warnings)
	}
}

func TestDisableInSession(t *testing.T) {
	d := newDevice(t, func(r *state.Record) { r.Session = &state.Session{ID: "this", Started: time.Now()} })
	lock, err := state.LockDaemon(d.paths.Runtime) // this process is the daemon, and a signal would end it
	if err != nil {
		t.Fatal(err)
	}
	control, err := daemon.NewControl(d.root)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(daemon.SessionVariable, "this")
	if err := control.Disable(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := d.record(t); r.Enabled || !r.Session.FlagCleared {
		t.Errorf("enabled %t, cleared by the session %t", r.Enabled, r.Session.FlagCleared)
	}
	if err := control.Enable(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	t.Setenv(daemon.SessionVariable, "another")
	if err := control.Disable(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := d.record(t); r.Enabled || r.Session.FlagCleared {
		t.Errorf("enabled %t, cleared by the session %t", r.Enabled, r.Session.FlagCleared)
	}
}

// TestInterruptedSessionIsUndoneFirst: the script of a session turned the flag off, then the power went. The session is
// undone, the flag with it, and the device tries again.
func TestInterruptedSessionIsUndoneFirst(t *testing.T) {
	d := newDevice(t, func(*state.Record) {})
	d.listener.Close() // nothing answers for the TPM
	committed := filepath.Join(d.root, "committed")
	if err := os.WriteFile(committed, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := d.store.Update(func(r *state.Record) error {
		r.Enabled = false
		r.Session = &state.Session{ID: "interrupted", Started: time.Now(), FlagCleared: true}
		r.Journal = []state.Entry{{Step: state.StepConfiguration, File: &state.FileBackup{Path: committed}}}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	o := d.options()
	o.Once = true
	o.Servers = []string{"https://192.0.2.1"}
	status, err := daemon.Run(t.Context(), o)
	if err != nil || status.Reason == nil || status.Reason.Code != string(tpm.CodeUnreachable) {
		t.Errorf("the session did not go on: %+v, %v", status, err)
	}
	if _, err := os.Stat(committed); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the configuration was not undone: %v", err)
	}
	if r := d.record(t); !r.Enabled || len(r.Journal) > 0 {
		t.Errorf("record %+v", r)
	}
}

// TestUnderSystemd: the unit is ready before the TPM answers, tells what it does, and says when it stops.
func TestUnderSystemd(t *testing.T) {
	d := newDevice(t, func(*state.Record) {})
	d.listener.Close() // nothing answers for the TPM
	path := filepath.Join(d.root, "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	t.Setenv("NOTIFY_SOCKET", path)

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() {
		s, err := daemon.Run(ctx, d.options())
		if err == nil && (s.Reason == nil || s.Reason.Code != string(reason.Cancelled)) {
			err = fmt.Errorf("reason %+v", s.Reason)
		}
		ended <- err
	}()
	if err := manager.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	missing := []string{"READY=1", "STATUS=in progress: starting", "STOPPING=1", "STATUS=not started"}
	for buf := make([]byte, 512); len(missing) > 0; {
		n, err := manager.Read(buf)
		if err != nil {
			t.Fatalf("never said %q: %v", missing, err)
		}
		missing = slices.DeleteFunc(missing, func(s string) bool { return s == string(buf[:n]) })
		if len(missing) == 2 {
			stop()
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
