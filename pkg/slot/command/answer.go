package command

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/slot"
)

// place stands for the name of a slot in a pattern.
const place = "(*)"

// maxName is the longest name of a slot, in bytes.
const maxName = 128

// answer is what a tool knows; what it does not say is empty.
type answer struct {
	running, good, next, other string
	tries                      int
}

// read finds the places in what a status command printed.
func (a Answer) read(output []byte) (found answer, err error) {
	tries := ""
	for _, f := range []struct {
		pattern string
		value   *string
	}{{a.Running, &found.running}, {a.Good, &found.good}, {a.Next, &found.next}, {a.Other, &found.other}, {a.Tries, &tries}} {
		before, after, wanted := strings.Cut(f.pattern, place)
		for line := range strings.Lines(string(output)) {
			rest, begins := strings.CutPrefix(strings.TrimSpace(line), before)
			rest, ends := strings.CutSuffix(rest, after)
			if wanted && begins && ends {
				*f.value = strings.TrimSpace(rest)
				break
			}
		}
	}
	if tries != "" {
		if found.tries, err = strconv.Atoi(tries); err != nil || found.tries < 0 {
			return found, fmt.Errorf("%.32q is no number of tries", tries)
		}
	}
	return found, nil
}

// ask runs the status command and returns what it says, with the names that the configuration has for slots.
func ask(ctx context.Context, t *Tool, slots []Slot, limits Limits, commandLine string) (answer, error) {
	output, err := run(ctx, "read the status", t.Status, nil, limits.Other)
	if err != nil {
		return answer{}, err
	}
	parse := t.parse
	if parse == nil {
		parse = t.Answer.read
	}
	a, err := parse(output)
	for _, name := range []*string{&a.running, &a.good, &a.next, &a.other} {
		if err == nil && !usable(*name) {
			err = fmt.Errorf("%.64q cannot be the name of a slot", *name)
		}
		for _, s := range slots {
			if s.Device != "" && *name == s.Device {
				*name = s.Name
			}
		}
	}
	if err != nil {
		return answer{}, answerError("what "+t.Status[0][0]+" prints as its status makes no sense", err)
	}
	if a.running == "" && len(slots) > 0 && slots[0].Argument != "" {
		arguments := map[string]string{}
		for _, s := range slots {
			arguments[s.Name] = s.Argument
		}
		a.running, err = slot.RunningByCommandLine(commandLine, arguments)
	}
	return a, err
}

// usable tells whether a name can be an argument: a tool that is fooled must not fool the next one.
func usable(name string) bool {
	return len(name) <= maxName && !strings.HasPrefix(name, "-") &&
		!strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar })
}

func answerError(msg string, err error) error {
	return &reason.Error{Code: CodeAnswer, Msg: msg, Fix: "compare what it prints with the patterns in the configuration", Err: err}
}
