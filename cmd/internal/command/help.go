package command

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Help is all there is to tell about one command of a program.
type Help struct {
	Name, Synopsis string // the name with all above it, and what follows it
	Text, Example  string
	Commands       []Entry // of a group
	Flags          []Entry // in all their forms
	Inherited      []Entry // flags of all commands, where it is not the program itself
	Sections       []Section
}

// Manual is the help of the program c and of everything below it, in the order of the table.
func (c *Command) Manual() []Help { return newLine(c).manual() }

func (l *line) manual() []Help {
	all := []Help{l.describe()}
	for _, c := range l.command().Commands {
		below := &line{path: append(slices.Clone(l.path), c), asks: l.asks}
		all = append(all, below.manual()...)
	}
	return all
}

func (l *line) describe() Help {
	c := l.command()
	h := Help{
		Name: l.name(), Synopsis: l.synopsis(), Text: c.Long, Example: c.Example, Commands: l.commands(),
		Sections: append([]Section{{"Exit status", c.Exit}, {"Environment", c.Environment}, {"Files", c.Files}}, c.More...),
	}
	if h.Text == "" {
		h.Text = c.Short
	}
	for _, f := range l.flags() {
		if f.Inherited && len(l.path) > 1 {
			h.Inherited = append(h.Inherited, f.entry())
		} else {
			h.Flags = append(h.Flags, f.entry())
		}
	}
	h.Sections = slices.DeleteFunc(h.Sections, func(s Section) bool { return len(s.Entries) == 0 })
	return h
}

// usage is the help of a command for a terminal.
func (l *line) usage() string {
	h, b := l.describe(), &strings.Builder{}
	fmt.Fprintf(b, "%s\n\nUsage:\n  %s %s\n", h.Text, h.Name, h.Synopsis)
	if h.Example != "" {
		fmt.Fprintf(b, "\nExamples:\n%s\n", h.Example)
	}
	section(b, Section{"Commands", h.Commands})
	section(b, Section{"Flags", h.Flags})
	section(b, Section{"Flags of all commands", h.Inherited})
	for _, s := range h.Sections {
		section(b, s)
	}
	if len(h.Commands) > 0 {
		fmt.Fprintf(b, "\n`%s COMMAND --help` tells more about a command.\n", h.Name)
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
func section(b *strings.Builder, s Section) {
	if len(s.Entries) == 0 {
		return
	}
	width := 0
	for _, e := range s.Entries {
		width = max(width, utf8.RuneCountInString(e.Term))
	}
	fmt.Fprintf(b, "\n%s:\n", s.Title)
	for _, e := range s.Entries {
		fmt.Fprintf(b, "  %-*s   %s\n", width, e.Term, e.Text)
	}
}
