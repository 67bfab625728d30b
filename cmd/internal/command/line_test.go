package command_test

import (
	"context"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	"pgregory.net/rapid"

	"github.com/xpu-sztp/ztp/cmd/internal/command"
)

// values is what a command line of flags comes to.
type values struct {
	On, Other bool
	Text      string
	List      []string
	Args      []string
	Wrong     bool
}

// TestReadsLikePflag holds the reading of flags against a library that knows POSIX's and GNU's conventions.
func TestReadsLikePflag(t *testing.T) {
	words := []string{
		"--on", "--on=true", "--on=false", "--on=x", "--text", "--text=", "--text=a=b", "--list", "--list=1", "--other", "--unknown",
		"-o", "-r", "-or", "-ro", "-t", "-tx", "-t=x", "-ot", "-ortx", "-ol=2", "-l", "-l1", "-o=false", "-o=x", "-x", "-ox", "--", "-", "a", "",
	}
	rapid.Check(t, func(t *rapid.T) {
		args := rapid.SliceOfN(rapid.SampledFrom(words), 0, 6).Draw(t, "args")
		if diff := cmp.Diff(byPflag(args), byTable(args)); diff != "" {
			t.Errorf("%q (-pflag +table):\n%s", args, diff)
		}
	})
}

func byPflag(args []string) (v values) {
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.BoolVarP(&v.On, "on", "o", false, "")
	flags.BoolVarP(&v.Other, "other", "r", false, "")
	flags.StringVarP(&v.Text, "text", "t", "", "")
	flags.StringArrayVarP(&v.List, "list", "l", nil, "")
	if flags.Parse(args) != nil {
		return values{Wrong: true}
	}
	v.Args = flags.Args()
	return v
}

func byTable(args []string) (v values) {
	program := &command.Command{
		Flags: []command.Flag{
			{Name: "on", Letter: "o", On: &v.On},
			{Name: "other", Letter: "r", On: &v.Other},
			{Name: "text", Letter: "t", Arg: "TEXT", Text: &v.Text},
			{Name: "list", Letter: "l", Arg: "TEXT", List: &v.List},
		},
		Max: command.Any,
		Run: func(_ context.Context, args []string) error {
			v.Args = append([]string{}, args...)
			return nil
		},
	}
	if program.Execute(context.Background(), args, io.Discard) != nil {
		return values{Wrong: true}
	}
	return v
}

// TestNoLineIsTooStrange reads and completes whatever there is.
func TestNoLineIsTooStrange(t *testing.T) {
	word := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"make", "shop", "help", "--size", "-k", "--", "--kind=", "-t=", "__complete"}))
	rapid.Check(t, func(t *rapid.T) {
		var k kitchen
		args := rapid.SliceOfN(word, 0, 8).Draw(t, "args")
		_ = k.program().Execute(context.Background(), args, io.Discard)
		_ = k.program().Execute(context.Background(), append([]string{"__complete"}, args...), io.Discard)
	})
}
