package command

import (
	_ "embed" // the shells' scripts
	"fmt"
	"io"
	"strings"
)

// What a shell is told to complete by itself.
const (
	files   = ":files"
	folders = ":folders"
)

//go:embed complete.bash
var bash string

//go:embed complete.zsh
var zsh string

//go:embed complete.fish
var fish string

// Shells are those for which there is a completion script.
func Shells() []string { return []string{"bash", "zsh", "fish"} }

// CompletionScript has a shell ask a program what may follow: PROGRAM __complete WORD… CURRENT prints a candidate a line, with
// its meaning after a tab, or :files or :folders. It is "" for other shells.
func CompletionScript(program, shell string) string {
	script := map[string]string{"bash": bash, "zsh": zsh, "fish": fish}[shell]
	return strings.ReplaceAll(script, "PROGRAM", program)
}

// complete prints the candidates for the last word.
func (c *Command) complete(words []string, out io.Writer) error {
	last := len(words) - 1
	l := newLine(c)
	l.read(words[:last])
	for _, e := range l.candidates(words[last]) {
		if _, err := fmt.Fprintf(out, "%s\t%s\n", e.Term, e.Text); err != nil {
			return err
		}
	}
	return nil
}

func (l *line) candidates(word string) []Entry {
	c := l.command()
	var all []Entry
	switch name, text, attached := strings.Cut(word, "="); {
	case l.err != nil: // whatever follows, the line is wrong
	case l.open != nil:
		return l.open.Arg.candidates("", word)
	case !l.ended && strings.HasPrefix(word, "--") && attached:
		for _, f := range l.flags() {
			if "--"+f.Name == name {
				return f.Arg.candidates(name+"=", text)
			}
		}
	case !l.ended && strings.HasPrefix(word, "-"):
		for _, f := range l.flags() {
			all = append(all, Entry{"--" + f.Name, f.Usage})
		}
	case len(c.Commands) > 0:
		all = l.commands()
	case len(l.args) < c.Max:
		return c.Arg.candidates("", word)
	}
	return beginning(word, all)
}

// candidates for text, each after what is before it in the same word.
func (a Argument) candidates(before, text string) []Entry {
	switch a {
	case "FILE":
		return []Entry{{Term: files}}
	case "FOLDER":
		return []Entry{{Term: folders}}
	}
	var all []Entry
	for _, word := range a.words() {
		all = append(all, Entry{Term: before + word})
	}
	return beginning(before+text, all)
}

func beginning(with string, all []Entry) (some []Entry) {
	for _, e := range all {
		if strings.HasPrefix(e.Term, with) {
			some = append(some, e)
		}
	}
	return some
}
