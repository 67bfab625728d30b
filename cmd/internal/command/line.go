package command

import (
	"slices"
	"strings"

	"github.com/xpu-sztp/ztp/pkg/reason"
)

// line is a command line as far as it was read, by POSIX's conventions and GNU's: flags and arguments in any order, -vw for -v -w,
// --name=value, and -- before arguments that begin with a dash.
type line struct {
	path  []*Command // from the program to the command
	given []setting
	args  []string // what is neither a command nor a flag
	open  *Flag    // the last flag, when its argument is still to come
	ended bool     // after --
	help  bool
	asks  Flag  // --help
	err   error // a mistake, after which nothing more was read
}

type setting struct {
	flag *Flag
	text string
}

func newLine(program *Command) *line {
	l := &line{path: []*Command{program}}
	l.asks = Flag{Name: "help", Letter: "h", On: &l.help, Usage: "show this help"}
	return l
}

func (l *line) command() *Command { return l.path[len(l.path)-1] }

// name is that of the command, with all above it.
func (l *line) name() string {
	var names []string
	for _, c := range l.path {
		names = append(names, c.Name)
	}
	return strings.Join(names, " ")
}

// flags are those that the command has, its own first.
func (l *line) flags() (all []*Flag) {
	for _, c := range slices.Backward(l.path) {
		for i := range c.Flags {
			if f := &c.Flags[i]; c == l.command() || f.Inherited {
				all = append(all, f)
			}
		}
	}
	return append(all, &l.asks)
}

func (l *line) has(name string) bool {
	return slices.ContainsFunc(l.given, func(s setting) bool { return s.flag.Name == name })
}

// read goes as far as the first mistake.
func (l *line) read(words []string) {
	for _, word := range words {
		switch {
		case l.err != nil:
			return
		case l.open != nil:
			l.set(l.open, word)
		case l.ended || word == "-" || !strings.HasPrefix(word, "-"):
			l.operand(word)
		case word == "--":
			l.ended = true
		case strings.HasPrefix(word, "--"):
			l.long(word[2:])
		default:
			l.letters(word[1:])
		}
	}
}

func (l *line) set(f *Flag, text string) {
	l.given, l.open = append(l.given, setting{f, text}), nil
	if f == &l.asks { // at once: help shows the defaults of the others
		l.err = f.set(text)
	}
}

func (l *line) mistake(what, wrong, near string) {
	if near != "" {
		near = "did you mean " + near + "? "
	}
	l.err = &reason.Error{Msg: what + " " + wrong, Fix: near}
}

func (l *line) operand(word string) {
	var names []string
	for _, c := range l.command().Commands {
		if c.Name == word {
			l.path = append(l.path, c)
			return
		}
		names = append(names, c.Name)
	}
	switch {
	case names == nil:
		l.args = append(l.args, word)
	case len(l.path) == 1 && word == "help":
		l.help = true
	default:
		l.mistake("unknown command", `"`+word+`"`, reason.Nearest(word, names))
	}
}

// long reads a flag without its two dashes.
func (l *line) long(word string) {
	name, text, attached := strings.Cut(word, "=")
	var names []string
	for _, f := range l.flags() {
		if f.Name == name {
			l.take(f, text, attached)
			return
		}
		names = append(names, f.Name)
	}
	near := reason.Nearest(name, names)
	if near != "" {
		near = "--" + near
	}
	for _, c := range l.command().Commands {
		if c.Name == name { // such as --version
			near = c.Name
		}
	}
	l.mistake("unknown flag", "--"+name, near)
}

// letters reads flags in their short forms, the last of which may have its argument attached.
func (l *line) letters(word string) {
	for i, letter := range word {
		rest := word[i+len(string(letter)):]
		flags := l.flags()
		n := slices.IndexFunc(flags, func(f *Flag) bool { return f.Letter == string(letter) })
		switch {
		case n < 0:
			l.mistake("unknown flag", "-"+string(letter), "")
			return
		case flags[n].On == nil || strings.HasPrefix(rest, "="):
			l.take(flags[n], strings.TrimPrefix(rest, "="), rest != "")
			return
		}
		l.take(flags[n], "", false)
	}
}

func (l *line) take(f *Flag, text string, attached bool) {
	switch {
	case attached:
		l.set(f, text)
	case f.On != nil:
		l.set(f, "true")
	default:
		l.open = f
	}
}
