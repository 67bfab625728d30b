package onboard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// scriptStep is one of the two scripts of onboarding information.
type scriptStep struct {
	name                                state.StepName
	staged                              string
	initiated, warning, failed, succeed progress.Type
}

var (
	preScript = scriptStep{
		state.StepPreScript, stagedPre,
		progress.PreScriptInitiated, progress.PreScriptWarning, progress.PreScriptError, progress.PreScriptComplete,
	}
	postScript = scriptStep{
		state.StepPostScript, stagedPost,
		progress.PostScriptInitiated, progress.PostScriptWarning, progress.PostScriptError, progress.PostScriptComplete,
	}
)

var scriptReasons = verdictReasons{
	start: ReasonScriptStart, failed: ReasonScriptFailed, killed: ReasonScriptKilled, timeout: ReasonScriptTimeout,
}

// script runs one script, if there is one. An empty script does nothing and is treated as absent.
func (s *session) script(ctx context.Context, step scriptStep, body []byte) error {
	if len(body) == 0 {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s.send(ctx, step.initiated, "")
	s.stepBegins(step.name)
	done, err := s.runScript(ctx, step, body)
	if err != nil {
		code, _ := reason.Of(err)
		s.stepEnds(step.name, string(code), done.ExitCode(), err.Error())
		return &failure{report: step.failed, err: err, output: done.Output}
	}
	if done.warning {
		s.send(ctx, step.warning, done.Output)
		s.stepEnds(step.name, "warning", done.ExitCode(), "")
		s.send(ctx, step.succeed, "")
		return nil
	}
	s.stepEnds(step.name, "complete", done.ExitCode(), "")
	s.send(ctx, step.succeed, done.Output)
	return nil
}

// runScript keeps the script where its undoing will find it, records that, and runs it.
func (s *session) runScript(ctx context.Context, step scriptStep, body []byte) (finished, error) {
	if _, err := interpreter(body); err != nil {
		return finished{}, err
	}
	if err := s.stage(step.staged, body, 0o700); err != nil {
		return finished{}, err
	}
	if err := s.record(state.Entry{Step: step.name, Staged: step.staged}); err != nil {
		return finished{}, err
	}
	return s.startScript(ctx, step.name, step.staged, s.id, "run")
}

// undoScript runs a script once more, with the argument "undo". After a power cut that happens although the script never
// began, or although it was undone already; there must be no harm in it.
func (e *Executor) undoScript(ctx context.Context, entry state.Entry) error {
	_, err := e.startScript(ctx, entry.Step, entry.Staged, entry.Session, "undo")
	return err
}

func (e *Executor) startScript(ctx context.Context, step state.StepName, staged, id, action string) (finished, error) {
	path := filepath.Join(e.Dir, staged)
	body, err := os.ReadFile(path)
	if err != nil {
		return finished{}, &reason.Error{Code: ReasonStaging, Msg: "cannot read the staged script", Err: err}
	}
	argv, err := interpreter(body)
	if err != nil {
		return finished{}, err
	}
	argv = append(argv, path)
	if action == "undo" {
		argv = append(argv, "undo")
	}
	return e.runJudged(ctx, job{
		argv: argv, step: step, action: action, session: id, timeout: time.Duration(e.Scripts.Timeout),
	}, scriptReasons)
}

// interpreter returns the argument vector that the "#!" line of a script asks for. The line is honoured here and not by
// the kernel, so that a state folder on a file system without exec permission serves, and a missing interpreter has a
// name. There is no default interpreter: half a script run by the wrong one does harm.
func interpreter(body []byte) ([]string, error) {
	refuse := func(msg string, err error) ([]string, error) {
		return nil, &reason.Error{
			Code: ReasonScriptNoInterpreter,
			Msg:  msg,
			Fix:  `begin the script with a line such as "#!/bin/sh" that names an interpreter on the device, ended by a line feed`,
			Err:  err,
		}
	}
	line, _, _ := bytes.Cut(body[:min(len(body), 256)], []byte("\n"))
	rest, ok := strings.CutPrefix(string(line), "#!")
	if !ok {
		return refuse(`the script does not begin with "#!"`, nil)
	}
	if len(line) == 256 {
		return refuse(`the "#!" line of the script is longer than 255 bytes`, nil)
	}
	if strings.ContainsAny(rest, "\r\x00") {
		return refuse(`the "#!" line of the script has a carriage return or NUL in it`, nil)
	}
	// As in execve(2): the interpreter, and everything after it as one argument.
	rest = strings.Trim(rest, " \t")
	program, argument := rest, ""
	if i := strings.IndexAny(rest, " \t"); i >= 0 {
		program, argument = rest[:i], strings.TrimLeft(rest[i:], " \t")
	}
	if !filepath.IsAbs(program) {
		return refuse(fmt.Sprintf("the interpreter %q of the script is not an absolute path", program), nil)
	}
	if info, err := os.Stat(program); err != nil {
		return refuse(fmt.Sprintf("the interpreter %q of the script is missing", program), errors.Unwrap(err))
	} else if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return refuse(fmt.Sprintf("the interpreter %q of the script is not executable", program), fs.ErrPermission)
	}
	if argument == "" {
		return []string{program}, nil
	}
	return []string{program, argument}, nil
}

// stepBegins and stepEnds show a step in the status.
func (e *Executor) stepBegins(name state.StepName) {
	e.Logger.Info("step begins", "step", name)
	e.Board.Update(func(s *state.Status) {
		s.Steps = append(s.Steps, state.Step{Name: string(name), Result: "running", Started: e.Now().UTC()})
	})
}

func (e *Executor) stepEnds(name state.StepName, result string, exit *int, detail string) {
	e.Logger.Info("step ends", "step", name, "result", result)
	e.Board.Update(func(s *state.Status) {
		if step := latest(s, name); step != nil {
			step.Result, step.Exit, step.Detail, step.Ended = result, exit, detail, e.Now().UTC()
		}
	})
}

// stepUndone shows what came of undoing a step. One that failed keeps the reason of its failure; one that an earlier session has
// left is shown as well.
func (e *Executor) stepUndone(entry state.Entry, err error) {
	came := "done"
	if err != nil {
		came = "failed"
	}
	e.Logger.Info("undoing ends", "step", entry.Step, "result", came)
	e.Board.Update(func(s *state.Status) {
		step := latest(s, entry.Step)
		if step == nil {
			s.Steps = append(s.Steps, state.Step{Name: string(entry.Step), Result: "interrupted", Started: entry.At})
			step = latest(s, entry.Step)
		}
		if step.Undo = came; err == nil && (step.Result == "running" || step.Result == "complete" || step.Result == "warning") {
			step.Result, step.Ended = "undone", e.Now().UTC()
		}
	})
}

func latest(s *state.Status, name state.StepName) *state.Step {
	for i := range slices.Backward(s.Steps) {
		if s.Steps[i].Name == string(name) {
			return &s.Steps[i]
		}
	}
	return nil
}
