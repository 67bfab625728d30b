package privsep

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// TestVersions: after an upgrade one of the two processes may still be the old one. Nothing is done for a client of another version,
// whatever it says; it is told why, and the server ends, so that whoever comes next meets the one that is installed.
func TestVersions(t *testing.T) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	h := &hand{}
	server := func(version string) (ended chan error) {
		s := &Server{Handler: h, Logger: slog.New(slog.DiscardHandler), Client: uint32(os.Geteuid()), Version: version, Idle: time.Hour}
		ended = make(chan error, 1)
		l.SetDeadline(time.Time{})
		go func() { ended <- s.Serve(t.Context(), l) }()
		return ended
	}
	client := &Client{Socket: l.Addr().String(), Version: "2", Logger: slog.New(slog.DiscardHandler)}
	differs := func(what string, err error) {
		t.Helper()
		var e *reason.Error
		if !errors.As(err, &e) || e.Code != CodeVersion || e.Fix == "" {
			t.Errorf("%s: %v", what, err)
		}
	}
	over := func(ended chan error) {
		t.Helper()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}

	old := server("1")
	_, err = client.Change(t.Context(), state.Change{Kind: state.ChangeBegin})
	differs("change", err)
	over(old)

	old = server("1")
	_, _, err = client.ask(t.Context(), &message{Kind: "what only the new version knows"})
	differs("unknown", err)
	over(old)

	old = server("1")
	finished := make(chan error, 1)
	go func() {
		_, err := (&Onboarder{Client: client, Board: &display{}}).Execute(t.Context(), order(nil))
		finished <- err
	}()
	over(old)
	old = server("1")
	differs("execute", <-finished)
	over(old)
	if done := h.called(); len(done) > 0 {
		t.Errorf("the old one has done %q", done)
	}

	server("2")
	if _, err := client.Change(t.Context(), state.Change{}); err != nil {
		t.Error(err)
	}
}

// TestCodesAreDocumented: who sees one of these in the status finds it in the reference.
func TestCodesAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/status.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range []reason.Code{CodeUnreachable, CodeLost, CodeProtocol, CodeVersion, CodeRefused} {
		if !strings.Contains(string(text), "`"+string(code)+"`") {
			t.Errorf("the reference lacks %s", code)
		}
	}
}
