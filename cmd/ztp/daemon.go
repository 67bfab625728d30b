package main

import (
	"github.com/spf13/cobra"

	"github.com/xpu-sztp/ztp/pkg/daemon"
)

func (a *app) daemon() *cobra.Command {
	return &cobra.Command{
		Use:   "daemon",
		Short: "Provision the device; this is what the unit runs",
		Long: "Provision the device: look for a bootstrap server until one has provisioned it. Ends at once on a device that is\n" +
			"disabled or provisioned.\n\n" +
			"Exit status: 0 when there is nothing (more) to do, 78 when the configuration is invalid, 69 on any other error.",
		Args: cobra.NoArgs,
		RunE: a.do(func(cmd *cobra.Command, _ []string) error {
			ctx, stop := untilStopped(cmd.Context())
			defer stop()
			_, err := daemon.Run(ctx, a.daemonOptions())
			return err
		}),
	}
}
