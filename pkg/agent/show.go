package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/restconf"
	"github.com/xpu-sztp/ztp/pkg/revocation"
	"github.com/xpu-sztp/ztp/pkg/source"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// maxWarnings and maxServers bound what hostile peers can make the status grow to.
const (
	maxWarnings = 50
	maxServers  = 100
)

// showRound opens a new round: what the last one visited is no longer interesting.
func (a *Agent) showRound(attempt int) {
	a.Board.Update(func(s *state.Status) {
		s.Attempts = attempt
		s.NextAttempt, s.NextBecause = time.Time{}, ""
		s.Sources, s.Servers = nil, nil
	})
}

// showOnboarding says that a lead has come this far; what failed on the way to it no longer explains anything.
func (a *Agent) showOnboarding() {
	a.Board.Update(func(s *state.Status) { s.Phase, s.Reason = state.PhaseOnboarding, nil })
}

func (a *Agent) showPhase(p state.Phase) {
	a.Board.Update(func(s *state.Status) { s.Phase = p })
}

// showBackOff says why nothing worked, when the next round begins, and whose wish that is.
func (a *Agent) showBackOff(next time.Time, wish Wish, cause error) {
	why, because := Explain(cause), ""
	if wish.Server != "" {
		because = fmt.Sprintf("%s asked to be left alone for %v", wish.Server, wish.Asked)
		if wish.Granted < wish.Asked {
			because += fmt.Sprintf(", and gets %v", wish.Granted)
		}
	}
	attrs := []any{"retry_in", untilInWords(next), Attributes(why)}
	if because != "" {
		attrs = append(attrs, "because", because)
	}
	a.Log.Warn("nothing worked, waiting", attrs...)
	a.Board.Update(func(s *state.Status) {
		s.Phase = state.PhaseBackingOff
		s.NextAttempt, s.NextBecause = next.UTC(), because
		s.Reason = why
	})
}

// showEarly says that the next round begins before its time.
func (a *Agent) showEarly(next time.Time) {
	a.Log.Info("the network changed: trying again early", "retry_in", untilInWords(next))
	a.Board.Update(func(s *state.Status) { s.NextAttempt, s.NextBecause = next.UTC(), "the network has changed" })
}

func untilInWords(t time.Time) string { return time.Until(t).Round(time.Millisecond).String() }

// Explain makes an error plain for the status.
func Explain(err error) *state.Reason {
	code, hint := reason.Of(err)
	return &state.Reason{Code: string(code), Message: oneLine(err), Hint: hint, At: now()}
}

// oneLine is the text of an error that may have been joined of several.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// Attributes tells a reason in a log record.
func Attributes(r *state.Reason) slog.Attr {
	attrs := []any{"reason", r.Code, "error", r.Message}
	if r.Hint != "" {
		attrs = append(attrs, "to_do", r.Hint)
	}
	return slog.Group("", attrs...)
}

func (a *Agent) showSource(name string, err error) {
	entry := state.Source{Name: name, Tried: now(), Result: "success"}
	if err != nil {
		entry.Result, entry.Detail = reasonOf(err), oneLine(err)
	}
	a.Board.Update(func(s *state.Status) { s.ShowSource(entry) })
}

// showFindings shows what a source came to, which may look in several kinds of places.
func (a *Agent) showFindings(name string, err error) {
	var several *source.FindersError
	if !errors.As(err, &several) {
		a.showSource(name, err)
		return
	}
	for _, f := range several.Findings {
		a.showSource(f.Finder, f.Err)
	}
}

func (a *Agent) showWarning(text string) {
	a.Log.Warn(text)
	a.Board.Update(func(s *state.Status) {
		for _, w := range s.Warnings {
			if w.Text == text {
				return
			}
		}
		if len(s.Warnings) < maxWarnings {
			s.Warnings = append(s.Warnings, state.Warning{Text: text, At: now()})
		}
	})
}

// showVisit adds a server to the round's list and returns its place there. A nil err means that the visit begins; what
// comes of the connection, showConnected adds.
func (v *visit) showVisit(server artifacts.BootstrapServer, from string, err error) int {
	entry := state.Server{URL: "https://" + hostPort(server), Source: from, Interface: v.lead.Interface, Visited: now()}
	authenticate := len(server.Anchors) > 0
	if !authenticate {
		entry.Trust = "provisional"
	}
	if err != nil {
		entry.Result, entry.Detail = reasonOf(err), err.Error()
	} else {
		v.Log.Info("visiting bootstrap server", "url", entry.URL, "authenticate", authenticate, "source", from)
	}
	place := -1
	v.Board.Update(func(s *state.Status) {
		s.Phase = state.PhaseVisiting
		if len(s.Servers) < maxServers {
			s.Servers = append(s.Servers, entry)
			place = len(s.Servers) - 1
		}
	})
	v.shown = place
	return place
}

// showPlace adds to the round's list that the lead carries data itself.
func (v *visit) showPlace() {
	v.Board.Update(func(s *state.Status) {
		if len(s.Servers) < maxServers {
			s.Servers = append(s.Servers, state.Server{URL: v.lead.Place, Source: v.lead.Source, Interface: v.lead.Interface, Visited: now()})
			v.shown = len(s.Servers) - 1
		}
	})
}

func (v *visit) showConnected(place int, addr netip.Addr, port uint16, session Session) {
	v.updateServer(place, func(s *state.Server) {
		s.Address = net.JoinHostPort(addr.String(), strconv.Itoa(int(port)))
		s.Certificate, s.Presented = session.Certificate(), v.Device.Presented
		if session.Evidence() != nil {
			s.Trust = "authenticated"
		}
	})
}

func (v *visit) showVisitFailed(place int, addr netip.Addr, port uint16, err error) {
	v.updateServer(place, func(s *state.Server) {
		s.Address = net.JoinHostPort(addr.String(), strconv.Itoa(int(port)))
		s.Result, s.Detail = reasonOf(err), err.Error()
		if s.Result == string(restconf.CodeCertificateRefused) {
			s.Presented = v.Device.Presented
		}
	})
}

// showValidated writes the verdict about what the server sent: every step that was checked, and the result.
func (v *visit) showValidated(conveyed *artifacts.Conveyed, trail artifacts.Trail, err error, fetched []revocation.Attempt) {
	v.updateServer(v.shown, func(s *state.Server) {
		s.Verdicts, s.StatusFetches = nil, fetchedInWords(fetched)
		for _, step := range trail.Steps {
			s.Verdicts = append(s.Verdicts, state.Verdict{Step: string(step.Step), OK: step.OK, Detail: step.Detail})
		}
		switch {
		case err != nil:
			s.Result, s.Detail = reasonOf(err), err.Error()
		case conveyed.Redirect != nil:
			s.Result, s.Detail = "redirect", trustInWords(conveyed)
		default:
			s.Result, s.Detail = "onboarding", trustInWords(conveyed)
		}
	})
}

func trustInWords(c *artifacts.Conveyed) string {
	switch {
	case c.Signed:
		return "signed by the owner"
	case c.Trusted:
		return "unsigned, from an authenticated server"
	}
	return "unsigned and untrusted"
}

func (v *visit) updateServer(place int, change func(*state.Server)) {
	if place < 0 {
		return
	}
	v.Board.Update(func(s *state.Status) {
		if place < len(s.Servers) {
			change(&s.Servers[place])
		}
	})
}

func reasonOf(err error) string {
	code, _ := reason.Of(err)
	return string(code)
}
