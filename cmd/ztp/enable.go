package main

import (
	"github.com/spf13/cobra"

	"github.com/xpu-sztp/ztp/pkg/daemon"
)

func (a *app) enable() *cobra.Command {
	return &cobra.Command{
		Use:   "enable",
		Short: "Let the device provision itself, now and at every boot until it succeeds",
		Args:  cobra.NoArgs,
		RunE: a.do(func(cmd *cobra.Command, _ []string) error {
			control, err := daemon.NewControl(a.root)
			if err != nil {
				return err
			}
			return control.Enable(cmd.Context())
		}),
	}
}
