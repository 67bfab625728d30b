package ztp

import (
	"slices"
	"strings"
	"testing"

	"github.com/xpu-sztp/ztp/cmd/internal/command"
)

// TestTable looks for mistakes in the table of commands, from which help, completion and manual pages are made.
func TestTable(t *testing.T) {
	checkCommand(t, Program(), nil)
}

func checkCommand(t *testing.T, c *command.Command, above []command.Flag) {
	t.Helper()
	one := func(what, line string) {
		if line == "" || strings.HasSuffix(line, ".") || strings.Contains(line, "\n") {
			t.Errorf("%s: %s: %q is not one line without a final stop", c.Name, what, line)
		}
	}
	one("short", c.Short)
	for _, line := range strings.Split(c.Long+"\n"+c.Example, "\n") {
		if len([]rune(line)) > 135 {
			t.Errorf("%s: %q is too long for a terminal", c.Name, line)
		}
	}
	if (c.Run == nil) != (len(c.Commands) > 0) || c.Min > c.Max || (c.Max > 0) != (c.Arg != "") {
		t.Errorf("%s: it is neither a command nor a group, or its arguments are impossible", c.Name)
	}
	all := slices.Concat(above, c.Flags)
	for i, f := range all {
		one(f.Name, f.Usage)
		targets := []bool{f.On != nil, f.Text != nil, f.List != nil, f.Parse != nil}
		if len(slices.DeleteFunc(targets, func(set bool) bool { return !set })) != 1 || (f.On == nil) != (f.Arg != "") {
			t.Errorf("%s: --%s: its value goes nowhere or several ways, or lacks a name", c.Name, f.Name)
		}
		same := func(g command.Flag) bool { return g.Name == f.Name || f.Letter != "" && g.Letter == f.Letter }
		if slices.ContainsFunc(all[i+1:], same) || f.Name == "help" || f.Letter == "h" || len(f.Letter) > 1 {
			t.Errorf("%s: --%s: its name or letter is taken, or is not one letter", c.Name, f.Name)
		}
	}
	for _, pair := range c.Exclusive {
		for _, name := range pair {
			if !slices.ContainsFunc(all, func(f command.Flag) bool { return f.Name == name }) {
				t.Errorf("%s: --%s excludes another flag, and does not exist", c.Name, name)
			}
		}
	}
	notes := slices.Concat(c.Exit, c.Environment, c.Files)
	for _, s := range c.More {
		one(c.Name, s.Title)
		notes = append(notes, s.Entries...)
	}
	for _, e := range notes {
		one(e.Term, e.Text)
	}
	inherited := slices.DeleteFunc(all, func(f command.Flag) bool { return !f.Inherited })
	for _, below := range c.Commands {
		checkCommand(t, below, inherited)
	}
}
