package systemd_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/slogtest"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/systemd"
)

type sent struct {
	Message  string
	Priority journal.Priority
	Fields   map[string]string
}

func journalTo(records *[]sent, level slog.Level) *slog.Logger {
	return slog.New(&systemd.JournalHandler{Level: level, Send: func(m string, p journal.Priority, f map[string]string) error {
		*records = append(*records, sent{m, p, f})
		return nil
	}})
}

// TestWhoReads chooses the form of a log by who reads it.
func TestWhoReads(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var stat unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &stat); err != nil {
		t.Fatal(err)
	}
	for stream, want := range map[string]bool{
		"":                                       false,
		"none":                                   false,
		fmt.Sprintf("%d:%d", stat.Dev, stat.Ino): true,
		fmt.Sprintf("%d:%d", stat.Dev, stat.Ino+1): false,
		fmt.Sprintf("%d:%d", stat.Dev+1, stat.Ino): false,
	} {
		t.Setenv("JOURNAL_STREAM", stream)
		if _, got := systemd.NewLogger(file, slog.LevelInfo).Handler().(*systemd.JournalHandler); got != want {
			t.Errorf("JOURNAL_STREAM=%s: to the journal: %t, want %t", stream, got, want)
		}
	}
}

func TestJournalFields(t *testing.T) {
	var got []sent
	log := journalTo(&got, slog.LevelInfo).With("server", "a b").WithGroup("tls")
	log.Debug("not at this level")
	log.Warn("handshake failed", "err", errors.New("no"), slog.Group("peer", "cert-name", "x\x1b[2J\ny"))
	journalTo(&got, slog.LevelDebug).Error("e", "PRIORITY", 1, strings.Repeat("n", 100), "")
	want := []sent{
		{
			"handshake failed server=\"a b\" tls.err=no tls.peer.cert-name=\"x\\x1b[2J\\ny\"", journal.PriWarning,
			map[string]string{
				"SYSLOG_IDENTIFIER": "ztp", "ZTP_SERVER": "a b", "ZTP_TLS_ERR": "no", "ZTP_TLS_PEER_CERT_NAME": "x\x1b[2J\ny",
			},
		},
		{
			"e PRIORITY=1 " + strings.Repeat("n", 100) + "=\"\"", journal.PriErr,
			map[string]string{"SYSLOG_IDENTIFIER": "ztp", "ZTP_PRIORITY": "1", "ZTP_" + strings.Repeat("N", 60): ""},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestTerminalLine(t *testing.T) {
	var out bytes.Buffer
	h := &systemd.TerminalHandler{Out: &out}
	r := slog.NewRecord(time.Date(2026, 1, 1, 10, 11, 12, 0, time.UTC), slog.LevelWarn, "odd\nmessage", 0)
	r.Add("a", 1, "b", "x=y")
	if err := h.Handle(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "10:11:12 warn: \"odd\\nmessage\" a=1 b=\"x=y\"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestLongRecordsAreCut: what a stranger sends must not fill the log.
func TestLongRecordsAreCut(t *testing.T) {
	long := strings.Repeat("\x1b", 1<<20)
	var got []sent
	var terminal bytes.Buffer
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, h := range []slog.Handler{
		journalTo(&got, slog.LevelInfo).Handler(), &systemd.TerminalHandler{Out: &terminal}, systemd.NewLogger(file, slog.LevelInfo).Handler(),
	} {
		slog.New(h).Info(long, "error", errors.New(long), "text", long)
	}
	written, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	for name, size := range map[string]int{"journal": len(got[0].Message) + len(got[0].Fields["ZTP_ERROR"]), "terminal": terminal.Len(), "file": len(written)} {
		if size < 1000 || size > 100_000 {
			t.Errorf("%s: %d bytes", name, size)
		}
	}
}

// TestHandlerContract runs the checks every slog.Handler must pass, on the fields the journal got.
func TestHandlerContract(t *testing.T) {
	var got []sent
	h := journalTo(&got, slog.LevelInfo).Handler()
	err := slogtest.TestHandler(h, func() []map[string]any {
		var results []map[string]any
		for _, s := range got {
			results = append(results, nested(s))
		}
		return results
	})
	// The journal stamps records itself, and wants no time in them; what is left must be nothing.
	if err != nil {
		for problem := range strings.Lines(err.Error()) {
			if !strings.Contains(problem, "\"time\"") && !strings.Contains(problem, "a Handler should ignore a zero Record.Time") {
				t.Error(problem)
			}
		}
	}
}

// nested rebuilds the groups of a record from its line.
func nested(s sent) map[string]any {
	result := map[string]any{slog.MessageKey: "", slog.LevelKey: s.Priority}
	words := strings.Fields(s.Message)
	result[slog.MessageKey] = words[0]
	for _, w := range words[1:] {
		name, value, _ := strings.Cut(w, "=")
		at := result
		path := strings.Split(name, ".")
		for _, group := range path[:len(path)-1] {
			inner, ok := at[group].(map[string]any)
			if !ok {
				inner = map[string]any{}
				at[group] = inner
			}
			at = inner
		}
		at[path[len(path)-1]] = value
	}
	return result
}
