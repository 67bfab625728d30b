package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/systemd"
)

// Exit codes besides those of a status (state.Exit…), as in sysexits(3).
const (
	exitUsage  = 64 // the command line is wrong
	exitError  = 69 // the command could not do what it was asked for
	exitConfig = 78 // the configuration is invalid
)

// streams is where output goes.
type streams struct {
	out io.Writer
	err *os.File
}

// app is what the subcommands share.
type app struct {
	streams
	root  string
	debug bool
	exit  int  // exit code of a command that went well
	ran   bool // a command was found and its arguments were right
}

// run executes one command line and returns the exit code.
func run(args []string, s streams) int {
	a := &app{streams: s}
	cmd := a.command()
	cmd.SetArgs(args)
	err := cmd.Execute()
	if err == nil {
		return a.exit
	}
	code, hint := reason.Of(err)
	exit := exitError
	switch {
	case !a.ran:
		code, hint, exit = "usage", "see `ztp --help`", exitUsage
	case code == config.Invalid:
		exit = exitConfig
	}
	fmt.Fprintf(s.err, "ztp: %s [%s]\n", strings.ReplaceAll(err.Error(), "\n", "; "), code)
	if hint != "" {
		fmt.Fprintf(s.err, "to do: %s\n", hint)
	}
	return exit
}

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:               "ztp",
		Short:             "Secure zero-touch provisioning of this device (RFC 8572)",
		SilenceErrors:     true,
		SilenceUsage:      true,
		Args:              cobra.NoArgs,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		RunE:              func(*cobra.Command, []string) error { return errors.New("a command is missing") },
	}
	root.SetOut(a.out)
	root.SetErr(a.err)
	// A script of a session below some folder that calls ztp means that device, not the machine it runs on.
	root.PersistentFlags().StringVar(&a.root, "root", cmp.Or(os.Getenv("ZTP_ROOT"), "/"),
		"look for every file, device node and socket below this folder, instead of $ZTP_ROOT or /")
	root.PersistentFlags().BoolVar(&a.debug, "debug", false, "log what happens in detail")
	root.MarkPersistentFlagDirname("root")
	root.AddCommand(a.status(), a.enable(), a.disable(), a.runSession(), a.daemon(), a.identity(), a.inspect(),
		a.version(), a.completion())
	return root
}

// do wraps what a subcommand does, so that its errors are told from those of the command line.
func (a *app) do(command func(*cobra.Command, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		a.ran = true
		return command(cmd, args)
	}
}

func (a *app) logger() *slog.Logger {
	level := slog.LevelInfo
	if a.debug {
		level = slog.LevelDebug
	}
	return systemd.NewLogger(a.err, level)
}
