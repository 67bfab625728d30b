package ztp

import (
	"context"
	"io"
	"strings"

	"github.com/xpu-sztp/ztp/cmd/internal/command"
)

func (a *app) completion() *command.Command {
	return &command.Command{
		Name:  "completion",
		Short: "Print the completion script for a shell: bash, zsh or fish",
		Arg:   command.Argument(strings.Join(command.Shells(), "|")),
		Min:   1,
		Max:   1,
		Run: func(_ context.Context, args []string) error {
			_, err := io.WriteString(a.out, command.CompletionScript("ztp", args[0]))
			return err
		},
	}
}
