package systemd

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/coreos/go-systemd/v22/journal"
	"golang.org/x/sys/unix"
)

// NewLogger returns a logger for stderr: records with fields when the journal reads it, lines for people on a terminal,
// and logfmt otherwise.
func NewLogger(stderr *os.File, level slog.Level) *slog.Logger {
	if readByJournal(stderr) {
		return slog.New(&JournalHandler{Level: level, Send: journal.Send})
	}
	if _, err := unix.IoctlGetTermios(int(stderr.Fd()), unix.TCGETS); err == nil {
		return slog.New(&TerminalHandler{Level: level, Out: stderr})
	}
	return slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level, ReplaceAttr: shortened}))
}

// readByJournal tells whether systemd connected f to the journal, by $JOURNAL_STREAM of systemd.exec(5). The library's function
// for that scans with fmt, which would be its only use in the agent and costs 26 KB.
func readByJournal(f *os.File) bool {
	var stat unix.Stat_t
	err := unix.Fstat(int(f.Fd()), &stat)
	return err == nil && os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
}

// longest bounds one value of a record in bytes. Values come from the network, and a log must not be filled from there.
const longest = 4 << 10

func shorten(s string) string {
	if len(s) <= longest {
		return s
	}
	return strings.ToValidUTF8(s[:longest], "") + "…"
}

func shortened(_ []string, a slog.Attr) slog.Attr {
	if k := a.Value.Kind(); k == slog.KindString || k == slog.KindAny {
		if s := a.Value.String(); len(s) > longest {
			a.Value = slog.StringValue(shorten(s))
		}
	}
	return a
}

// JournalHandler writes records to the journal. MESSAGE is the whole record in one line; in addition every attribute is
// a field ZTP_NAME, groups joined by underscores.
type JournalHandler struct {
	Level slog.Level
	Send  func(message string, priority journal.Priority, fields map[string]string) error

	attrs attributes
}

// Enabled is part of slog.Handler.
func (h *JournalHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.Level }

// Handle is part of slog.Handler.
func (h *JournalHandler) Handle(_ context.Context, r slog.Record) error {
	all := h.attrs.ofRecord(r)
	fields := map[string]string{"SYSLOG_IDENTIFIER": "ztp"}
	for _, a := range all {
		fields[fieldName(a.name)] = a.value
	}
	return h.Send(line(r.Message, all), priority(r.Level), fields)
}

// WithAttrs is part of slog.Handler.
func (h *JournalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *h
	with.attrs = h.attrs.with(attrs)
	return &with
}

// WithGroup is part of slog.Handler.
func (h *JournalHandler) WithGroup(name string) slog.Handler {
	with := *h
	with.attrs = h.attrs.inGroup(name)
	return &with
}

// TerminalHandler writes a line a record for people who watch.
type TerminalHandler struct {
	Level slog.Level
	Out   io.Writer

	attrs attributes
}

// Enabled is part of slog.Handler.
func (h *TerminalHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.Level }

// Handle is part of slog.Handler.
func (h *TerminalHandler) Handle(_ context.Context, r slog.Record) error {
	text := r.Time.Format("15:04:05 ")
	if r.Level != slog.LevelInfo {
		text += strings.ToLower(r.Level.String()) + ": "
	}
	text += line(r.Message, h.attrs.ofRecord(r)) + "\n"
	_, err := io.WriteString(h.Out, text) // one write a record keeps lines whole
	return err
}

// WithAttrs is part of slog.Handler.
func (h *TerminalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &TerminalHandler{Level: h.Level, Out: h.Out, attrs: h.attrs.with(attrs)}
}

// WithGroup is part of slog.Handler.
func (h *TerminalHandler) WithGroup(name string) slog.Handler {
	return &TerminalHandler{Level: h.Level, Out: h.Out, attrs: h.attrs.inGroup(name)}
}

// attribute is an attribute as text, its name led by those of its groups.
type attribute struct{ name, value string }

// attributes are those a logger carries, and the group that the next ones belong to.
type attributes struct {
	prefix string
	list   []attribute
}

func (a attributes) with(attrs []slog.Attr) attributes {
	list := slices.Clip(a.list)
	for _, attr := range attrs {
		list = flatten(list, a.prefix, attr)
	}
	return attributes{prefix: a.prefix, list: list}
}

func (a attributes) inGroup(name string) attributes {
	if name != "" {
		a.prefix += name + "."
	}
	return a
}

func (a attributes) ofRecord(r slog.Record) []attribute {
	list := slices.Clip(a.list)
	r.Attrs(func(attr slog.Attr) bool {
		list = flatten(list, a.prefix, attr)
		return true
	})
	return list
}

func flatten(list []attribute, prefix string, a slog.Attr) []attribute {
	value := a.Value.Resolve()
	if value.Kind() != slog.KindGroup {
		if a.Equal(slog.Attr{}) {
			return list
		}
		return append(list, attribute{prefix + a.Key, shorten(value.String())})
	}
	if a.Key != "" {
		prefix += a.Key + "."
	}
	for _, inner := range value.Group() {
		list = flatten(list, prefix, inner)
	}
	return list
}

// line puts a record into one line. Values come from the network: what could move a cursor or forge a line is quoted.
func line(message string, attrs []attribute) string {
	var b strings.Builder
	b.WriteString(printable(shorten(message), false))
	for _, a := range attrs {
		b.WriteString(" " + a.name + "=" + printable(a.value, true))
	}
	return b.String()
}

func printable(s string, word bool) string {
	odd := func(r rune) bool {
		return !unicode.IsPrint(r) || r == unicode.ReplacementChar || word && (r == ' ' || r == '"' || r == '=')
	}
	if strings.ContainsFunc(s, odd) || word && s == "" {
		return strconv.Quote(s)
	}
	return s
}

// fieldName is the name of an attribute's journal field. The prefix keeps attributes from taking the place of fields
// that have a meaning of their own.
func fieldName(name string) string {
	const longest = 64 // systemd.journal-fields(7)
	field := "ZTP_" + strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, name)
	return field[:min(len(field), longest)]
}

func priority(l slog.Level) journal.Priority {
	switch {
	case l >= slog.LevelError:
		return journal.PriErr
	case l >= slog.LevelWarn:
		return journal.PriWarning
	case l >= slog.LevelInfo:
		return journal.PriInfo
	}
	return journal.PriDebug
}
