package efi

import (
	"fmt"
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestTrialOf: the pattern for the one start fits the slot's entry by both kinds of ids, no other entry, and not the name that
// the entry has from then on.
func TestTrialOf(t *testing.T) {
	tests := map[string]struct {
		entries  string // of the slot that is tried, and of the other one
		other    string // further entries
		want     trial
		rejected bool
	}{
		"usual":                 {"ztp-b ztp-a", "", trial{"ztp-b+1-1.conf", "ztp-*[b1].conf"}, false},
		"images":                {"ztp-b.efi ztp-a.efi", "", trial{"ztp-b+1-1.efi", "ztp-*[b1].efi"}, false},
		"upper case":            {"ZTP-B ZTP-A", "", trial{"ZTP-B+1-1.conf", "ztp-*[b1].conf"}, false},
		"ends with 2":           {"image2 image1", "", trial{"image2+1-2.conf", "image*[22].conf"}, false},
		"ends with 1":           {"image1 image2", "", trial{"image1+1-1.conf", "image*[11].conf"}, false},
		"one character":         {"b a", "", trial{"b+1-1.conf", "*[b1].conf"}, false},
		"other with a counter":  {"ztp-b ztp-a", "ztp-a+0-1.conf", trial{"ztp-b+1-111.conf", "zt*[p1]?[b1].conf"}, false},
		"begins with the other": {"slot11 slot1", "", trial{"slot11+1-1.conf", "slot1*[11].conf"}, false},
		"begins the other":      {"slot1 slot11", "", trial{"slot1+1-111.conf", "sl*[o1][t1][11].conf"}, false},
		"rescue":                {"ztp-b ztp-a", "ztp-rescue-b.conf", trial{"ztp-b+1-111.conf", "zt*[p1]?[b1].conf"}, false},
		"rescue with a counter": {"ztp-b ztp-a", "ztp-rescue-b+3.conf", trial{"ztp-b+1-111.conf", "zt*[p1]?[b1].conf"}, false},
		"of the other kind":     {"ztp-b ztp-a", "ztp-rescue-b.efi", trial{"ztp-b+1-1.conf", "ztp-*[b1].conf"}, false},
		"ends the other":        {"b ab", "", trial{}, true},
		"ends a stranger":       {"b a", "ab.conf", trial{}, true},
		"ends a longer one":     {"ztp-b lab-ztp-b", "", trial{"ztp-b+1-1.conf", "ztp-*[b1].conf"}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := new(scene)
			for _, id := range strings.Fields(tt.entries) {
				e, err := parseEntry(id, id)
				if err != nil {
					t.Fatal(err)
				}
				s.slots = append(s.slots, &files{entry: e})
			}
			for _, file := range append(strings.Fields(tt.other), s.slots[0].plain(), s.slots[1].plain()) {
				s.add(file, 1)
			}
			got, err := s.trialOf(s.slots[0])
			if (err != nil) != tt.rejected {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(trial{})); diff != "" {
				t.Fatal(diff)
			}
		})
	}
}

// FuzzTrial: whatever the entries are called, the pattern is right.
func FuzzTrial(f *testing.F) {
	f.Add("ztp-b", "ztp-a", "ztp-rescue-b.conf")
	f.Add("slot1", "slot11", "SLOT2+1.CONF")
	f.Add("a_2", "a.2", "x")
	f.Fuzz(func(t *testing.T, mine, other, stranger string) {
		s := new(scene)
		for _, id := range []string{mine, other} {
			e, err := parseEntry("slot "+id, id)
			if err != nil {
				return
			}
			s.slots = append(s.slots, &files{entry: e})
		}
		if strings.EqualFold(s.slots[0].plain(), s.slots[1].plain()) || s.slots[0].suffix != s.slots[1].suffix {
			return
		}
		s.add(stranger, 1)
		got, err := s.trialOf(s.slots[0])
		if err != nil {
			return
		}
		n, ok := parseName(got.file)
		if !ok || !s.slots[0].has(n) || n.left != 1 {
			t.Fatalf("%+v is no name of the slot", got)
		}
		for _, id := range []string{got.file, n.stem + n.suffix} {
			if !matches(t, got.pattern, id) {
				t.Errorf("%+v does not fit %s", got, id)
			}
		}
		for _, id := range []string{started(n), s.slots[1].plain()} {
			if matches(t, got.pattern, id) {
				t.Errorf("%+v fits %s", got, id)
			}
		}
		if n, ok := parseName(stranger); ok && !s.slots[0].has(n) && matches(t, got.pattern, stranger) {
			t.Errorf("%+v fits %s", got, stranger)
		}
	})
}

// matches does what systemd-boot does with a pattern for an id.
func matches(t *testing.T, pattern, id string) bool {
	t.Helper()
	match, err := path.Match(strings.ToLower(pattern), strings.ToLower(id))
	if err != nil {
		t.Fatalf("%q: %v", pattern, err)
	}
	return match
}

// started is the name that systemd-boot gives what it starts.
func started(n name) string {
	return fmt.Sprintf("%s+%d-%d%s", n.stem, n.left-1, n.done+1, n.suffix)
}
