package command

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// usage is the help of a command.
func (l *line) usage() string {
	c, b := l.command(), &strings.Builder{}
	text := c.Long
	if text == "" {
		text = c.Short
	}
	fmt.Fprintf(b, "%s\n\nUsage:\n  %s %s\n", text, l.name(), l.synopsis())
	if c.Example != "" {
		fmt.Fprintf(b, "\nExamples:\n%s\n", c.Example)
	}
	section(b, "Commands", l.commands())
	var own, inherited []Entry
	for _, f := range l.flags() {
		if f.Inherited && len(l.path) > 1 {
			inherited = append(inherited, f.entry())
		} else {
			own = append(own, f.entry())
		}
	}
	section(b, "Flags", own)
	section(b, "Flags of all commands", inherited)
	section(b, "Exit status", c.Exit)
	section(b, "Environment", c.Environment)
	section(b, "Files", c.Files)
	for _, s := range c.More {
		section(b, s.Title, s.Entries)
	}
	if len(c.Commands) > 0 {
		fmt.Fprintf(b, "\n`%s COMMAND --help` tells more about a command.\n", l.name())
	}
	return b.String()
}

// synopsis is what follows the command's name.
func (l *line) synopsis() string {
	c := l.command()
	if c.Synopsis != "" {
		return c.Synopsis
	}
	var words []string
	for i := range c.Flags {
		if f := &c.Flags[i]; f.Required {
			words = append(words, "--"+f.Name+" "+string(f.Arg))
		}
	}
	words = append(words, "[FLAG…]")
	switch {
	case len(c.Commands) > 0:
		words = append(words, "COMMAND")
	case c.Max > 1:
		words = append(words, string(c.Arg)+"…")
	case c.Max == 1:
		words = append(words, string(c.Arg))
	}
	return strings.Join(words, " ")
}

// commands are those of a group, with the one that every program has.
func (l *line) commands() (all []Entry) {
	for _, c := range l.command().Commands {
		all = append(all, Entry{c.Name, c.Short})
	}
	if len(l.path) == 1 {
		all = append(all, Entry{"help", "Show help for a command"})
	}
	return all
}

// entry is the flag in all its forms, with what it means and its default.
func (f *Flag) entry() Entry {
	e := Entry{"    --" + f.Name, f.Usage}
	if f.Letter != "" {
		e.Term = "-" + f.Letter + ", --" + f.Name
	}
	if f.On == nil {
		e.Term += " " + string(f.Arg)
	}
	if f.Text != nil && *f.Text != "" {
		e.Text += fmt.Sprintf(" (default %q)", *f.Text)
	}
	return e
}

// section prints a title and two columns.
func section(b *strings.Builder, title string, entries []Entry) {
	if len(entries) == 0 {
		return
	}
	width := 0
	for _, e := range entries {
		width = max(width, utf8.RuneCountInString(e.Term))
	}
	fmt.Fprintf(b, "\n%s:\n", title)
	for _, e := range entries {
		fmt.Fprintf(b, "  %-*s   %s\n", width, e.Term, e.Text)
	}
}
