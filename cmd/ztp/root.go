package main

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
	exit  int // exit code of a command that went well
}

// run executes one command line and returns the exit code.
func run(args []string, s streams) int {
	a := &app{streams: s}
	err := a.program().Execute(context.Background(), args, s.out)
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
	fmt.Fprintf(s.err, "ztp: %s [%s]\n", cms.Visible(strings.ReplaceAll(err.Error(), "\n", "; ")), code)
	if hint != "" {
		fmt.Fprintf(s.err, "to do: %s\n", hint)
	}
	return exit
}

func (a *app) program() *command.Command {
	// A script of a session below some folder that calls ztp means that device, not the machine it runs on.
	a.root = cmp.Or(os.Getenv("ZTP_ROOT"), "/")
	return &command.Command{
		Name:  "ztp",
		Short: "Secure zero-touch provisioning of this device (RFC 8572)",
		Flags: []command.Flag{
			{Name: "root", Arg: "FOLDER", Text: &a.root, Inherited: true,
				Usage: "look for every file, device node and socket below this folder, instead of $ZTP_ROOT or /"},
			{Name: "debug", On: &a.debug, Inherited: true, Usage: "log what happens in detail"},
		},
		Commands: []*command.Command{
			a.status(), a.enable(), a.disable(), a.runSession(), a.images(), a.daemon(), a.identity(), a.inspect(), a.version(), a.completion(),
		},
		Exit: []command.Entry{
			{Term: "0", Text: "done; some commands have more to say, see their help"},
			{Term: "64", Text: "the command line is wrong; nothing was done"},
			{Term: "69", Text: "the command could not do what it was asked for"},
			{Term: "78", Text: "the configuration is invalid"},
		},
		Environment: []command.Entry{{Term: "ZTP_ROOT", Text: "the default of --root"}},
		Files: []command.Entry{
			{Term: config.VendorFile, Text: "configuration by the device's maker"},
			{Term: config.AdminFile, Text: "configuration by the device's administrator"},
			{Term: config.DropIns, Text: "drop-ins, in the order of their names"},
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
