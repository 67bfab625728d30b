package onboard

import (
	"context"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// handler commits a configuration. What it needs to take that back is in the journal before commit changes anything.
type handler interface {
	// prepare checks what can be checked beforehand, makes backups durable, and returns the journal entry.
	prepare(s *session, c *artifacts.Configuration) (state.Entry, error)
	// commit makes the configuration take effect, wholly or not at all.
	commit(ctx context.Context, s *session, c *artifacts.Configuration) (finished, error)
}

func (e *Executor) configurationHandler() handler {
	switch e.Configuration.Handler {
	case "file":
		return fileHandler{path: e.Configuration.Path}
	case "cloud-init":
		return cloudInitHandler{
			path: e.Configuration.Seed, command: e.Configuration.Command, timeout: time.Duration(e.Configuration.Timeout),
		}
	case "exec":
		return execHandler{command: e.Configuration.Command, timeout: time.Duration(e.Configuration.Timeout)}
	}
	return noHandler{}
}

// configure commits the configuration, if there is one.
func (s *session) configure(ctx context.Context) error {
	if s.config == nil {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s.send(ctx, progress.ConfigInitiated, "")
	s.stepBegins(state.StepConfiguration)
	done, err := s.commit(ctx)
	if err != nil {
		code, _ := reason.Of(err)
		s.stepEnds(state.StepConfiguration, string(code), done.ExitCode(), err.Error())
		return &failure{report: progress.ConfigError, err: err, output: done.Output}
	}
	result := "complete"
	if done.warning {
		s.send(ctx, progress.ConfigWarning, done.Output)
		result = "warning"
	}
	s.stepEnds(state.StepConfiguration, result, done.ExitCode(), "")
	s.send(ctx, progress.ConfigComplete, "")
	return nil
}

func (s *session) commit(ctx context.Context) (finished, error) {
	entry, err := s.handler.prepare(s, s.config)
	if err != nil {
		return finished{}, err
	}
	entry.Step = state.StepConfiguration
	if err := s.record(entry); err != nil {
		return finished{}, err
	}
	return s.handler.commit(ctx, s, s.config)
}

// noHandler is the handler of a device that takes no configuration.
type noHandler struct{}

func (noHandler) prepare(*session, *artifacts.Configuration) (state.Entry, error) {
	return state.Entry{}, &reason.Error{
		Code: ReasonConfigNoHandler,
		Msg:  "the onboarding information has a configuration, and this device has no handler for one",
		Fix:  `set configuration.handler to "file", "exec" or "cloud-init", or leave the configuration out`,
	}
}

func (noHandler) commit(context.Context, *session, *artifacts.Configuration) (finished, error) {
	return finished{}, nil
}

// execHandler leaves the configuration to an external program. It gets the configuration on standard input, and "merge"
// or "replace" as its last argument; the exit code is judged like that of a script. To undo, it is run again with the
// same input and "undo". It must commit atomically, and "undo" must do nothing when there is nothing to undo.
type execHandler struct {
	command []string
	timeout time.Duration
}

var configReasons = verdictReasons{
	start: ReasonConfigStart, failed: ReasonConfigFailed, killed: ReasonConfigKilled, timeout: ReasonConfigTimeout,
}

func (h execHandler) prepare(s *session, c *artifacts.Configuration) (state.Entry, error) {
	if len(h.command) == 0 {
		return state.Entry{}, &reason.Error{
			Code: ReasonConfigNoHandler, Msg: "configuration.command is empty", Fix: "name the program that commits configurations",
		}
	}
	// What cannot be started has no effect that would have to be undone.
	if _, err := exec.LookPath(h.command[0]); err != nil {
		return state.Entry{}, &reason.Error{
			Code: ReasonConfigStart, Msg: "the program that commits configurations is missing or cannot be executed",
			Fix: "correct configuration.command, or install the program", Err: err,
		}
	}
	return state.Entry{Staged: stagedConfig, Command: h.command}, s.stage(stagedConfig, c.Data, 0o600)
}

func (h execHandler) commit(ctx context.Context, s *session, c *artifacts.Configuration) (finished, error) {
	return s.runHandler(ctx, h.command, string(c.Handling), s.id, h.timeout)
}

// undoCommand runs the handler that made the change, even if another one is configured by now.
func (e *Executor) undoCommand(ctx context.Context, entry state.Entry) error {
	_, err := e.runHandler(ctx, entry.Command, "undo", entry.Session, time.Duration(e.Configuration.Timeout))
	return err
}

func (e *Executor) runHandler(
	ctx context.Context, command []string, action, session string, timeout time.Duration,
) (finished, error) {
	return e.runJudged(ctx, job{
		argv:    append(slices.Clone(command), action),
		step:    state.StepConfiguration,
		action:  action,
		session: session,
		stdin:   filepath.Join(e.Dir, stagedConfig),
		timeout: timeout,
	}, configReasons)
}
