package command_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/cmd/internal/command"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

// kitchen is a program with everything that a table can have. What it was told goes into done.
type kitchen struct {
	root, kind, size string
	loud, hot        bool
	spices           []string
	done             string
}

func (k *kitchen) program() *command.Command {
	k.root, k.kind = "/", "soup"
	run := func(name string) func(context.Context, []string) error {
		return func(_ context.Context, args []string) error {
			k.done = fmt.Sprintf("%s root=%s loud=%t kind=%s hot=%t size=%s spices=%s args=%s", name, k.root, k.loud, k.kind, k.hot,
				k.size, strings.Join(k.spices, "+"), strings.Join(args, "+"))
			return nil
		}
	}
	return &command.Command{
		Name:  "kitchen",
		Short: "Cook",
		Flags: []command.Flag{
			{Name: "root", Arg: "FOLDER", Text: &k.root, Inherited: true, Usage: "where the food is"},
			{Name: "loud", Letter: "l", On: &k.loud, Inherited: true, Usage: "sing"},
		},
		Environment: []command.Entry{{Term: "KITCHEN", Text: "its name"}},
		Files:       []command.Entry{{Term: "/etc/kitchen", Text: "recipes"}},
		Commands: []*command.Command{
			{
				Name: "make", Short: "Make a dish", Long: "Make a dish.\nAnd serve it.", Example: "  kitchen make soup.txt",
				Flags: []command.Flag{
					{Name: "kind", Letter: "k", Arg: "soup|salad", Text: &k.kind, Usage: "what"},
					{Name: "hot", Letter: "t", On: &k.hot, Usage: "warm it up"},
					{Name: "cold", On: new(bool), Usage: "do not"},
					{Name: "spice", Arg: "SPICE", List: &k.spices, Usage: "more of it"},
					{Name: "size", Arg: "SIZE", Required: true, Usage: "how much", Parse: func(text string) error {
						if k.size = text; text == "much" {
							return errors.New("how much is much?")
						}
						return nil
					}},
				},
				Exclusive: [][2]string{{"hot", "cold"}},
				Arg:       "FILE", Min: 1, Max: 2,
				Check: func(args []string) error {
					if args[0] == "secret" {
						return errors.New("nobody knows how")
					}
					return nil
				},
				Exit: []command.Entry{{Term: "0", Text: "it was good"}},
				Run:  run("make"),
			},
			{
				Name: "shop", Short: "Get food",
				Commands: []*command.Command{
					{Name: "list", Short: "Write what is missing", Run: run("list")},
					{Name: "go", Short: "Go there", Arg: "north|south", Min: 1, Max: 1, Run: run("go")},
				},
			},
		},
	}
}

func TestCommandLines(t *testing.T) {
	const untouched = "root=/ loud=false kind=soup hot=false size="
	for line, want := range map[string]string{
		"shop list":                                   "list " + untouched + " spices= args=",
		"shop go south":                               "go " + untouched + " spices= args=south",
		"--root x shop --loud list":                   "list root=x loud=true kind=soup hot=false size= spices= args=",
		"shop list -l --root=x":                       "list root=x loud=true kind=soup hot=false size= spices= args=",
		"shop list --root= --loud=false":              "list root= loud=false kind=soup hot=false size= spices= args=",
		"make a --size 1 b":                           "make " + untouched + "1 spices= args=a+b",
		"make --size 1 -- --hot":                      "make " + untouched + "1 spices= args=--hot",
		"make --size 1 -":                             "make " + untouched + "1 spices= args=-",
		"make --size 1 --size -2 a":                   "make " + untouched + "-2 spices= args=a",
		"make a --size 1 -tlk salad":                  "make root=/ loud=true kind=salad hot=true size=1 spices= args=a",
		"make a --size 1 -ksalad":                     "make root=/ loud=false kind=salad hot=false size=1 spices= args=a",
		"make a --size 1 -tk=salad":                   "make root=/ loud=false kind=salad hot=true size=1 spices= args=a",
		"make a --size 1 --spice=a=b --spice --spice": "make " + untouched + "1 spices=a=b+--spice args=a",

		"":                             "a command is missing; see `kitchen --help`",
		"shop":                         "a command is missing; see `kitchen shop --help`",
		"mkae":                         `unknown command "mkae"; did you mean make? see ` + "`kitchen --help`",
		"mak":                          `unknown command "mak"; did you mean make? see ` + "`kitchen --help`",
		"shop lsit x --nothing":        `unknown command "lsit"; did you mean list? see ` + "`kitchen shop --help`",
		"help shop lists":              `unknown command "lists"; did you mean list? see ` + "`kitchen shop --help`",
		"list":                         `unknown command "list"; see ` + "`kitchen --help`",
		"shop list x":                  `unexpected argument "x"; see ` + "`kitchen shop list --help`",
		"shop go":                      "north|south is missing; see `kitchen shop go --help`",
		"shop go west":                 `"west" is none of north, south; see ` + "`kitchen shop go --help`",
		"make a":                       "--size is missing; see `kitchen make --help`",
		"make a --size=":               "--size is missing; see `kitchen make --help`",
		"make a --size":                "--size: SIZE is missing; see `kitchen make --help`",
		"make a -k":                    "--kind: soup|salad is missing; see `kitchen make --help`",
		"make a --size much":           "--size: how much is much?; see `kitchen make --help`",
		"make --size 1":                "FILE is missing; see `kitchen make --help`",
		"make --size 1 a b c":          "more than 2 arguments; see `kitchen make --help`",
		"make --size 1 --kind=cake a":  `--kind: "cake" is none of soup, salad; see ` + "`kitchen make --help`",
		"make --size 1 --hot=very a":   `--hot: "very" is neither true nor false; see ` + "`kitchen make --help`",
		"make --size 1 --hot --cold a": "--hot and --cold exclude each other; see `kitchen make --help`",
		"make --size 1 secret":         "nobody knows how; see `kitchen make --help`",
		"make --sizes 1 a":             "unknown flag --sizes; did you mean --size? see `kitchen make --help`",
		"make -tx a":                   "unknown flag -x; see `kitchen make --help`",
		"make -ä a":                    "unknown flag -ä; see `kitchen make --help`",
		"--kind salad make a":          "unknown flag --kind; see `kitchen --help`",
		"--make":                       "unknown flag --make; did you mean make? see `kitchen --help`",
		"--=":                          "unknown flag --; see `kitchen --help`",
		"shop list --hel --help":       "unknown flag --hel; did you mean --help? see `kitchen shop list --help`",
		"shop list --help=x":           `--help: "x" is neither true nor false; see ` + "`kitchen shop list --help`",
		"__complete":                   `unknown command "__complete"; see ` + "`kitchen --help`",
	} {
		t.Run(line, func(t *testing.T) {
			var k kitchen
			var out strings.Builder
			err := k.program().Execute(t.Context(), strings.Fields(line), &out)
			got := k.done
			if err != nil {
				code, hint := reason.Of(err)
				if got = err.Error() + "; " + hint; code != command.Usage || k.done != "" {
					t.Errorf("code %s, after running %q", code, k.done)
				}
			}
			if got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if out.Len() > 0 {
				t.Errorf("printed %q", &out)
			}
		})
	}
}

// TestErrorOfCommand tells errors of what a command does from those of its command line.
func TestErrorOfCommand(t *testing.T) {
	want := errors.New("no milk")
	program := &command.Command{Name: "kitchen", Run: func(context.Context, []string) error { return want }}
	if err := program.Execute(t.Context(), nil, nil); err != want {
		t.Errorf("got %v, want %v", err, want)
	}
}

func TestHelp(t *testing.T) {
	const of = `Make a dish.
And serve it.

Usage:
  kitchen make --size SIZE [FLAG…] FILE…

Examples:
  kitchen make soup.txt

Flags:
  -k, --kind soup|salad   what (default "soup")
  -t, --hot               warm it up
      --cold              do not
      --spice SPICE       more of it
      --size SIZE         how much
  -h, --help              show this help

Flags of all commands:
      --root FOLDER   where the food is (default "/")
  -l, --loud          sing

Exit status:
  0   it was good
`
	const program = `Cook

Usage:
  kitchen [FLAG…] COMMAND

Commands:
  make   Make a dish
  shop   Get food
  help   Show help for a command

Flags:
      --root FOLDER   where the food is (default "/")
  -l, --loud          sing
  -h, --help          show this help

Environment:
  KITCHEN   its name

Files:
  /etc/kitchen   recipes

` + "`kitchen COMMAND --help` tells more about a command.\n"
	for line, want := range map[string]string{
		"--help": program, "-h": program, "help": program, "help help": program, "-lh": program,
		"make --help": of, "help make": of, "make -h --size 1 a b c": of, "--help make": of, "help -l make": of,
		"make --kind salad --root x --size much -h": of,
	} {
		t.Run(line, func(t *testing.T) {
			var k kitchen
			var out strings.Builder
			if err := k.program().Execute(t.Context(), strings.Fields(line), &out); err != nil || k.done != "" {
				t.Fatalf("%v, ran %q", err, k.done)
			}
			if diff := cmp.Diff(want, out.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}
