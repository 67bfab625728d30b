package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/xpu-sztp/ztp/pkg/daemon"
	"github.com/xpu-sztp/ztp/pkg/state"
)

func (a *app) runSession() *cobra.Command {
	var wait, once, trusted bool
	var urls []string
	cmd := &cobra.Command{
		Use:   "run [--wait | --once --url URL… [--trusted]]",
		Short: "Start a new session now, also on a provisioned device",
		Long: "Start a new session now, also on a provisioned device. Where systemd runs, the daemon is restarted and --wait waits\n" +
			"for it; elsewhere, and with --root, the session runs in the foreground.\n\n" +
			"With --once the session is one pass over the servers named by --url, in the foreground and without DHCP. They are\n" +
			"treated like servers that DHCP named, or with --trusted like the maker's own, which must have a trust anchor.\n\n" +
			"Exit status, of a session that was waited for: 0 provisioned, 1 failed, 2 in progress (a reboot is due), 3 disabled,\n" +
			"4 stopped.",
		Args: cobra.NoArgs,
		PreRunE: func(*cobra.Command, []string) error {
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
		RunE: a.do(func(cmd *cobra.Command, _ []string) error {
			ctx, stop := untilStopped(cmd.Context())
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
		}),
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the session has ended")
	cmd.Flags().BoolVar(&once, "once", false, "visit the servers of --url once, in the foreground")
	cmd.Flags().StringArrayVar(&urls, "url", nil, "a bootstrap server, https://HOST[:PORT]; may be given more than once")
	cmd.Flags().BoolVar(&trusted, "trusted", false, "treat the servers of --url as the maker's own")
	return cmd
}

func (a *app) daemonOptions() daemon.Options {
	return daemon.Options{Root: a.root, Version: release(), Logger: a.logger()}
}
