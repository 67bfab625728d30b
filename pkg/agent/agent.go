// Package agent is the bootstrapping loop of RFC 8572 §5.2 to §5.5, told top-down: Run repeats rounds until one succeeds;
// a round asks every source in order; each lead is a list of servers to visit; a visit obtains bootstrapping data, which
// either redirects to another list or is onboarding information to execute. Everything the loop does to the world goes
// through the interfaces declared here, so the order of events and every decision about trust can be tested without a
// network.
package agent

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/onboard"
	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/restconf"
	"github.com/xpu-sztp/ztp/pkg/source"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// ErrDisabled is returned by Run when the bootstrapping flag was found off (RFC 8572 §5.1).
var ErrDisabled = errors.New("bootstrapping is disabled")

// Target is one address of one bootstrap server to connect to.
type Target struct {
	Host    string // as the lead or redirect named it; a host name or an IP literal without brackets
	Port    uint16
	Address netip.Addr
	// Anchors authenticate the server. When empty the connection is provisional: any certificate is accepted, nothing
	// about the device is revealed beyond its IDevID certificate, and nothing the server says unsigned is executed.
	Anchors []artifacts.TrustAnchor
	Clock   artifacts.Clock
	Network source.Network
}

// Session is an open connection to a bootstrap server; *restconf.Session is one.
type Session interface {
	// Evidence is nil on a provisional connection.
	Evidence() *artifacts.ServerEvidence
	// Certificate describes the server's certificate for people; empty when unknown.
	Certificate() string
	GetBootstrappingData(context.Context, restconf.Input) (*restconf.Output, error)
	ReportProgress(context.Context, progress.Report) error
	Close() error
}

// Onboarder executes onboarding information; *onboard.Executor is one.
type Onboarder interface {
	Execute(context.Context, onboard.Request) (onboard.Outcome, error)
	// ReportParsingError tells a trusted server that what it sent could not be believed or understood (RFC 8572 §5.6).
	ReportParsingError(ctx context.Context, to onboard.Reporter, level progress.Level, cause error)
}

// Board shows what the agent is doing; *state.Board is one.
type Board interface {
	Update(func(*state.Status))
}

// Device is what the device knows about itself.
type Device struct {
	artifacts.Device
	HWModel, OSName, OSVersion string // sent to trusted servers only; empty when unknown
	Presented                  string // the client certificate in words, for status
}

// Agent holds what the loop needs. All fields but Revocation, Wake, Plugged and Local are required.
type Agent struct {
	Device  Device
	Policy  artifacts.Policy // by which data is judged; Clock and Nonce are filled in for each visit
	Sources []source.Source  // in the order they are tried

	Connect func(context.Context, Target) (Session, error)
	// Revocation fetches the status that a voucher demands; nil means that only what the artifacts carry counts.
	Revocation StatusFetcher
	Onboarder  Onboarder
	Enabled    func() (bool, error)   // the persistent bootstrapping flag
	Clock      func() artifacts.Clock // the device's clock and the confidence in it
	Nonce      func() ([]byte, error) // 32 fresh random bytes (RFC 8572 §7.3)
	Random     func() float64         // uniform in [0,1), spreads retries
	Wake       <-chan struct{}        // a receive ends a back-off early, such as when a link came up; may be nil
	// Plugged says during a back-off that Local has news, which then is asked without a new round; may be nil.
	Plugged <-chan struct{}
	Local   source.Source
	Retry   Backoff
	Board   Board
	Log     *slog.Logger

	waits *Schedule // of Run, whose rounds alone look at it
}

// Run repeats rounds until one ends in success, the flag is off, or ctx is cancelled (RFC 8572 §5.2). It returns how the
// session ended; ErrDisabled; or the cause of the cancellation.
func (a *Agent) Run(ctx context.Context) (onboard.Outcome, error) {
	a.waits = a.Retry.Schedule(a.Random())
	for attempt := 1; ; attempt++ {
		enabled, err := a.Enabled()
		if err != nil {
			return 0, err
		}
		if !enabled {
			return 0, ErrDisabled
		}
		outcome, err := a.Round(ctx, attempt)
		if err == nil {
			return outcome, nil
		}
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		if outcome, err := a.backOff(ctx, err); err != nil || outcome != 0 {
			return outcome, err
		}
	}
}
