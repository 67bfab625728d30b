// Package statusview turns the status of the agent into text for people, one fact a line. The short form fits a screen
// and answers why a device did not come up; the verbose form tells everything the status holds. It does no I/O. What came
// from the network is printed so that it cannot forge lines or move the cursor.
package statusview

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"
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
	interfaces := telling(s.Interfaces)
	p.some("interface", len(interfaces), func(i int) string { return interfaceLine(&interfaces[i]) })
	for _, source := range s.Sources { // whoever has plugged something in looks here
		if source.Name == "removable-storage" && source.Result != "no-removable-storage" && source.Result != "success" {
			p.fact("storage", untold(s, source.Detail))
		}
	}
	if n := len(s.Servers); n > 0 {
		server := s.Servers[n-1]
		server.Detail = untold(s, server.Detail)
		p.fact(whatIsAt(&server), serverLine(&server))
		for _, v := range server.Verdicts {
			if !v.OK {
				p.fact("refused", join(": ", v.Step, untold(s, v.Detail)))
			}
		}
	}
	if n := len(s.Downloads); n > 0 {
		download := s.Downloads[n-1]
		download.Detail = untold(s, download.Detail)
		p.fact("download", downloadLine(&download))
		p.fact("done by", p.moment(download.ETA))
	}
	if s.Image != nil {
		p.fact("image", join(", ", imageLine(s.Image), untold(s, because(s.Image.Reason))))
	}
	if s.Slots != nil && (s.Slots.Next != "" || s.Slots.Running != s.Slots.Good) {
		p.fact("slots", slotsLine(s.Slots))
	}
	not := refused(s)
	p.some("refused image", len(not), func(i int) string { return p.refusedLine(s, &not[i]) })
	p.some("step", len(s.Steps), func(i int) string {
		step := s.Steps[i]
		step.Detail = untold(s, step.Detail)
		return stepLine(&step)
	})
	p.some("warning", len(s.Warnings), func(i int) string { return s.Warnings[i].Text })
	return p.String()
}

// summary tells how the device is doing, why, and when something happens next.
func (p *page) summary(s *state.Status) {
	p.fact("state", Headline(s))
	if r := s.Reason; r != nil {
		name, when := "reason", ""
		if s.Phase == state.PhaseDiscovering || s.Phase == state.PhaseVisiting { // it goes on all the same
			name, when = "last failure", p.ago(r.At)
		}
		p.fact(name, fmt.Sprintf("%s [%s]%s", r.Message, r.Code, led(", ", when)))
		p.fact("to do", r.Hint)
	}
	if s.Phase == state.PhaseBackingOff || s.Phase == state.PhaseStarting {
		p.fact("next try", join(", because ", p.moment(s.NextAttempt), s.NextBecause))
	}
	switch {
	case s.Started.IsZero():
	case s.Phase == state.PhaseNotStarted: // what else there is to show is left of it
		p.fact("last session", "begun "+p.moment(s.Started))
	case s.Ended.IsZero():
		p.fact("started", p.moment(s.Started))
	default:
		p.fact("ended", p.moment(s.Ended)+lasted(s.Started, s.Ended))
	}
	if !s.TrialEnds.IsZero() {
		p.fact("trial", "until "+p.moment(s.TrialEnds)+"; then the device returns to the good slot, unless it is provisioned")
	}
	p.watch(s.Watch)
}

// watch tells what a provisioned device sees of its network.
func (p *page) watch(w *state.Watch) {
	if w == nil {
		return
	}
	p.fact("network", cmp.Or(w.Network, "not known yet"))
	if w.Other != "" {
		p.fact("moved to", w.Other+", since "+p.moment(w.Since))
		p.fact("next session", p.moment(w.Begins)+", unless it is back by then")
	}
	if f := w.Failure; f != nil {
		p.fact("last failure", fmt.Sprintf("%s [%s], %s", f.Message, f.Code, p.ago(f.At)))
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
		if s.PID != 0 && s.Phase != state.PhaseNotStarted && s.Phase != state.PhaseDone {
			return "disabled, but a session still runs: " + progressing(s)
		}
		return "disabled"
	case state.ExitNotStarted:
		return "not started"
	}
	return "in progress: " + progressing(s)
}

func progressing(s *state.Status) string {
	text := strings.ReplaceAll(string(s.Phase), "-", " ")
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
	return join(", ", words(i.Name, i.Family, i.State), i.Detail, led("managed by ", manager(i)), strings.Join(i.Addresses, " "),
		led("bootstrap servers ", strings.Join(i.Options, " ")))
}

// manager is who manages an interface.
func manager(i *state.Interface) string {
	if i.Managed == "manual" {
		return "hand"
	}
	return i.Managed
}

// whatIsAt names the place: there may be data without a server.
func whatIsAt(s *state.Server) string {
	if strings.HasPrefix(s.URL, "https://") {
		return "server"
	}
	return "data"
}

func serverLine(s *state.Server) string {
	return join(", ", s.URL, s.Trust, led("result ", s.Result), s.Detail)
}

func downloadLine(d *state.Download) string {
	return join(", ", d.URI, progress(d), rate(d), resumed(d), led("result ", d.Result), d.Detail)
}

func imageLine(i *state.Image) string {
	return join(", ", words(i.OSName, i.OSVersion), imageState(i.State), led("slot ", i.Slot), installs(i))
}

// imageState says in words how far the demanded image is.
func imageState(how string) string {
	switch how {
	case "satisfied":
		return "runs already"
	case string(state.ImageFetching):
		return "not complete yet"
	case "installed":
		return "installed, starts at the next boot"
	case string(state.ImageTrial):
		return "on trial"
	}
	return strings.ReplaceAll(how, "-", " ")
}

func installs(i *state.Image) string {
	if i.Attempts == 0 || i.Allowed == 0 {
		return led("install ", count(i.Attempts))
	}
	return fmt.Sprintf("install %d of %d", i.Attempts, i.Allowed)
}

func because(r *state.Reason) string {
	if r == nil {
		return ""
	}
	return r.Message
}

// slotsLine tells what the boot loader does next.
func slotsLine(s *state.Slots) string {
	var next string
	switch {
	case s.Next != "":
		next = "slot " + s.Next + " is tried at the next boot" + tries(s)
	case s.Running != s.Good:
		return fmt.Sprintf("slot %s runs on trial%s, slot %s boots unless it is marked good", s.Running, tries(s), s.Good)
	}
	return join(", ", "slot "+s.Running+" runs", next)
}

func tries(s *state.Slots) string {
	if s.Tries == 0 {
		return ""
	}
	return " (" + plural(s.Tries, "try", "tries") + " left)"
}

func plural(n int, one, many string) string {
	if n == 1 {
		many = one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// refused lists the images that are not tried again for the time being.
func refused(s *state.Status) (list []state.PastImage) {
	for _, i := range s.Images {
		if i.State == state.ImageRefused {
			list = append(list, i)
		}
	}
	return list
}

func (p *page) refusedLine(s *state.Status, i *state.PastImage) string {
	return join(", ", fmt.Sprintf("%.12s", i.SHA256), words(i.OSName, i.OSVersion), untold(s, because(i.Reason)),
		led("not tried until ", p.moment(i.Until)), fmt.Sprintf("`ztp images --clear %.12s` has it tried again", i.SHA256))
}

func stepLine(s *state.Step) string {
	return join(", ", words(s.Name, s.Result), cmp.Or(s.Detail, exitStatus(s)), undoLine(s))
}

func undoLine(s *state.Step) string {
	switch {
	case s.Undo == "failed":
		return "NOT UNDONE"
	case s.Undo == "done" && s.Result != "undone":
		return "undone"
	}
	return ""
}

func exitStatus(s *state.Step) string {
	if s.Exit == nil {
		return ""
	}
	return fmt.Sprintf("exit status %d", *s.Exit)
}

// untold is a detail, unless the reason has told it already.
func untold(s *state.Status, detail string) string {
	if s.Reason != nil && strings.Contains(s.Reason.Message, detail) {
		return ""
	}
	return detail
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

// resumed tells that a transfer was not of one piece.
func resumed(d *state.Download) string {
	at, request := "", ""
	if d.Resumed > 0 {
		at = "resumed at " + bytes(d.Resumed)
	}
	if d.Requests > 1 {
		request = "request " + count(d.Requests)
	}
	return join(", ", at, request)
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

// telling puts the interfaces last that tell most, where there are too many to be shown.
func telling(list []state.Interface) []state.Interface {
	if len(list) <= most {
		return list
	}
	list = slices.Clone(list)
	order := []string{"skipped", "no-carrier", "unbound", "acquiring", "bound"}
	sort.SliceStable(list, func(i, j int) bool { // smaller than with package slices
		return slices.Index(order, list[i].State) < slices.Index(order, list[j].State)
	})
	return list
}

// most is how many of a kind the short form shows.
const most = 4

// some prints the last few of many, and how many are left out.
func (p *page) some(name string, n int, line func(int) string) {
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
	case d == math.MaxInt64: // centuries, as in certificates without an end
		return stamp
	case d > 0:
		return stamp + " (in " + duration(d) + ")"
	case d > -24*time.Hour:
		return stamp + " (" + p.ago(t) + ")"
	}
	return stamp
}

// ago is how long a moment has passed; empty for one that is not known.
func (p *page) ago(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return duration(max(p.now.Sub(t), 0)) + " ago"
}

// lasted is how long something took, unless the clock was set meanwhile, as devices without a battery do from 1970.
func lasted(from, to time.Time) string {
	const longest = 365 * 24 * time.Hour
	d := to.Sub(from)
	if d < 0 || d > longest {
		return ""
	}
	return ", after " + duration(d)
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

func count(n int) string { return led("number ", number(n)) }

func number(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
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
