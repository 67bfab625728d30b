// Package statusview turns the status of the agent into text for people, one fact a line. The short form fits a screen
// and answers why a device did not come up; the verbose form tells everything the status holds. It does no I/O. What came
// from the network is printed so that it cannot forge lines or move the cursor.
package statusview

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/xpu-sztp/ztp/pkg/state"
)

// Short returns what a person looks at first, at most some twenty lines. now is the time to measure waits and durations
// against.
func Short(s *state.Status, now time.Time) string {
	p := page{now: now}
	p.summary(s)
	p.fact("device", join(", ", s.Device.SerialNumber, s.Device.HWModel, words(s.Device.OSName, s.Device.OSVersion)))
	if id := s.Identity; id != nil {
		p.fact("identity", join(", ", identityKind(id), id.Algorithm, "key "+id.Key))
		p.some("warning", len(id.Warnings), func(i int) string { return id.Warnings[i] })
	}
	p.some("interface", len(s.Interfaces), func(i int) string { return interfaceLine(&s.Interfaces[i]) })
	if n := len(s.Servers); n > 0 {
		p.fact("server", serverLine(&s.Servers[n-1]))
		for _, v := range s.Servers[n-1].Verdicts {
			if !v.OK {
				p.fact("refused", join(": ", v.Step, v.Detail))
			}
		}
	}
	if n := len(s.Downloads); n > 0 {
		p.fact("download", downloadLine(&s.Downloads[n-1]))
	}
	if s.Image != nil {
		p.fact("image", imageLine(s.Image))
	}
	p.some("step", len(s.Steps), func(i int) string { return stepLine(&s.Steps[i]) })
	p.some("warning", len(s.Warnings), func(i int) string { return s.Warnings[i].Text })
	return p.String()
}

// summary tells how the device is doing, why, and when something happens next.
func (p *page) summary(s *state.Status) {
	p.fact("state", Headline(s))
	if r := s.Reason; r != nil {
		p.fact("reason", fmt.Sprintf("%s [%s]", r.Message, r.Code))
		p.fact("to do", r.Hint)
	}
	if s.Phase == state.PhaseBackingOff || s.Phase == state.PhaseStarting {
		p.fact("next try", p.moment(s.NextAttempt))
	}
	switch {
	case s.Started.IsZero():
	case s.Ended.IsZero():
		p.fact("started", p.moment(s.Started))
	default:
		p.fact("ended", p.moment(s.Ended)+", after "+duration(s.Ended.Sub(s.Started)))
	}
}

// Headline is the state in the words of the exit codes, with the phase while something is in progress.
func Headline(s *state.Status) string {
	switch s.ExitCode() {
	case state.ExitProvisioned:
		return "provisioned"
	case state.ExitFailed:
		return "failed"
	case state.ExitDisabled:
		return "disabled"
	case state.ExitNotStarted:
		return "not started"
	}
	text := "in progress: " + strings.ReplaceAll(string(s.Phase), "-", " ")
	if s.Attempts > 0 {
		text += fmt.Sprintf(", attempt %d", s.Attempts)
	}
	return text
}

func identityKind(id *state.Identity) string {
	if id.Kind == "tpm" {
		return "in the TPM"
	}
	return "in a " + id.Kind + ", not protected by a TPM"
}

func interfaceLine(i *state.Interface) string {
	return join(", ", words(i.Name, i.State), i.Detail, led("managed by ", i.Managed), strings.Join(i.Addresses, " "),
		led("bootstrap servers ", strings.Join(i.Options, " ")))
}

func serverLine(s *state.Server) string {
	return join(", ", s.URL, s.Trust, led("result ", s.Result), s.Detail)
}

func downloadLine(d *state.Download) string {
	return join(", ", d.URI, progress(d), rate(d), led("result ", d.Result), d.Detail)
}

func imageLine(i *state.Image) string {
	return join(", ", words(i.OSName, i.OSVersion), i.State, led("slot ", i.Slot), led("install ", count(i.Attempts)))
}

func stepLine(s *state.Step) string {
	exit := ""
	if s.Exit != nil {
		exit = fmt.Sprintf("exit status %d", *s.Exit)
	}
	return join(", ", words(s.Name, s.Result), exit, s.Detail)
}

func progress(d *state.Download) string {
	if d.Total > 0 {
		return fmt.Sprintf("%s of %s (%d %%)", bytes(d.Bytes), bytes(d.Total), int64(float64(d.Bytes)/float64(d.Total)*100))
	}
	return bytes(d.Bytes)
}

func rate(d *state.Download) string {
	if d.Rate <= 0 {
		return ""
	}
	return bytes(d.Rate) + "/s"
}

// page collects facts.
type page struct {
	strings.Builder
	now    time.Time
	indent string
}

const column = 14 // where values begin

// fact prints one line, unless the value is empty.
func (p *page) fact(name, value string) {
	if value != "" {
		fmt.Fprintf(p, "%-*s%s\n", column, p.indent+name, printable(value))
	}
}

// some prints the last few of many, and how many are left out.
func (p *page) some(name string, n int, line func(int) string) {
	const most = 4
	first := max(0, n-most)
	if first > 0 {
		p.fact(name, fmt.Sprintf("(%d more with --verbose)", first))
	}
	for i := first; i < n; i++ {
		p.fact(name, line(i))
	}
}

// moment is a point in time and how far away it is.
func (p *page) moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	stamp := t.UTC().Format(time.DateTime) + " UTC"
	switch d := t.Sub(p.now); {
	case d > 0:
		return stamp + " (in " + duration(d) + ")"
	case d > -24*time.Hour:
		return stamp + " (" + duration(-d) + " ago)"
	}
	return stamp
}

func duration(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d < 2*day:
		return d.Round(time.Second).String()
	}
	return fmt.Sprintf("%d days", d/day)
}

func bytes(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	value, i := float64(n), 0
	for value >= 1024 && i < len(units)-1 {
		value, i = value/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", value, units[i])
}

func count(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("number %d", n)
}

// led puts lead before a value that is there.
func led(lead, value string) string {
	if value == "" {
		return ""
	}
	return lead + value
}

func words(list ...string) string { return join(" ", list...) }

// join joins what is not empty.
func join(separator string, list ...string) string {
	var present []string
	for _, s := range list {
		if s != "" {
			present = append(present, s)
		}
	}
	return strings.Join(present, separator)
}

// printable makes a value one line of characters that a terminal shows and does not obey.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return '\uFFFD'
		}
		return r
	}, s)
}
