package ztp

import (
	"context"

	"github.com/xpu-sztp/ztp/cmd/internal/command"
	"github.com/xpu-sztp/ztp/pkg/daemon"
)

func (a *app) disable() *command.Command {
	return &command.Command{
		Name:  "disable",
		Short: "Keep the device from provisioning itself, and end a session that runs",
		Long: "Keep the device from provisioning itself, now and at every boot, and end a session that runs: what it did is undone.\n" +
			"In a script of a session only the flag is turned off, and the session goes on to its end.",
		Run: func(ctx context.Context, _ []string) error {
			control, err := daemon.NewControl(a.root)
			if err != nil {
				return err
			}
			return control.Disable(ctx)
		},
	}
}
