package main

import (
	"github.com/spf13/cobra"

	"github.com/xpu-sztp/ztp/pkg/daemon"
)

func (a *app) disable() *cobra.Command {
	return &cobra.Command{
		Use:   "disable",
		Short: "Keep the device from provisioning itself, and end a session that runs",
		Long: "Keep the device from provisioning itself, now and at every boot, and end a session that runs: what it did is undone.\n" +
			"In a script of a session only the flag is turned off, and the session goes on to its end.",
		Args: cobra.NoArgs,
		RunE: a.do(func(cmd *cobra.Command, _ []string) error {
			control, err := daemon.NewControl(a.root)
			if err != nil {
				return err
			}
			return control.Disable(cmd.Context())
		}),
	}
}
