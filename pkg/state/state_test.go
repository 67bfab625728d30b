package state

import (
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSetEnabled(t *testing.T) {
	const id = "S"
	tests := []struct {
		name        string
		who         []string // each turns the flag off
		wantCleared bool
	}{
		{"script", []string{id}, true},
		{"script twice", []string{id, id}, true},
		{"person", []string{""}, false},
		{"person after script", []string{id, ""}, false},
		{"script after person", []string{"", id}, false},
		{"script of another session", []string{"T"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := NewRecord()
			r.Session = &Session{ID: id}
			for _, who := range tt.who {
				r.SetEnabled(false, who)
			}
			if r.Enabled || r.Session.FlagCleared != tt.wantCleared {
				t.Errorf("enabled %v, cleared %v, want %v", r.Enabled, r.Session.FlagCleared, tt.wantCleared)
			}
		})
	}
}

// TestSetEnabledEndsTheReason: what a device was disabled for says nothing any more once a person has enabled it.
func TestSetEnabledEndsTheReason(t *testing.T) {
	why := &Reason{Code: "state-corrupt"}
	for outcome, want := range map[Outcome]*Reason{OutcomeNone: nil, OutcomeFailed: why} {
		r := NewRecord()
		r.Outcome, r.Reason = outcome, why
		if r.SetEnabled(false, ""); r.Reason != why {
			t.Errorf("%q: disabling leaves %+v", outcome, r.Reason)
		}
		if r.SetEnabled(true, ""); r.Reason != want {
			t.Errorf("%q: enabling leaves %+v", outcome, r.Reason)
		}
	}
}

func TestStartOver(t *testing.T) {
	for _, journal := range [][]Entry{nil, {{Step: StepPreScript}}} {
		r := NewRecord()
		r.Outcome, r.Reason, r.Session, r.Journal = OutcomeFailed, &Reason{}, &Session{ID: "S"}, journal
		r.Images = map[string]ImageRecord{
			"a": {State: ImageRefused, Attempts: 3},
			"c": {State: ImageFellBack, Attempts: 1, Slot: "b"},
			"b": {State: ImageActivated, Slot: "b", Attempts: 2, Reboots: 2},
		}
		r.StartOver()
		want := NewRecord()
		want.Images = map[string]ImageRecord{"b": {State: ImageActivated, Slot: "b"}}
		if journal != nil {
			want.Journal, want.Session = journal, &Session{ID: "S"}
		}
		if diff := cmp.Diff(want, r); diff != "" {
			t.Error(diff)
		}
	}
}

func TestClearImage(t *testing.T) {
	for sha256, want := range map[string]string{
		"AB1": "ab1", "ab1": "ab1", "c": "c", "ab": "", "d": "", "": "",
	} {
		r := NewRecord()
		r.Images = map[string]ImageRecord{
			"ab1": {State: ImageRefused}, "ab2": {State: ImageRefused}, "c": {State: ImageGood, Slot: "a", Attempts: 1, Reason: &Reason{}},
		}
		got, err := r.ClearImage(sha256)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v", sha256, got, err)
		}
		if _, there := r.Images["ab1"]; there != (want != "ab1") {
			t.Errorf("%q: still refused", sha256)
		}
		if want == "c" && !cmp.Equal(r.Images["c"], ImageRecord{State: ImageGood, Slot: "a"}) {
			t.Errorf("%q: %+v", sha256, r.Images["c"])
		}
	}
}

func TestHistory(t *testing.T) {
	now := time.Now()
	r := NewRecord()
	r.Images = map[string]ImageRecord{"a": {State: ImageGood, Updated: now}, "b": {State: ImageRefused, Updated: now.Add(time.Second)}}
	want := []PastImage{
		{SHA256: "b", ImageRecord: r.Images["b"], Until: now.Add(time.Second + RefusedFor)}, {SHA256: "a", ImageRecord: r.Images["a"]},
	}
	if diff := cmp.Diff(want, r.History()); diff != "" {
		t.Error(diff)
	}
}

func TestRecordRoundTrip(t *testing.T) {
	want := NewRecord()
	want.Journal = []Entry{{Step: StepConfiguration, File: &FileBackup{
		Path: "/etc/x", Existed: true, Mode: 0o640 | os.ModeSetuid, UID: 3, GID: 4, Folders: []string{"/etc"},
	}}}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got := new(Record)
	if err := json.Unmarshal(data, got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
