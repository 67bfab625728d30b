package efi

import (
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseName(t *testing.T) {
	tests := []struct {
		file string
		ok   bool
		want name
	}{
		{"ztp-a.conf", true, name{stem: "ztp-a", suffix: ".conf"}},
		{"ztp-a.efi", true, name{stem: "ztp-a", suffix: ".efi"}},
		{"ZTP-A.EFI", true, name{stem: "ZTP-A", suffix: ".efi"}},
		{"ztp-a+3.conf", true, name{stem: "ztp-a", suffix: ".conf", counted: true, left: 3}},
		{"ztp-a+2-1.efi", true, name{stem: "ztp-a", suffix: ".efi", counted: true, left: 2, done: 1}},
		{"ztp-a+0-3.conf", true, name{stem: "ztp-a", suffix: ".conf", counted: true, done: 3}},
		{"ztp-a+4-0.conf", true, name{stem: "ztp-a", suffix: ".conf", counted: true, left: 4}},
		{"ztp+a+1.conf", true, name{stem: "ztp+a", suffix: ".conf", counted: true, left: 1}},
		{"ztp-a+2147483647-2147483647.conf", true, name{stem: "ztp-a", suffix: ".conf", counted: true, left: 1<<31 - 1, done: 1<<31 - 1}},
		{"ztp-a+2147483648.conf", true, name{stem: "ztp-a+2147483648", suffix: ".conf"}},
		{"ztp-a+.conf", true, name{stem: "ztp-a+", suffix: ".conf"}},
		{"ztp-a+-1.conf", true, name{stem: "ztp-a+-1", suffix: ".conf"}},
		{"ztp-a+1-.conf", true, name{stem: "ztp-a+1-", suffix: ".conf"}},
		{"ztp-a+1-2-3.conf", true, name{stem: "ztp-a+1-2-3", suffix: ".conf"}},
		{"ztp-a+1x.conf", true, name{stem: "ztp-a+1x", suffix: ".conf"}},
		{"ztp-a+1.conf.efi", true, name{stem: "ztp-a+1.conf", suffix: ".efi"}},
		{"+1.conf", true, name{stem: "", suffix: ".conf", counted: true, left: 1}},
		{".ztp-a.conf", false, name{}},
		{".conf", false, name{}},
		{"ztp-a", false, name{}},
		{"ztp-a.conf.ztp", false, name{}},
		{"", false, name{}},
	}
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			got, ok := parseName(tt.file)
			if tt.ok {
				tt.want.file = tt.file
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(name{})); diff != "" || ok != tt.ok {
				t.Errorf("%v %s", ok, diff)
			}
		})
	}
}

func TestEntryOf(t *testing.T) {
	for id, want := range map[string]string{
		"ztp-a.conf": "ztp-a", "ztp-a+1.conf": "ztp-a", "ztp-a.efi@1": "ztp-a", "ztp-a+0-1.efi@12": "ztp-a", "ztp-a.efi@x": "", "auto-windows": "",
	} {
		if n, _ := entryOf(id); n.stem != want {
			t.Errorf("%s is of %q, want %q", id, n.stem, want)
		}
	}
}

// FuzzName: a name is never longer than what it is made of, and what is taken apart makes the same name again.
func FuzzName(f *testing.F) {
	for _, s := range []string{"ztp-a+2-1.efi", "ztp-a.conf", "+1-2.conf", "a+00-01.efi", ".conf", "a@1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		_, _ = entryOf(s)
		n, ok := parseName(s)
		if !ok {
			return
		}
		made := n.stem
		if n.counted {
			made += "+" + strconv.Itoa(n.left) + "-" + strconv.Itoa(n.done)
		}
		again, ok := parseName(made + n.suffix)
		again.file = n.file
		if again != n || !ok {
			t.Fatalf("%q is %+v, which is %+v", s, n, again)
		}
		if !strings.HasPrefix(s, n.stem) {
			t.Fatalf("%q has the stem %q", s, n.stem)
		}
	})
}

func TestDescribes(t *testing.T) {
	for name, tt := range map[string]struct {
		text string
		want bool
	}{
		"kernel":         {"title x\nlinux /vmlinuz\n", true},
		"program":        {"efi\t/x.efi", true},
		"image":          {"uki /x.efi\r\n", true},
		"image by URL":   {"uki-url https://x.example.test/x.efi\n", true},
		"key only":       {"linux\n", false},
		"key of another": {"linuxes /x\n", false},
		"comment":        {"# linux /x\n", false},
		"nothing":        {"", false},
		"NUL":            {"linux /x\n\x00", false},
		"no UTF-8":       {"linux /x\n\xff", false},
		"too large":      {"linux /x\n" + strings.Repeat("x", maxEntry), false},
	} {
		if got := describes([]byte(tt.text)); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// FuzzWhole: what a power cut leaves of a description, which is a part of it or something with NULs, is not taken for one that
// somebody else has written.
func FuzzWhole(f *testing.F) {
	f.Add("title x\nlinux /vmlinuz\noptions quiet\n", 30)
	f.Fuzz(func(t *testing.T, text string, cut int) {
		intended := []byte(text)
		if !describes(intended) {
			return
		}
		if cut < 0 || cut >= len(intended) {
			return
		}
		if !whole(intended, intended) || whole(intended[:cut], intended) {
			t.Fatalf("%q, cut at %d", text, cut)
		}
		torn := append([]byte(nil), intended...)
		torn[cut] = 0
		if whole(torn, intended) {
			t.Fatalf("%q", torn)
		}
	})
}
