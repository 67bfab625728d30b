package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/xpu-sztp/ztp/pkg/daemon"
	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/pkg/statusview"
)

func (a *app) status() *cobra.Command {
	var verbose, asJSON, watch bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how provisioning goes",
		Long: "Show how provisioning goes, why it does not, and what to do about it.\n\n" +
			"Exit status: 0 provisioned, 1 failed, 2 in progress, 3 disabled, 4 not started; 69 when it cannot be told.",
		Args: cobra.NoArgs,
		RunE: a.do(func(cmd *cobra.Command, _ []string) error {
			show := func(s *state.Status) error {
				a.exit = s.ExitCode()
				return a.show(s, verbose, asJSON)
			}
			if !watch {
				s, err := daemon.Status(a.root)
				if err != nil {
					return err
				}
				return show(s)
			}
			ctx, stop := untilStopped(cmd.Context())
			defer stop()
			first := true
			return daemon.Follow(ctx, a.root, func(s *state.Status) error {
				if !first && !asJSON {
					fmt.Fprintln(a.out)
				}
				first = false
				return show(s)
			})
		}),
	}
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "show everything there is to know")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, one document a line with --watch")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "print the status again whenever it changes, until interrupted")
	cmd.MarkFlagsMutuallyExclusive("verbose", "json")
	return cmd
}

// show prints one status.
func (a *app) show(s *state.Status, verbose, asJSON bool) error {
	text := statusview.Short
	switch {
	case asJSON:
		return json.NewEncoder(a.out).Encode(s)
	case verbose:
		text = statusview.Verbose
	}
	_, err := fmt.Fprint(a.out, text(s, time.Now()))
	return err
}

// untilStopped ends the context at the first SIGINT or SIGTERM; the second one kills the process.
func untilStopped(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}
