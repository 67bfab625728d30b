package ztp

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/xpu-sztp/ztp/cmd/internal/command"
	"github.com/xpu-sztp/ztp/pkg/daemon"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/pkg/statusview"
)

func (a *app) status() *command.Command {
	var verbose, asJSON, watch bool
	return &command.Command{
		Name:  "status",
		Short: "Show how provisioning goes",
		Long:  "Show how provisioning goes, why it does not, and what to do about it.",
		Flags: []command.Flag{
			{Name: "verbose", Letter: "v", On: &verbose, Usage: "show everything there is to know"},
			{Name: "json", On: &asJSON, Usage: "print JSON, one document a line with --watch"},
			{Name: "watch", Letter: "w", On: &watch, Usage: "print the status again whenever it changes, until interrupted"},
		},
		Exclusive: [][2]string{{"verbose", "json"}},
		Exit: []command.Entry{
			{Term: "0", Text: "provisioned"},
			{Term: "1", Text: "failed"},
			{Term: "2", Text: "in progress"},
			{Term: "3", Text: "disabled"},
			{Term: "4", Text: "not started"},
			{Term: "69", Text: "it cannot be told"},
		},
		Run: func(ctx context.Context, _ []string) error {
			if _, err := os.Stat(a.root); err != nil { // where nothing is, nothing would seem to have started
				return &reason.Error{Code: command.Usage, Msg: "there is no device to tell of", Err: err, Fix: "check --root and ZTP_ROOT"}
			}
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
			ctx, stop := untilStopped(ctx)
			defer stop()
			first := true
			return daemon.Follow(ctx, a.root, func(s *state.Status) error {
				if !first && !asJSON {
					fmt.Fprintln(a.out)
				}
				first = false
				return show(s)
			})
		},
	}
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
