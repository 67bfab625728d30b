package source

import (
	"maps"
	"strings"
	"testing"
)

// TestMissingOctets: the length of a DER element (X.690 §8.1.3) that anybody may have written is told only when it is all there.
func TestMissingOctets(t *testing.T) {
	for der, want := range map[string]struct {
		missing int
		told    bool
	}{
		"":                              {0, false},
		"\x30":                          {0, false},
		"\x30\x00":                      {0, true},
		"\x30\x05":                      {5, true},
		"\x30\x05abc":                   {2, true},
		"\x30\x03abcd":                  {0, true},
		"\x30\x7f":                      {127, true},
		"\x30\x80":                      {0, false}, // indefinite
		"\x30\x81":                      {0, false},
		"\x30\x81\x80":                  {128, true},
		"\x30\x82\x01":                  {0, false},
		"\x30\x82\x01\x00a":             {255, true},
		"\x30\x83\x01\x00":              {0, false},
		"\x30\x83\x01\x00\x00":          {1 << 16, true},
		"\x30\x84\x00\x00\x00\x05":      {0, false},
		"\x30\xff" + "\xff\xff\xff\xff": {0, false},
		"\x31\x05":                      {0, false},
	} {
		if missing, told := missingOctets([]byte(der)); missing != want.missing || told != want.told {
			t.Errorf("%x: %d, %t", der, missing, told)
		}
	}
}

// TestPairs has values that go on in the next character strings, and strings that look like pairs and are none.
func TestPairs(t *testing.T) {
	full := strings.Repeat("x", 252) // with its key as long as a character string may be
	for name, tt := range map[string]struct {
		texts []string
		want  map[string]string
	}{
		"one":                       {[]string{"ci=\x30\x03abc"}, map[string]string{"ci": "\x30\x03abc"}},
		"in capitals":               {[]string{"CI=one"}, map[string]string{"ci": "one"}},
		"goes on":                   {[]string{"ci=\x30\x05ab", "cde"}, map[string]string{"ci": "\x30\x05abcde"}},
		"complete":                  {[]string{"ci=\x30\x03abc", "x"}, map[string]string{"ci": "\x30\x03abc"}},
		"next after a complete one": {[]string{"ci=\x30\x03abc", "oc=two"}, map[string]string{"ci": "\x30\x03abc", "oc": "two"}},
		"looks like a pair within":  {[]string{"ci=\x30\x06ab", "oc=z"}, map[string]string{"ci": "\x30\x06aboc=z"}},
		"an artifact cuts off":      {[]string{"ci=\x30\x05ab", "oc=\x30\x00"}, map[string]string{"ci": "\x30\x05ab", "oc": "\x30\x00"}},
		"another key within":        {[]string{"ci=\x30\x06ab", "xx=\x30"}, map[string]string{"ci": "\x30\x06abxx=\x30"}},
		"the first counts":          {[]string{"ci=one", "ci=two", "tail"}, map[string]string{"ci": "one"}},
		"of another key":            {[]string{"other=x", "tail", "ci=one"}, map[string]string{"ci": "one"}},
		"no key":                    {[]string{"tail", "=x", "ci"}, map[string]string{}},
		"not DER":                   {[]string{"ci=one", "oc=two", "tail"}, map[string]string{"ci": "one", "oc": "twotail"}},
		"not DER and full":          {[]string{"ci=" + full, "oc=two"}, map[string]string{"ci": full + "oc=two"}},
		"key that is too long":      {[]string{"ci=one", "0123456789=x"}, map[string]string{"ci": "one0123456789=x"}},
		"longest key":               {[]string{"ci=one", "012345678=x"}, map[string]string{"ci": "one"}},
		"key out of binary":         {[]string{"ci=one", "\x01=x"}, map[string]string{"ci": "one\x01=x"}},
		"nothing":                   {nil, map[string]string{}},
	} {
		got := map[string]string{}
		for key, value := range pairs(tt.texts) {
			got[key] = string(value)
		}
		if !maps.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}
