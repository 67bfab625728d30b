// Package doctor judges whether a device could be provisioned, before anybody waits for it: what is configured, installed and
// stored, the TPM and the identity, trust, the clock, what images and configurations need, the network, and the servers found
// there. Facts are collected by whoever knows the device; the judgements are functions of facts, and make one line each that
// says pass, warn or fail, what was found, and what to do about it.
package doctor

import (
	"context"
	"strings"
	"time"

	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

// Verdict is how a check ended.
type Verdict string

// The verdicts. With a warning the device may be provisioned in some situations and not in others; with a failure it will not.
const (
	Pass Verdict = "pass"
	Warn Verdict = "warn"
	Fail Verdict = "fail"
)

// Check is the stable name of what is checked.
type Check string

// The checks, in the order in which they are reported. They have no type, so that the compiler can put lines together.
const (
	Privileges          = "privileges"
	Configuration       = "configuration"
	Device              = "device" // whether it is enabled, provisioned, in a session
	Unit                = "unit"
	User                = "user" // whom the unit runs the agent as
	StateFolder         = "state-folder"
	RuntimeFolder       = "runtime-folder"
	TPM                 = "tpm"
	IdentityKey         = "identity-key"
	IdentityCertificate = "identity-certificate"
	IdentityChain       = "identity-chain"
	SerialNumber        = "serial-number"
	DecryptKey          = "decrypt-key"
	Clock               = "clock"
	VoucherAnchors      = "voucher-anchors"
	ServerAnchors       = "server-anchors"
	ImageAnchors        = "image-anchors"
	Images              = "images"
	ImageCache          = "image-cache"
	ConfigHandler       = "configuration-handler"
	Scripts             = "scripts"
	Links               = "links"
	DHCP                = "dhcp"      // one for each interface and IP version
	DNS                 = "dns"       // multicast DNS included
	Discovery           = "discovery" // whether anything names a bootstrap server
	Server              = "server"    // one for each server
)

// Result is one line. Code, and Fix, are empty when it passed.
type Result struct {
	Check   Check       `json:"check"`
	Subject string      `json:"subject,omitempty"` // which one, where there may be several: an interface, a URL
	Verdict Verdict     `json:"verdict"`
	Code    reason.Code `json:"code,omitempty"`
	Finding string      `json:"finding"`
	Fix     string      `json:"fix,omitempty"`
}

// Schema is the version of Report in JSON. Members are added without raising it.
const Schema = 1

// Report is everything that was found.
type Report struct {
	Schema  int       `json:"schema"`
	Version string    `json:"version"`
	Result  Verdict   `json:"result"` // the worst of all
	Checks  []*Result `json:"checks"`
}

// Add adds a line.
func (r *Report) Add(line *Result) {
	r.Checks = append(r.Checks, line)
	if r.Result == "" || r.Result == Pass || line.Verdict == Fail {
		r.Result = line.Verdict
	}
}

// Text is the line for people, and below it what to do. Nothing in it is more than one line, whoever chose the words.
func (r *Result) Text() string {
	name := string(r.Check)
	if r.Subject != "" {
		name += " " + line(r.Subject)
	}
	for len(name) < 22 {
		name += " "
	}
	text := string(r.Verdict) + "  " + name + "  " + line(r.Finding)
	if r.Code != "" {
		text += " [" + line(string(r.Code)) + "]"
	}
	if r.Fix != "" {
		text += "\n      to do: " + line(r.Fix)
	}
	return text + "\n"
}

// maxText bounds what is shown of one finding, in bytes: some quote what the network said.
const maxText = 2000

// line makes one line of a text that others may have chosen.
func line(s string) string {
	s = cms.Visible(strings.ReplaceAll(s, "\n", "; "))
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "…"
	}
	return s
}

// Lines takes the lines of one judgement after the other.
type Lines func(*Result)

// What the kind of a line begins with, before the check and, unless it passed, a blank and the reason code.
const (
	pass = "pass "
	warn = "warn "
	fail = "fail "
)

// do separates what was found from what to do about it.
const do = "\x00"

// say makes a line of its kind, such as fail+Unit+" "+UnitMasked, and a text in which #1 is the first of args, and do is before what
// to do. Judgements choose both, and make the line in one place.
func (l Lines) say(subject, kind, text string, args ...string) {
	r := &Result{Subject: subject, Verdict: Verdict(kind[:len(pass)-1])}
	check, code, _ := strings.Cut(kind[len(pass):], " ")
	r.Check, r.Code = Check(check), reason.Code(code)
	finding, fix, _ := strings.Cut(text, do)
	r.Finding, r.Fix = fill(finding, args), fill(fix, args)
	l(r)
}

func fill(text string, args []string) string {
	filled := ""
	for i := 0; i < len(text); i++ {
		if text[i] == '#' && i+1 < len(text) && int(text[i+1])-'1' >= 0 && int(text[i+1])-'1' < len(args) {
			filled += text[:i] + args[text[i+1]-'1']
			text, i = text[i+2:], -1
		}
	}
	return filled + text
}

// because is a failure that an error explains; fix is for one that does not say what to do.
func (l Lines) because(check string, err error, fix string) {
	code, hint := reason.Of(err)
	if hint == "" {
		hint = fix
	}
	l(&Result{Check: Check(check), Verdict: Fail, Code: code, Finding: err.Error(), Fix: hint})
}

// Mildly makes warnings of failures, where on.
func (l Lines) Mildly(on bool) Lines {
	return func(r *Result) {
		if on && r.Verdict == Fail {
			r.Verdict = Warn
		}
		l(r)
	}
}

// Section collects facts and judges them. Sections run at the same time; what they say is shown in their order.
type Section struct {
	Check string // the first one of the section, which is blamed when it does not end in time
	Run   func(context.Context, Lines)
}

// maxLines is more than a section has.
const maxLines = 1024

// Run runs all sections, and shows each line as soon as those before it are known. A section that has not ended when ctx has,
// and some grace is over, is left behind.
func Run(ctx context.Context, sections []Section, grace time.Duration, show Lines) {
	lines := make([]chan *Result, len(sections))
	for i, s := range sections {
		lines[i] = make(chan *Result, maxLines) // so that none waits for those before it
		go func() {
			defer close(lines[i])
			s.Run(ctx, func(r *Result) { lines[i] <- r })
		}()
	}
	over := make(chan struct{})
	defer context.AfterFunc(ctx, func() { time.AfterFunc(grace, func() { close(over) }) })()
	for i, s := range sections {
		r, late := next(lines[i], over)
		for ; r != nil; r, late = next(lines[i], over) {
			show(r)
		}
		if late {
			show.say("", fail+s.Check+" "+string(reason.TimedOut), "this took longer than there was time"+do+
				"see what does not answer (a disk, a network file system, the TPM), or give more time with --timeout")
		}
	}
}

// next returns the next line of a section; none when it has ended, or when time is over and there is none yet.
func next(lines <-chan *Result, over <-chan struct{}) (r *Result, late bool) {
	select {
	case r = <-lines:
		return r, false
	case <-over:
	}
	select {
	case r = <-lines:
		return r, false
	default:
		return nil, true
	}
}
