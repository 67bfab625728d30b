// Package command makes a program's command line out of a table: commands with their texts, flags and arguments as data, from
// which reading the line, its help, completion in shells and manual pages follow.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/xpu-sztp/ztp/pkg/reason"
)

// Usage is the code of errors of the command line itself, after which nothing was done.
const Usage reason.Code = "usage"

// Any is a Max without a bound.
const Any = 1<<31 - 1

// Command is a program, a command of it, or a group of commands.
type Command struct {
	Name     string
	Synopsis string // what follows the name, where that is more than flags and arguments
	Short    string // one line, without a final stop
	Long     string // paragraphs for those who want to know, instead of Short; may be empty
	Example  string // lines to copy; may be empty

	Flags     []Flag
	Exclusive [][2]string // names of flags of which only one may be given
	Arg       Argument    // what an argument is; a group has none
	Min, Max  int         // how many arguments there may be
	Commands  []*Command  // makes it a group

	Exit, Environment, Files []Entry
	// More is what else there is to know about, in sections of their own.
	More []Section

	// Check finds what is wrong with flags and arguments together; may be nil. What it returns is an error of the command line.
	Check func(args []string) error
	Run   func(ctx context.Context, args []string) error // nil in groups
}

// Argument is what an argument of a command or of a flag may be: its kind in capitals, of which FILE and FOLDER are completed as
// such, or the only words there are, such as "json|xml".
type Argument string

// words returns nil when any will do.
func (a Argument) words() []string {
	words := strings.Split(string(a), "|")
	if len(words) == 1 {
		return nil
	}
	return words
}

func (a Argument) check(text string) error {
	if words := a.words(); words != nil && !slices.Contains(words, text) {
		return fmt.Errorf("%q is none of %s", text, strings.Join(words, ", "))
	}
	return nil
}

// Flag is one flag. Exactly one of On, Text, List and Parse says where its value goes.
type Flag struct {
	Name      string   // without dashes
	Letter    string   // for the short form; may be empty
	Arg       Argument // of flags other than On
	Usage     string   // one line, without a final stop
	Inherited bool     // the commands below have it, too
	Required  bool     // and not empty

	On    *bool              // a flag without an argument
	Text  *string            // holds the default before
	List  *[]string          // a flag that may be given more than once
	Parse func(string) error // for all other values
}

func (f *Flag) set(text string) error {
	err := f.Arg.check(text)
	switch {
	case err != nil:
	case f.On != nil:
		if *f.On, err = strconv.ParseBool(text); err != nil {
			err = fmt.Errorf("%q is neither true nor false", text)
		}
	case f.Text != nil:
		*f.Text = text
	case f.List != nil:
		*f.List = append(*f.List, text)
	default:
		err = f.Parse(text)
	}
	if err != nil {
		return fmt.Errorf("--%s: %w", f.Name, err)
	}
	return nil
}

// Entry is a term and what it means: an exit code, a variable of the environment, a file.
type Entry struct{ Term, Text string }

// Section is a title and what stands below it.
type Section struct {
	Title   string
	Entries []Entry
}

// Execute does what the arguments of the program c say: it runs a command, or prints help or completions to out. Errors of the
// command line have the code Usage.
func (c *Command) Execute(ctx context.Context, args []string, out io.Writer) error {
	if len(args) > 1 && args[0] == "__complete" {
		return c.complete(args[1:], out)
	}
	l := newLine(c)
	l.read(args)
	if l.help && l.err == nil {
		_, err := io.WriteString(out, l.usage())
		return err
	}
	if err := l.apply(); err != nil {
		_, near := reason.Of(err)
		return &reason.Error{Code: Usage, Fix: near + "see `" + l.name() + " --help`", Err: err}
	}
	return l.command().Run(ctx, l.args)
}

// apply gives all flags their values and holds the line against what its command demands.
func (l *line) apply() error {
	switch {
	case l.err != nil:
		return l.err
	case l.open != nil:
		return fmt.Errorf("--%s: %s is missing", l.open.Name, l.open.Arg)
	}
	for _, s := range l.given {
		if err := s.flag.set(s.text); err != nil {
			return err
		}
	}
	return l.check()
}

func (l *line) check() error {
	c := l.command()
	switch {
	case c.Run == nil:
		return errors.New("a command is missing")
	case len(l.args) < c.Min:
		return fmt.Errorf("%s is missing", c.Arg)
	case len(l.args) > c.Max && c.Max > 1:
		return fmt.Errorf("more than %d arguments", c.Max)
	case len(l.args) > c.Max:
		return fmt.Errorf("unexpected argument %q", l.args[c.Max])
	}
	for _, text := range l.args {
		if err := c.Arg.check(text); err != nil {
			return err
		}
	}
	for _, f := range l.flags() {
		if f.Required && !slices.ContainsFunc(l.given, func(s setting) bool { return s.flag == f && s.text != "" }) {
			return fmt.Errorf("--%s is missing", f.Name)
		}
	}
	for _, pair := range c.Exclusive {
		if l.has(pair[0]) && l.has(pair[1]) {
			return fmt.Errorf("--%s and --%s exclude each other", pair[0], pair[1])
		}
	}
	if c.Check != nil {
		return c.Check(l.args)
	}
	return nil
}
