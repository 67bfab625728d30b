package ztp

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/xpu-sztp/ztp/cmd/internal/command"
	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/daemon"
	"github.com/xpu-sztp/ztp/pkg/doctor"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

const doctorHelp = `Say whether the device could be provisioned, line by line: pass, warn or fail, what was found, and what to do about it.
Nothing on the device is changed. Addresses that it leases for a moment, as the agent would, are given back; interfaces that
are down are brought up and taken down again only where the agent would begin a session, were it started. Servers are
connected to with the device's identity, and not asked for anything. While the agent runs, nothing is done that could disturb
it: what it has found is reported.

--json prints one object with "schema", which grows when a member goes away or changes its meaning; "version"; "result", the
worst of all; and "checks", a list of "check", which is a stable name, "subject", "verdict", "code", "finding" and "fix".`

func (a *app) doctor() *command.Command {
	var asJSON bool
	o := daemon.DiagnoseOptions{Timeout: 30 * time.Second}
	return &command.Command{
		Name:     "doctor",
		Synopsis: "[--offline | --url URL…] [--timeout TIME] [--json]",
		Short:    "Check whether the device could be provisioned, and what keeps it from that",
		Long:     doctorHelp,
		Flags: []command.Flag{
			{Name: "json", On: &asJSON, Usage: "print JSON, when all is known"},
			{Name: "offline", On: &o.Offline, Usage: "send nothing on any network"},
			{Name: "url", Arg: "URL", List: &o.Servers, Usage: "a bootstrap server to look at, besides those that are found; may be given more than once"},
			{Name: "timeout", Arg: "TIME", Parse: func(s string) (err error) {
				if o.Timeout, err = time.ParseDuration(s); err == nil && (o.Timeout < time.Second || o.Timeout > time.Hour) {
					err = errors.New("it is not between 1s and 1h")
				}
				return err
			}, Usage: "how long all of it may take; without it, 30s"},
		},
		Exclusive: [][2]string{{"offline", "url"}},
		Check: func([]string) error {
			_, err := config.Servers(o.Servers, nil)
			return err
		},
		Exit: []command.Entry{
			{Term: "0", Text: "every check passed, or ended with a warning"},
			{Term: "1", Text: "some failed"},
			{Term: "64", Text: "the command line is wrong"},
		},
		Run: func(ctx context.Context, _ []string) error {
			if _, err := os.Stat(a.root); err != nil {
				return &reason.Error{Code: command.Usage, Msg: "there is no device to look at", Err: err, Fix: "check --root and ZTP_ROOT"}
			}
			ctx, stop := untilStopped(ctx)
			defer stop()
			o.Root, o.Logger = a.root, a.quiet()
			report := doctor.Report{Schema: doctor.Schema, Version: a.built()}
			err := daemon.Diagnose(ctx, o, func(r *doctor.Result) {
				report.Add(r)
				if !asJSON {
					io.WriteString(a.out, r.Text())
				}
			})
			if report.Result == doctor.Fail {
				a.exit = 1
			}
			if err == nil && asJSON {
				err = json.NewEncoder(a.out).Encode(report)
			}
			return err
		},
	}
}

// quiet logs only where that is asked for: what is found is told in other words.
func (a *app) quiet() *slog.Logger {
	if a.debug {
		return a.logger()
	}
	return slog.New(slog.DiscardHandler)
}
