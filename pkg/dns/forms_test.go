package dns_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/xpu-sztp/ztp/pkg/dns"
)

// TestMessageForms writes answers octet by octet, most of them wrong, and counts the TXT records of x.test in them.
func TestMessageForms(t *testing.T) {
	const refused = -1
	question := "\x01x\x04test\x00\x00\x10\x00\x01"
	message := func(counts, rest string) string { return "\x00\x00\x80\x00" + counts + rest }
	record := func(name, kind, class, data string) string {
		return name + kind + class + "\x00\x00\x00\x00" + string([]byte{byte(len(data) >> 8), byte(len(data))}) + data
	}
	const here, in, text = "\xc0\x0c", "\x00\x01", "\x00\x10"
	one := func(r string) string { return message("\x00\x01\x00\x01\x00\x00\x00\x00", question+r) }
	fine := record(here, text, in, "\x02ab")
	// other is a record that does not answer; it has to be right nevertheless.
	other := func(kind, data string) string {
		return message("\x00\x01\x00\x02\x00\x00\x00\x00", question+record(here, kind, in, data)+fine)
	}
	label := func(n int) string { return string(byte(n)) + strings.Repeat("l", n) }
	long := strings.Repeat(label(63), 3)
	for name, test := range map[string]struct {
		raw  string
		want int
	}{
		"fine":                   {one(fine), 1},
		"name-in-full":           {one(record("\x01x\x04test\x00", text, in, "\x02ab")), 1},
		"cache-flush":            {one(record(here, text, "\x80\x01", "\x02ab")), 1},
		"other-class":            {one(record(here, text, "\x00\x03", "\x02ab")), 0},
		"other-type":             {one(record(here, "\x00\x63", in, "\x02ab")), 0},
		"in-authority":           {message("\x00\x01\x00\x00\x00\x01\x00\x00", question+fine), 1},
		"additional":             {message("\x00\x01\x00\x00\x00\x00\x00\x01", question+fine), 1},
		"question-other-class":   {message("\x00\x01\x00\x01\x00\x00\x00\x00", "\x01x\x04test\x00\x00\x10\x00\x03"+fine), refused},
		"question-other-type":    {message("\x00\x01\x00\x01\x00\x00\x00\x00", "\x01x\x04test\x00\x00\x01\x00\x01"+fine), refused},
		"two-questions":          {message("\x00\x02\x00\x01\x00\x00\x00\x00", question+question+fine), refused},
		"256-records":            {message("\x00\x01\x00\xfe\x00\x01\x00\x01", question+strings.Repeat(fine, 256)), 256},
		"257-records":            {message("\x00\x01\x00\xff\x00\x01\x00\x01", question+strings.Repeat(fine, 257)), refused},
		"record-missing":         {message("\x00\x01\x00\x02\x00\x00\x00\x00", question+fine), refused},
		"record-cut":             {one(fine[:len(fine)-1]), refused},
		"record-header-cut":      {one(fine[:9]), refused},
		"strings-none":           {one(record(here, text, in, "")), 1},
		"strings-empty":          {one(record(here, text, in, "\x00\x00")), 1},
		"string-past-its-record": {one(record(here, text, in, "\x03ab")), refused},
		"after-the-answer":       {one(fine) + "garbage", 1},
		"a":                      {other("\x00\x01", "\x7f\x00\x00\x01"), 1},
		"a-short":                {other("\x00\x01", "\x7f\x00\x00"), refused},
		"a-long":                 {other("\x00\x01", "\x7f\x00\x00\x01\x00"), refused},
		"aaaa":                   {other("\x00\x1c", strings.Repeat("\x00", 16)), 1},
		"aaaa-short":             {other("\x00\x1c", strings.Repeat("\x00", 15)), refused},
		"aaaa-long":              {other("\x00\x1c", strings.Repeat("\x00", 17)), refused},
		"srv":                    {other("\x00\x21", "\x00\x00\x00\x00\x00\x01\x01y\x00"), 1},
		"srv-short":              {other("\x00\x21", "\x00\x00\x00\x00\x00"), refused},
		"srv-long":               {other("\x00\x21", "\x00\x00\x00\x00\x00\x01\x01y\x00\x00"), refused},
		"srv-target-cut":         {other("\x00\x21", "\x00\x00\x00\x00\x00\x01\x02y"), refused},
		"name-as-long-as-can":    {one(record(long+label(61)+"\x00", text, in, "")), 0},
		"name-too-long":          {one(record(long+label(62)+"\x00", text, in, "")), refused},
		"label-of-64":            {one(record("\x40"+strings.Repeat("l", 64)+"\x00", text, in, "")), refused},
		"label-of-another-kind":  {one(record("\x80\x00", text, in, "")), refused},
		"label-of-191":           {one(record("\xbf"+strings.Repeat("l", 191)+"\x00", text, in, "")), refused},
		"pointer-to-itself":      {one(record("\xc0\x18", text, in, "")), refused},
		"pointer-forward":        {one(record("\xc0\x19", text, in, "")), refused},
		"pointer-cut":            {one("\xc0"), refused},
		"pointer-to-a-pointer":   {message("\x00\x01\x00\x02\x00\x00\x00\x00", question+record("\xc0\x0c", text, in, "")+record("\xc0\x18", text, in, "")), 2},
		"pointer-into-a-name":    {one(record("\xc0\x0e", text, in, "")), 0},
	} {
		t.Run(name, func(t *testing.T) {
			records, err := answered(t, []byte(test.raw), dnsmessage.TypeTXT)
			switch {
			case test.want == refused:
				if err == nil || errors.Is(err, dns.ErrNoData) {
					t.Errorf("%d records, %v, want none to be read", len(records), err)
				}
			case len(records) != test.want || test.want == 0 != errors.Is(err, dns.ErrNoData):
				t.Errorf("%d records, %v, want %d", len(records), err, test.want)
			}
		})
	}
}

// TestNameBounds stands on both sides of the bounds of names and of each set of characters.
func TestNameBounds(t *testing.T) {
	l := func(n int) string { return strings.Repeat("l", n) }
	for _, test := range []struct {
		labels []string
		fine   bool
	}{
		{[]string{l(63)}, true}, {[]string{l(64)}, false}, {[]string{""}, false}, {[]string{"a", ""}, false},
		{[]string{l(63), l(63), l(63), l(61)}, true}, {[]string{l(63), l(63), l(63), l(62)}, false},
	} {
		if n, err := dns.NewName(test.labels...); (err == nil) != test.fine {
			t.Errorf("%q: %v", n, err)
		}
	}
	base := name(t, strings.Join([]string{l(63), l(63), l(63)}, "."))
	for label, fine := range map[string]bool{l(61): true, l(62): false, l(64): false, "": false} {
		if n, err := base.Below(label); (err == nil) != fine {
			t.Errorf("%q: %v", n, err)
		}
	}
	for _, pair := range []string{"az AZ =", "@ ` !", "[ { !", "0 P !", "ä Ä !", "a aa !"} {
		f := strings.Fields(pair)
		if name(t, f[0]).Equal(name(t, f[1])) != (f[2] == "=") {
			t.Errorf("comparison of %s and %s", f[0], f[1])
		}
	}
	for _, good := range []byte("09azAZ-_") {
		if h := name(t, "x"+string(good)).Host(); h != "x"+string(good) {
			t.Errorf("%q", h)
		}
	}
	for c := range 256 {
		if bytes.IndexByte([]byte("-_."), byte(c)) >= 0 || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
			continue
		}
		if h := name(t, "x"+string([]byte{byte(c)})).Host(); h != "" {
			t.Errorf("%q is a host", h)
		}
	}
	below, err := dns.NewName(" \\~\x7f!")
	if want := `\032\\~\127!.`; err != nil || below.String() != want {
		t.Errorf("%s, %v, want %s", below, err, want)
	}
}
