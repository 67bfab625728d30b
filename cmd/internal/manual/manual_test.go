package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/cmd/internal/command"
	"github.com/xpu-sztp/ztp/cmd/internal/ztp"
)

const systemd = "../../../systemd"

var someBuild = build{version: "1.2-3-gabc", date: "2026-01-02"}

// written are the files, in a folder.
func written(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	if err := write(folder, systemd, someBuild); err != nil {
		t.Fatal(err)
	}
	return folder
}

// read is a page as man shows it on a terminal that is wide enough for every line.
func read(t *testing.T, page string) string {
	t.Helper()
	cmd := exec.Command("man", "-l", page)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANWIDTH=500", "MAN_KEEP_FORMATTING=", "MANPAGER=cat")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", page, err, out)
	}
	return string(out)
}

// TestEveryCommandAndFlag looks in the page, as it is read, for what the table has.
func TestEveryCommandAndFlag(t *testing.T) {
	text := read(t, filepath.Join(written(t), "ztp.8"))
	parts := map[string]string{}
	for _, part := range strings.Split(text, "\n   ztp ")[1:] {
		title, body, _ := strings.Cut(part, "\n")
		name, _, _ := strings.Cut(strings.SplitN(title+" [", " [", 2)[0], " --")
		parts[name] = body
	}
	options, _, _ := strings.Cut(text, "\nCOMMANDS\n")
	var look func(name string, c *command.Command)
	look = func(name string, c *command.Command) {
		part, ok := options, true
		if name != "" {
			part, ok = parts[name]
		}
		if !ok {
			t.Errorf("the page has no command %q", name)
			return
		}
		for _, f := range c.Flags {
			form := "--" + f.Name
			if f.On == nil {
				form += " " + string(f.Arg)
			}
			if f.Letter != "" {
				form = "-" + f.Letter + ", " + form
			}
			if !strings.Contains(part, "\n       "+form) || !strings.Contains(part, f.Usage) {
				t.Errorf("%s: the page lacks %s, or what it means", name, form)
			}
		}
		entries := slices.Concat(c.Exit, c.Environment, c.Files)
		for _, s := range c.More {
			entries = append(entries, s.Entries...)
		}
		if name == "" {
			part = text
		}
		for _, e := range entries {
			if !strings.Contains(part, "\n       "+e.Term) {
				t.Errorf("%s: the page lacks %s", name, e.Term)
			}
		}
		for _, below := range c.Commands {
			look(strings.TrimSpace(name+" "+below.Name), below)
		}
	}
	look("", ztp.Program())
	if len(parts) < 10 {
		t.Errorf("the page has only %d commands: %q", len(parts), text)
	}
}

// TestEverySetting looks for each key of the default configuration below the heading of its table.
func TestEverySetting(t *testing.T) {
	text := read(t, filepath.Join(written(t), "ztp.toml.5"))
	defaults, err := os.ReadFile(filepath.Join(systemd, "ztp.toml"))
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]map[string]any
	if _, err := toml.Decode(uncommented(string(defaults)), &all); err != nil {
		t.Fatal(err)
	}
	found := 0
	for table, keys := range all {
		_, part, _ := strings.Cut(text, "\n["+table+"]\n")
		part, _, _ = strings.Cut("\n"+part, "\n[")
		for key := range keys {
			found++
			if !strings.Contains(part, "\n       "+key+" = ") {
				t.Errorf("the page lacks %s.%s", table, key)
			}
		}
	}
	if found < 50 {
		t.Errorf("only %d settings were found", found)
	}
}

// uncommented has the defaults as settings.
func uncommented(defaults string) string {
	var lines []string
	for line := range strings.Lines(defaults) {
		if len(line) > 1 && line[0] == '#' && line[1] >= 'a' && line[1] <= 'z' {
			line = line[1:]
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "")
}

// TestPagesAreClean has both formatters look for mistakes in what is no mere alias.
func TestPagesAreClean(t *testing.T) {
	folder := written(t)
	pages, err := filepath.Glob(filepath.Join(folder, "*.[58]"))
	if err != nil || len(pages) < 3 {
		t.Fatalf("%q, %v", pages, err)
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.HasPrefix(text, []byte(".so ")) {
			continue
		}
		for _, args := range [][]string{
			{"mandoc", "-T", "lint", page},
			{"man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page},
		} {
			cmd := exec.Command(args[0], args[1:]...)
			cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANWIDTH=80", "MANROFFSEQ=")
			var said bytes.Buffer
			cmd.Stderr = &said
			if args[0] == "mandoc" {
				cmd.Stdout = &said
			}
			if err := cmd.Run(); err != nil || said.Len() > 0 {
				t.Errorf("%v: %v\n%s", args, err, &said)
			}
		}
	}
}

func TestSameTwice(t *testing.T) {
	var runs [2]map[string]string
	for i := range runs {
		t.Setenv("ZTP_ROOT", t.TempDir())
		var err error
		if runs[i], err = makeFiles(ztp.Program(), systemd, someBuild); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(runs[0], runs[1]); diff != "" {
		t.Error(diff)
	}
}

func TestText(t *testing.T) {
	for text, want := range map[string]string{
		"a-b `c d`":         "\\%a\\-b \\fBc d\\fR\n",
		".so a":             "\\&.so a\n",
		"one `open":         "one \\(gaopen\n",
		"it's §5 \\ \"":     "it\\(aqs \\[u00A7]5 \\(rs \"\n",
		"a\n\nb\nc":         "a\n.PP\nb c\n",
		"a\n  x\n    .y\nb": "a\n.RS 4\n.EX\nx\n  .y\n.EE\n.RE\n.PP\nb\n",
	} {
		var p page
		p.text(text)
		if diff := cmp.Diff(want, p.String()); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}

func TestSettingsOfAnotherForm(t *testing.T) {
	for _, text := range []string{"[a]\nkey = 1\n", "text\n", "[a]\n#KEY = 1\n"} {
		if _, err := settingsPage(text, someBuild); !errors.Is(err, errForm) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestUnits(t *testing.T) {
	folder := t.TempDir()
	for name, text := range map[string]string{
		"ztp.service": "[Unit]\nDescription=Main\n", "ztp-a.path": "[Unit]\nDescription=Other\n", "80-ztp.preset": "enable x\n",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := readUnits(folder)
	want := []command.Entry{{Term: "ztp.service", Text: "Main"}, {Term: "ztp-a.path", Text: "Other"}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	if diff := cmp.Diff(map[string]string{"ztp-a.path.8": ".so man8/ztp.service.8\n"}, unitAliases(got)); diff != "" {
		t.Error(diff)
	}
}
