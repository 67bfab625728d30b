package ztp

import (
	"context"

	"github.com/xpu-sztp/ztp/cmd/internal/command"
	"github.com/xpu-sztp/ztp/pkg/daemon"
)

func (a *app) bootGood() *command.Command {
	return &command.Command{
		Name:  "boot-good",
		Short: "Wait until the running system is good; this is what ztp-boot-good.service runs",
		Long: "Wait until the running system is good: when it is on trial, until the server has acknowledged the end of the session and the\n" +
			"boot loader was told; otherwise not at all. What calls a system good at boot, such as systemd-bless-boot.service, waits for this\n" +
			"by boot-complete.target.",
		Exit: []command.Entry{
			{Term: "0", Text: "it is good"},
			{Term: "69", Text: "nobody is going to find it good, or it cannot be told"},
			{Term: "78", Text: "the configuration is invalid"},
		},
		Run: func(ctx context.Context, _ []string) error {
			ctx, stop := untilStopped(ctx)
			defer stop()
			return daemon.AwaitGood(ctx, a.daemonOptions())
		},
	}
}
