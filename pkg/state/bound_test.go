package state

import (
	"path/filepath"
	"strings"
	"testing"
	"unicode"
)

// hostile is a status in which every text that others can influence is as bad as they can make it.
func hostile() *Status {
	text := strings.Repeat("\x1b[2J\u009b1m<\xff&\"", 2000)
	s := &Status{Phase: PhaseVisiting, Reason: &Reason{Message: text}}
	for range 100 {
		server := Server{URL: text, Certificate: text, Detail: text}
		for range 20 {
			server.Verdicts = append(server.Verdicts, Verdict{Detail: text})
		}
		s.Servers = append(s.Servers, server)
		s.Warnings = append(s.Warnings, Warning{Text: text})
		s.Reports = append(s.Reports, Report{Detail: text})
	}
	return s
}

func TestBoardStaysReadable(t *testing.T) {
	path := filepath.Join(t.TempDir(), StatusName)
	b := NewBoard(path, Status{})
	b.Update(func(s *Status) { *s = *hostile() })
	if err := b.Err(); err != nil {
		t.Fatal(err)
	}
	s, err := readStatus(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Servers) != 100 {
		t.Errorf("%d servers", len(s.Servers))
	}
	for _, text := range []string{s.Reason.Message, s.Servers[99].Certificate, s.Servers[99].Verdicts[19].Detail, s.Warnings[99].Text} {
		if len(text) > 2<<10 || text == "" || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%d bytes: %.40q", len(text), text)
		}
	}
	b.Update(func(s *Status) { s.Reason.Message = "one;\nother" })
	if got := b.Snapshot().Reason.Message; got != "one;\nother" {
		t.Errorf("a proper text became %q", got)
	}
}

// TestLastStatusLeavesRoom: what strangers made of the last status must not keep the device from recording what it does.
func TestLastStatusLeavesRoom(t *testing.T) {
	dir := t.TempDir()
	b := NewBoard(filepath.Join(dir, StatusName), Status{})
	b.Update(func(s *Status) { *s = *hostile() })
	store, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Update(func(r *Record) error { r.Last = b.Snapshot().Abridged(); return nil }); err != nil {
		t.Fatal(err)
	}
	err = store.Update(func(r *Record) error {
		r.Images = map[string]ImageRecord{}
		for i := range 64 {
			r.Images[strings.Repeat("0", i)] = ImageRecord{OSName: strings.Repeat("x", 5000)}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	r, err := store.Load()
	if err != nil || r.Last == nil || r.Last.Reason == nil {
		t.Errorf("%+v, %v", r, err)
	}
	few := Status{Servers: []Server{{URL: "https://a"}}}
	if got := few.Abridged(); len(got.Servers) != 1 {
		t.Errorf("left out without need: %+v", got)
	}
}
