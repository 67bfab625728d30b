// Package command uses programs that know the boot loader of a device, or how to install its images: RAUC, SWUpdate,
// sonic-installer, mlxbf-bootctl, fw_setenv or a maker's own. They are given as argument vectors and run without a shell, in a
// clean environment, with limits on time and output. There are two ways to use them. A Loader only tells the boot loader,
// while the device writes the slots itself (slot.AB). An Installer hands them the image: it is downloaded to a private file,
// verified, read back, and given to the tool, which puts it where it belongs. What a power cut does while a tool works is up
// to the tool; what the Installer adds is that nothing unverified is handed to one, that the running slot counts as on trial
// from before a tool could make another one bootable until it is marked good, and that a tool is never asked to install
// while a slot is on trial or about to be. Presets say what each of the usual tools does for that, and what it does not.
package command

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/xpu-sztp/ztp/pkg/process"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

// Reasons why a tool could not be used.
const (
	CodeConfig   reason.Code = "installer-config"    // commands are missing, or have placeholders that do not exist
	CodeStart    reason.Code = "installer-start"     // it cannot be started
	CodeFailed   reason.Code = "installer-failed"    // it ended with an exit code other than 0
	CodeKilled   reason.Code = "installer-killed"    // it was ended by a signal
	CodeTimeout  reason.Code = "installer-timeout"   // it did not end in time
	CodeAnswer   reason.Code = "installer-answer"    // what its status command printed makes no sense
	CodeNoEffect reason.Code = "installer-no-effect" // it says that it did something, and its status says otherwise
	CodeSameSlot reason.Code = "installer-same-slot" // the image would replace the running one
)

// Tool is a program, or several that work together. Each action is a list of argument vectors, which run one after the other
// until one fails. Elements may have placeholders:
//
//	{slot}    the slot that the action is about: to install into, to activate, to deactivate, to mark good
//	{good}    the slot that is fallen back to
//	{device}  the device of {slot}, where slots have devices
//	{image}   the path of the image; with {sha256} in hexadecimal and {size} in bytes only in Install and Identify
type Tool struct {
	// Status prints what Answer finds. Without it an Installer cannot know which slot runs, nor that the device fell back:
	// whether the image runs then shows only in its name and version.
	Status [][]string
	// Answer has the places in what Status prints. A preset may have more than patterns; these replace it.
	Answer Answer
	// Identify prints, in its first line, the name of the slot that {image} is going to be, for installers with a slot for each
	// image. Only an Installer uses it, with the placeholders of Install.
	Identify [][]string
	// Install puts {image} into the slot that does not run. Not used by a Loader.
	Install [][]string
	// Activate has {slot} tried at the next boot. Without it Install does.
	Activate [][]string
	// Rearm does that where {slot} is the next one already; without it Activate, which then must be harmless when repeated, as
	// must Deactivate.
	Rearm [][]string
	// Deactivate takes that back. Without it nothing can, and an image that was installed is tried.
	Deactivate [][]string
	// MarkGood makes {slot}, which runs, the one that boots from now on. Without it the boot loader does not fall back.
	MarkGood [][]string
	// EachBoot runs MarkGood whenever it is known that the system is good, not only after a trial: for boot loaders that
	// count every boot.
	EachBoot bool

	parse      func(output []byte) (*answer, error) // where Answer is empty
	needsSlots bool                                 // Install has to be told into which one
}

// Answer says where a slot is named in the lines that a status command prints. Each is a whole line with "(*)" in the place
// of the name, such as "Current: (*)"; the first line that fits counts. An empty one is not looked for.
type Answer struct {
	Running string // the slot that runs
	Good    string // the slot that is fallen back to
	Next    string // the slot that starts at the next boot, which may be the running one
	Other   string // the slot that does not run
	Tries   string // how often Next may still be started
}

// Slot is one of two slots that have devices.
type Slot struct {
	Name     string
	Device   string // what the tool may call it instead of Name, and what {device} stands for
	Argument string // the parameter in the kernel's command line that tells that it runs, where the tool does not; may be empty
}

// Limits are how long actions may take; 0 is the default.
type Limits struct {
	Install time.Duration // 1 hour
	Other   time.Duration // 1 minute
}

const (
	maxAnswer = 256 << 10 // bytes of a status
	maxSaid   = 250       // bytes of what a tool printed, for people
)

// mark is in the environment of every process of a tool.
const markVariable = "ZTP_INSTALLER"

// action returns the commands of an action, by its name in the configuration.
func (t *Tool) action(name string) *[][]string {
	switch name {
	case "status":
		return &t.Status
	case "identify":
		return &t.Identify
	case "install":
		return &t.Install
	case "activate":
		return &t.Activate
	case "rearm":
		return &t.Rearm
	case "deactivate":
		return &t.Deactivate
	}
	return &t.MarkGood
}

// check refuses what could not work, before anything depends on it.
func (t *Tool) check(slots []Slot) error {
	known := map[string]string{}
	for _, name := range strings.Fields("status slot good activate rearm deactivate mark-good image sha256 size identify install") {
		switch name {
		case "slot", "good", "image", "sha256", "size":
			known[name] = ""
			if len(slots) > 0 {
				known["device"] = ""
			}
			continue
		}
		for _, argv := range *t.action(name) {
			if len(argv) == 0 || argv[0] == "" || strings.Contains(argv[0], "{") {
				return configError("the command for " + name + " names no program")
			}
			if _, err := expand(argv, known); err != nil {
				return configError("the command for " + name + ": " + err.Error())
			}
		}
	}
	for _, pattern := range []string{t.Answer.Running, t.Answer.Good, t.Answer.Next, t.Answer.Other, t.Answer.Tries} {
		if pattern != "" && strings.Count(pattern, place) != 1 {
			return configError("the status pattern " + strconv.Quote(pattern) + " must have " + place + " once, where the name of the slot is")
		}
	}
	return nil
}

func configError(msg string) error {
	return fail(CodeConfig, msg, "correct [command] or [image.slot]; the commented default file ztp.toml explains each key", nil)
}

// fixFolder is what to do about a folder that fails.
func fixFolder(path string) string {
	return "see that " + path + " is on a file system with room, mounted for writing, also for the unit; the kernel log tells of failing storage"
}

func fail(code reason.Code, msg, fix string, err error) error {
	return &reason.Error{Code: code, Msg: msg, Fix: fix, Err: err}
}

// expand puts values into the places of an argument vector. An element stays one element, whatever is put into it.
func expand(argv []string, values map[string]string) ([]string, error) {
	var out []string
	for _, element := range argv {
		var b strings.Builder
		rest := element
		for {
			text, more, found := strings.Cut(rest, "{")
			b.WriteString(text)
			if !found {
				break
			}
			name, behind, closed := strings.Cut(more, "}")
			value, known := values[name]
			if !closed || !known {
				return nil, fmt.Errorf("there is no placeholder {%.32s", more)
			}
			b.WriteString(value)
			rest = behind
		}
		out = append(out, b.String())
	}
	return out, nil
}

// run runs the argument vectors of an action, and returns what they printed on their standard output.
func run(ctx context.Context, action string, argvs [][]string, values map[string]string, limit time.Duration) ([]byte, error) {
	var printed []byte
	for _, argv := range argvs {
		argv, err := expand(argv, values)
		if err != nil {
			return nil, configError(err.Error())
		}
		mark := markVariable + "=" + rand.Text()
		r, err := process.Run(ctx, process.Command{
			Argv: argv, Dir: "/", Env: []string{"PATH=" + process.Path, "LANG=C.UTF-8", "HOME=/", mark}, Mark: mark,
			Timeout: limit, Answer: maxAnswer,
		})
		what := strings.Join(argv, " ") + " (to " + action + ")"
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s was stopped: %w", what, context.Cause(ctx))
		}
		if err != nil {
			return nil, fail(CodeStart, what+" cannot be started", "install the program where "+process.Path+" finds it, or correct [command] in the configuration", err)
		}
		if err := judge(what, limit, &r); err != nil {
			return nil, err
		}
		printed = append(append(printed, r.Answer...), '\n')
	}
	return printed, nil
}

// judge makes of how a tool ended what a person has to know.
func judge(what string, limit time.Duration, r *process.Result) error {
	code, fix, how := CodeFailed, "run the command by hand and see what it complains about; its own log may tell more", ""
	switch status := r.State.Sys().(syscall.WaitStatus); {
	case r.TimedOut:
		code, how = CodeTimeout, " did not end within "+limit.String()+" and was killed"
		fix = "run the command by hand to see what it waits for, or raise timeout or install-timeout in [command]"
	case status.Signaled():
		code, how = CodeKilled, " was ended by a signal: "+status.Signal().String()
		fix = "look in the kernel log whether the device ran out of memory"
	case status.ExitStatus() != 0:
		how = " failed with exit code " + strconv.Itoa(status.ExitStatus())
	default:
		return nil
	}
	if text := strings.TrimSpace(string(r.Answer) + r.Output); text != "" {
		how += ": " + strconv.Quote(text[max(0, len(text)-maxSaid):])
	}
	return fail(code, what+how, fix, nil)
}
