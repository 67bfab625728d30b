package ztp

import (
	"context"
	"errors"

	"github.com/xpu-sztp/ztp/cmd/internal/command"
	"github.com/xpu-sztp/ztp/pkg/daemon"
	"github.com/xpu-sztp/ztp/pkg/state"
)

func (a *app) runSession() *command.Command {
	var wait, once, trusted bool
	var urls []string
	return &command.Command{
		Name:     "run",
		Synopsis: "[--wait | --once --url URL… [--trusted]]",
		Short:    "Start a new session now, also on a provisioned device",
		Long: "Start a new session now, also on a provisioned device. Images that were refused are tried again.\n" +
			"Where systemd runs, the daemon is restarted and --wait waits for it; elsewhere, and with --root, the session runs in\n" +
			"the foreground.\n\n" +
			"With --once the session is one pass over the servers named by --url, in the foreground and without DHCP. They are\n" +
			"treated like servers that DHCP named, or with --trusted like the maker's own, which must have a trust anchor.",
		Flags: []command.Flag{
			{Name: "wait", On: &wait, Usage: "wait until the session has ended"},
			{Name: "once", On: &once, Usage: "visit the servers of --url once, in the foreground"},
			{Name: "url", Arg: "URL", List: &urls, Usage: "a bootstrap server, https://HOST[:PORT]; may be given more than once"},
			{Name: "trusted", On: &trusted, Usage: "treat the servers of --url as the maker's own"},
		},
		Exit: []command.Entry{
			{Term: "0", Text: "the session provisioned the device, or nobody waited for it"},
			{Term: "1", Text: "it failed"},
			{Term: "2", Text: "it is in progress: a reboot is due"},
			{Term: "3", Text: "provisioning is disabled"},
			{Term: "4", Text: "it was stopped"},
		},
		Check: func([]string) error {
			switch {
			case once != (len(urls) > 0):
				return errors.New("--once and --url need each other")
			case trusted && !once:
				return errors.New("--trusted needs --once and --url")
			case wait && once:
				return errors.New("--once always waits; leave out --wait")
			}
			return nil
		},
		Run: func(ctx context.Context, _ []string) error {
			ctx, stop := untilStopped(ctx)
			defer stop()
			control, err := daemon.NewControl(a.root)
			if err != nil {
				return err
			}
			var s *state.Status
			switch {
			case once:
				o := a.daemonOptions()
				o.Once, o.Servers, o.Trusted = true, urls, trusted
				s, err = daemon.Run(ctx, o)
			case !control.Supervised():
				o := a.daemonOptions()
				o.Fresh = true
				s, err = daemon.Run(ctx, o)
			default:
				if err := control.Restart(ctx); err != nil || !wait {
					return err
				}
				s, err = control.Wait(ctx)
			}
			if err != nil {
				return err
			}
			a.exit = s.ExitCode()
			return nil
		},
	}
}

func (a *app) daemonOptions() daemon.Options {
	return daemon.Options{Root: a.root, Version: a.built(), Logger: a.logger()}
}
