package command

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"unicode"

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
func (a *Answer) read(output []byte) (*answer, error) {
	patterns := [...]string{a.Running, a.Good, a.Next, a.Other, a.Tries}
	var values [len(patterns)]string
	for i, pattern := range patterns {
		before, after, wanted := strings.Cut(pattern, place)
		for line := range strings.Lines(string(output)) {
			rest, begins := strings.CutPrefix(strings.TrimSpace(line), before)
			rest, ends := strings.CutSuffix(rest, after)
			if wanted && begins && ends {
				values[i] = strings.TrimSpace(rest)
				break
			}
		}
	}
	found := &answer{running: values[0], good: values[1], next: values[2], other: values[3]}
	if values[4] != "" {
		tries, err := strconv.ParseUint(values[4], 10, 31)
		if err != nil {
			return nil, err
		}
		found.tries = int(tries)
	}
	return found, nil
}

// ask runs the status command, if there is one, and returns what it says, with the names that the configuration has for
// slots.
func (o *Options) ask(ctx context.Context) (*answer, error) {
	a := &answer{}
	if o.Tool.Status != nil {
		output, err := run(ctx, "read the status", o.Tool.Status, nil, o.Limits.Other)
		if err != nil {
			return nil, err
		}
		parse := o.Tool.parse
		if parse == nil || o.Tool.Answer != (Answer{}) {
			parse = o.Tool.Answer.read
		}
		if len(output) > maxAnswer {
			err = errors.New("it is more than 256 KiB")
		} else {
			a, err = parse(output)
		}
		if err != nil {
			return nil, o.answerError(err)
		}
	}
	for _, name := range []*string{&a.running, &a.good, &a.next, &a.other} {
		if !usable(*name) {
			return nil, o.answerError(errors.New(strconv.Quote(*name) + " cannot be the name of a slot"))
		}
		for i := range o.Slots {
			if s := &o.Slots[i]; *name == s.Device && s.Device != "" {
				*name = s.Name
			}
		}
	}
	if a.running == "" && len(o.Slots) > 0 && o.Slots[0].Argument != "" {
		arguments := map[string]string{}
		for i := range o.Slots {
			arguments[o.Slots[i].Name] = o.Slots[i].Argument
		}
		var err error
		a.running, err = slot.RunningByCommandLine(o.CommandLine, arguments)
		return a, err
	}
	if a.running == "" && o.Tool.Status != nil && o.Tool.Answer.Running != "" {
		return nil, o.answerError(errors.New("no line of it is like " + strconv.Quote(o.Tool.Answer.Running)))
	}
	return a, nil
}

// answerError is what is wrong with a status.
func (o *Options) answerError(err error) error {
	status := strings.Join(o.Tool.Status[0], " ")
	return fail(CodeAnswer, "what `"+status+"` prints does not tell about the slots",
		"run it, and compare what it prints with running, good, next and other in [command], and with the names in [image.slot]", err)
}

// usable tells whether a name can be an argument: a tool that is fooled must not fool the next one.
func usable(name string) bool {
	return len(name) <= maxName && !strings.HasPrefix(name, "-") &&
		!strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar })
}
