package onboard

import (
	"context"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/state"
)

const (
	reportTimeout  = 60 * time.Second // for a report whose acknowledgement matters
	passingTimeout = 15 * time.Second // for one that changes nothing
	errorTimeout   = 5 * time.Second  // for an error report, which must not keep the device from its next attempt
	maxText        = 4 << 10          // bytes of a message, not counting the output of a script
	maxReports     = 100              // shown in the status
)

// reports sends the progress reports of one session. Without a reporter it sends none.
type reports struct {
	to    Reporter
	level progress.Level
	board Board
	log   *slog.Logger
	now   func() time.Time
}

func (e *Executor) reports(to Reporter, level progress.Level) reports {
	return reports{to: to, level: level, board: e.Board, log: e.Logger, now: e.Now}
}

// ReportParsingError tells a trusted server that what it sent is not valid: bootstrap-initiated, then parsing-error with
// the message of cause (RFC 8572 §5.6). When the server does not take the first, bootstrap-error follows instead. It
// never does anything for a nil to. The device is done with the server whatever becomes of the reports.
func (e *Executor) ReportParsingError(ctx context.Context, to Reporter, level progress.Level, cause error) {
	e.Board.Update(func(s *state.Status) { s.Reports = nil })
	r := e.reports(to, level)
	if err := r.finish(ctx, progress.Report{Type: progress.BootstrapInitiated}); err != nil {
		r.fail(ctx, asFailure(err))
		return
	}
	r.send(ctx, progress.ParsingInitiated, "")
	r.fail(ctx, &failure{report: progress.ParsingError, err: cause})
}

// open sends what comes before the first step. That the information was parsed is told afterwards, since nothing could
// be reported before it was known to be onboarding information.
func (r reports) open(ctx context.Context, warnings []string) error {
	if err := r.finish(ctx, progress.Report{Type: progress.BootstrapInitiated}); err != nil {
		return err
	}
	r.send(ctx, progress.ParsingInitiated, "")
	if len(warnings) > 0 {
		r.send(ctx, progress.ParsingWarning, strings.Join(warnings, "\n"))
	}
	r.send(ctx, progress.ParsingComplete, "")
	return nil
}

// finish sends a report that the server must acknowledge.
func (r reports) finish(ctx context.Context, p progress.Report) error {
	if err := r.deliver(ctx, reportTimeout, p); err != nil {
		return &failure{report: progress.BootstrapError, err: &reason.Error{
			Code: ReasonReport,
			Msg:  "the bootstrap server did not acknowledge " + string(p.Type),
			Fix:  "the server must answer 204 No Content; look at its log",
			Err:  err,
		}}
	}
	return nil
}

// send sends a report in passing: whether the server takes it changes nothing.
func (r reports) send(ctx context.Context, t progress.Type, message string) {
	r.deliver(ctx, passingTimeout, progress.Report{Type: t, Message: clean(message)})
}

// fail sends the error report of f, also when ctx has ended, but not for long.
func (r reports) fail(ctx context.Context, f *failure) {
	message := limitText(f.err.Error())
	if _, hint := reason.Of(f.err); hint != "" {
		message += " (" + limitText(hint) + ")"
	}
	if f.output != "" {
		message += "\n" + f.output
	}
	r.deliver(context.WithoutCancel(ctx), errorTimeout, progress.Report{Type: f.report, Message: clean(message)})
}

func (r reports) deliver(ctx context.Context, timeout time.Duration, p progress.Report) error {
	if r.to == nil || !p.Type.WantedAt(r.level) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := r.to.ReportProgress(ctx, p)
	shown := state.Report{Type: string(p.Type), At: r.now().UTC(), Accepted: err == nil}
	if err != nil {
		shown.Detail = err.Error()
		r.log.Warn("progress report was not accepted", "type", p.Type, "error", err)
	}
	r.board.Update(func(s *state.Status) {
		if len(s.Reports) < maxReports {
			s.Reports = append(s.Reports, shown)
		}
	})
	return err
}

func limitText(s string) string {
	if len(s) <= maxText {
		return s
	}
	return s[:maxText] + " …"
}

// clean makes s a YANG string (RFC 7950 §9.4): valid UTF-8 without control characters other than tab and line ends, and
// without noncharacters.
func clean(s string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c == '\t' || c == '\n' || c == '\r':
			return c
		case c < 0x20 || c == 0x7f, c&0xfffe == 0xfffe, c >= 0xfdd0 && c <= 0xfdef:
			return utf8.RuneError
		}
		return c
	}, strings.ToValidUTF8(s, string(utf8.RuneError)))
}
