package tpm_test

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/xpu-sztp/ztp/tpm"
)

func TestSerialPattern(t *testing.T) {
	for _, c := range []struct{ pattern, text, want string }{
		{"(*)", "S1", "S1"},
		{"SN:(*)", "SN:S1", "S1"},
		{"SN:(*)", "SN:", ""},
		{"MODEL-*/(*)", "MODEL-A/S1", "S1"},
		{"*/(*)", "a/b/S1", "b/S1"}, // as short as it can be from the left
		{"(*)-*", "S1-A-B", "S1"},
		{"(*)-*-B", "S1-A-B-B", "S1"},
		{"a(*)a", "aa", ""},
	} {
		p, err := tpm.ParseSerialPattern(c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := p.Find(c.text); !ok || got != c.want || p.String() != c.pattern {
			t.Errorf("%s in %s: %q, %v", p, c.text, got, ok)
		}
	}
	for _, c := range []struct{ pattern, text string }{{"SN:(*)", "xSN:S1"}, {"(*)x", "S1"}, {"a(*)a", "a"}, {"*-(*)", "S1"}, {"(*)-*-B", "S1-B"}} {
		p, err := tpm.ParseSerialPattern(c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := p.Find(c.text); ok {
			t.Errorf("%s in %s: %q", p, c.text, got)
		}
	}
	for _, bad := range []string{"", "SN:*", "(*)(*)", "(*) (*)", "*(*)", "(*)*"} {
		if p, err := tpm.ParseSerialPattern(bad); err == nil {
			t.Errorf("%q: %v", bad, p)
		}
	}
}

// TestSerialPatternAsRegexp holds patterns against the regular expressions that mean the same.
func TestSerialPatternAsRegexp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringMatching(`([ab]{0,2}\*?){0,2}[ab]?\(\*\)[ab]?(\*?[ab]{0,2}){0,2}`).Draw(t, "pattern")
		p, err := tpm.ParseSerialPattern(pattern)
		if err != nil {
			return
		}
		text := rapid.StringMatching(`[abc]{0,8}`).Draw(t, "text")
		serial, rest, _ := strings.Cut(pattern, "(*)")
		any := strings.NewReplacer("*", ".*?")
		groups := regexp.MustCompile("^" + any.Replace(serial) + "(.*?)" + any.Replace(rest) + "$").FindStringSubmatch(text)
		got, ok := p.Find(text)
		if ok != (groups != nil) || ok && got != groups[1] {
			t.Fatalf("%s in %s: %q, %v; want %q", p, text, got, ok, groups)
		}
	})
}
