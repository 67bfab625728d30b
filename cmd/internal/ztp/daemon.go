package ztp

import (
	"context"

	"github.com/xpu-sztp/ztp/cmd/internal/command"
	"github.com/xpu-sztp/ztp/pkg/daemon"
	"github.com/xpu-sztp/ztp/pkg/onboard"
)

func (a *app) daemon() *command.Command {
	var socket string
	return &command.Command{
		Name:  "daemon",
		Short: "Provision the device; this is what the unit runs",
		Long: "Provision the device: look for a bootstrap server until one has provisioned it. Ends at once on a device that is\n" +
			"disabled or provisioned, unless the configuration has it provisioned anew on another network.",
		Flags: []command.Flag{{Name: "onboard-socket", Arg: "FILE", Text: &socket,
			Usage: "where ztp onboard listens, which then does what needs privileges instead of this process"}},
		Exit: []command.Entry{
			{Term: "0", Text: "there is nothing (more) to do"},
			{Term: "69", Text: "any error but that of the configuration"},
			{Term: "78", Text: "the configuration is invalid"},
		},
		More: []command.Section{
			{Title: "Exit status of scripts, and of configuration handlers", Entries: entries(onboard.ScriptExits())},
			{Title: "Environment of both", Entries: entries(onboard.ScriptEnvironment())},
		},
		Run: func(ctx context.Context, _ []string) error {
			ctx, stop := untilStopped(ctx)
			defer stop()
			o := a.daemonOptions()
			o.Onboard = socket
			_, err := daemon.Run(ctx, o)
			return err
		},
	}
}

func entries(list [][2]string) (all []command.Entry) {
	for _, e := range list {
		all = append(all, command.Entry{Term: e[0], Text: e[1]})
	}
	return all
}
