// Package ztp is the command line of the agent: a table of its commands, each in a file that declares its flags and calls the
// package that does the work.
package ztp

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/cmd/internal/command"
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

const defaultRoot = "/"

// Streams is where output goes.
type Streams struct {
	Out io.Writer
	Err *os.File
}

// app is what the subcommands share.
type app struct {
	out io.Writer
	err *os.File
	// release is the version that was built, "" in a build that is none.
	release string

	root  string
	debug bool
	exit  int // exit code of a command that went well
}

// Run executes one command line and returns the exit code. release is the version that was built, "" in a build that is none.
func Run(args []string, s Streams, release string) int {
	// A script of a session below some folder that calls ztp means that device, not the machine it runs on.
	a := &app{out: s.Out, err: s.Err, release: release, root: cmp.Or(os.Getenv("ZTP_ROOT"), defaultRoot)}
	err := a.program().Execute(context.Background(), args, s.Out)
	if err == nil {
		return a.exit
	}
	exit := exitError
	code, hint := reason.Of(err)
	switch code {
	case command.Usage:
		exit = exitUsage
	case config.Invalid:
		exit = exitConfig
	}
	// Messages may quote what others chose, such as the names of files in a folder.
	fmt.Fprintf(s.Err, "ztp: %s [%s]\n", cms.Visible(strings.ReplaceAll(err.Error(), "\n", "; ")), code)
	if hint != "" {
		fmt.Fprintf(s.Err, "to do: %s\n", hint)
	}
	return exit
}

// Program is the table of commands, for what is made of it besides a command line.
func Program() *command.Command { return (&app{root: defaultRoot}).program() }

func (a *app) program() *command.Command {
	return &command.Command{
		Name:  "ztp",
		Short: "Secure zero-touch provisioning of this device (RFC 8572)",
		Flags: []command.Flag{
			{Name: "root", Arg: "FOLDER", Text: &a.root, Inherited: true,
				Usage: "look for every file, device node and socket below this folder, instead of $ZTP_ROOT or /"},
			{Name: "debug", On: &a.debug, Inherited: true, Usage: "log what happens in detail"},
		},
		Commands: []*command.Command{
			a.status(), a.doctor(), a.enable(), a.disable(), a.runSession(), a.images(), a.daemon(), a.onboard(), a.bootGood(), a.identity(), a.inspect(), a.version(),
			a.completion(),
		},
		Exit: []command.Entry{
			{Term: "0", Text: "done; some commands have more to say, see their help"},
			{Term: "64", Text: "the command line is wrong; nothing was done"},
			{Term: "69", Text: "the command could not do what it was asked for"},
			{Term: "78", Text: "the configuration is invalid"},
		},
		Environment: []command.Entry{{Term: "ZTP_ROOT", Text: "the default of --root"}},
		Files: []command.Entry{
			{Term: config.VendorFile, Text: "configuration, as it was packaged"},
			{Term: config.VendorDropIns, Text: "drop-ins by the device's maker, in the order of their names"},
			{Term: config.AdminFile, Text: "configuration by the device's administrator"},
			{Term: config.DropIns, Text: "drop-ins by the device's administrator, in the order of their names"},
		},
	}
}

func (a *app) logger() *slog.Logger {
	level := slog.LevelInfo
	if a.debug {
		level = slog.LevelDebug
	}
	return systemd.NewLogger(a.err, level)
}
