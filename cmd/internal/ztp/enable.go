package ztp

import (
	"context"

	"github.com/xpu-sztp/ztp/cmd/internal/command"
	"github.com/xpu-sztp/ztp/pkg/daemon"
)

func (a *app) enable() *command.Command {
	return &command.Command{
		Name:  "enable",
		Short: "Let the device provision itself, now and at every boot until it succeeds",
		Run: func(ctx context.Context, _ []string) error {
			control, err := daemon.NewControl(a.root)
			if err != nil {
				return err
			}
			return control.Enable(ctx)
		},
	}
}
