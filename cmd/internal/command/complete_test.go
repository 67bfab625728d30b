package command_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/cmd/internal/command"
)

// TestCandidates completes the last word of a line; "_" is an empty one.
func TestCandidates(t *testing.T) {
	for line, want := range map[string]string{
		"_":                    "make shop help",
		"m":                    "make",
		"x":                    "",
		"-":                    "--root --loud --help",
		"--r":                  "--root",
		"--root _":             ":folders",
		"--root=x":             ":folders",
		"--loud=":              "",
		"--other=":             "",
		"--root / s":           "shop",
		"--root=/ s":           "shop",
		"shop _":               "list go",
		"shop l":               "list",
		"shop list _":          "",
		"shop go _":            "north south",
		"shop go s":            "south",
		"shop go south _":      "",
		"help s":               "shop",
		"help shop l":          "list",
		"make _":               ":files",
		"make a _":             ":files",
		"make a b _":           "",
		"make --":              "--kind --hot --cold --spice --size --root --loud --help",
		"make --s":             "--spice --size",
		"make --kind _":        "soup salad",
		"make --kind sa":       "salad",
		"make --kind=sa":       "--kind=salad",
		"make -tk s":           "soup salad",
		"make --spice _":       "",
		"make --size much --h": "--hot --help",
		"make -- --":           ":files",
		"make --nothing --h":   "",
		"nothing _":            "",
	} {
		t.Run(line, func(t *testing.T) {
			var k kitchen
			var out strings.Builder
			args := []string{"__complete"}
			for _, word := range strings.Fields(line) {
				args = append(args, strings.TrimPrefix(word, "_"))
			}
			if err := k.program().Execute(t.Context(), args, &out); err != nil {
				t.Fatal(err)
			}
			var got []string
			for candidate := range strings.Lines(out.String()) {
				term, _, _ := strings.Cut(candidate, "\t")
				got = append(got, term)
			}
			if diff := cmp.Diff(want, strings.Join(got, " ")); diff != "" {
				t.Error(diff)
			}
			if k.size != "" {
				t.Error("completing gave flags their values")
			}
		})
	}
}

func TestCandidatesMeaning(t *testing.T) {
	var k kitchen
	var out strings.Builder
	if err := k.program().Execute(t.Context(), []string{"__complete", "shop", "l"}, &out); err != nil {
		t.Fatal(err)
	}
	if want := "list\tWrite what is missing\n"; out.String() != want {
		t.Errorf("got %q, want %q", &out, want)
	}
}

func TestCompletionScripts(t *testing.T) {
	for _, shell := range command.Shells() {
		script := command.CompletionScript("kitchen", shell)
		if !strings.Contains(script, "__complete") || strings.Contains(script, "PROGRAM") {
			t.Errorf("%s: %s", shell, script)
		}
	}
	if got := command.CompletionScript("kitchen", "tcsh"); got != "" {
		t.Errorf("tcsh: %s", got)
	}
}
