// Package onboard executes onboarding information in the order of RFC 8572 §5.6: boot image, pre-configuration script,
// configuration, post-configuration script. Every step that changes the device has an entry in a durable journal before
// its effect, and is undone, in reverse order, when a later step fails, when the bootstrap server does not acknowledge the
// end, or when the process dies; after a power cut the device is in the state it would have reached, or in the one before,
// never in a third one. Progress reports go out at the places §5.6 gives them, and none at all for an untrusted server.
// What may follow what, with which effect, is a table (imageRules, stepRules) without which nothing is done:
//
//	image
//	                                    ┌─withdraw───────┐     ┌─reboot─┐
//	       fetch          verified      ▼    activate    │     │ reboot ▼        satisfied         acknowledge
//	none ────────▶ fetching ───────▶ written ────────▶ activated ───────▶ trial ──────────▶ running ────────────▶ good
//	  ▲               ▲                 │   started      │                 │ │  ▲               │                  │
//	  │               │ fetch           └────────────────┴─────────────────┼─┘  │ started       │                  │
//	  │               ├───────────────────────────── fell-back ◀──fell-back┘────┘               │                  │
//	  │               └───── fetch, after a day ──── refused ◀──refuse──── from everywhere      │                  │
//	  └──── withdraw (from trial), overwritten (with nothing to remember), returned ────────────┘   fetch ─────────┘
//
//	expire: its time on trial is over; from running and trial to trial, from refused to refused, and the device reboots into the good slot
//	leave: what runs is on trial and is another image; the device reboots into the good slot, and the image stays what it is
//
//	step
//	         begin           acknowledge, undone                                undone, give-up
//	absent ────────▶ begun ──────────────────────▶ absent      stuck ────────────────────────────▶ absent
//	                 │  ▲ undo    undo-failed                  │  ▲ undo, undo-failed
//	                 ├──┘────────────────────────▶ stuck       └──┘
package onboard

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/image"
	"github.com/xpu-sztp/ztp/pkg/image/signature"
	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/slot"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// Store is the durable record; *state.Store is one.
type Store interface {
	Load() (*state.Record, error)
	Update(func(*state.Record) error) error
}

// Board shows what is going on; *state.Board is one.
type Board interface {
	Update(func(*state.Status))
}

// Reporter sends a progress report and returns nil only when the server answered 204.
type Reporter interface {
	ReportProgress(ctx context.Context, r progress.Report) error
}

// Options is what an Executor needs of the device it runs on. Store, Board, Dir and Device are required.
type Options struct {
	Store  Store
	Board  Board
	Dir    string       // private folder for scripts, data and backups of the onboarding in progress; made when missing
	Root   string       // what every path of the configuration was relocated below; handed to scripts as ZTP_ROOT
	Device state.Device // the running operating system, compared with the demanded boot image

	FS durable.FS // changes Dir and the configuration file; nil is the machine's own

	Slots slot.Backend // nil when this device cannot install images
	// Checkpoints lets a download go on after a power cut; nil when it need not.
	Checkpoints image.Checkpoints
	// AuthenticateMirror is image.Request.Authenticate.
	AuthenticateMirror func(chain []*x509.Certificate, host string) error
	// Signatures says whom to believe about images when the onboarding information was signed by owner, or, if that is nil,
	// by nobody. It is nil itself where images need not be signed.
	Signatures func(owner *x509.Certificate) *signature.Policy

	Image         config.Image // Attempts 0 is 3
	Configuration config.Configuration
	Scripts       config.Scripts
	Report        config.Report
	Reboot        config.Reboot

	Logger *slog.Logger     // nil discards
	Now    func() time.Time // nil is time.Now
}

// Request is one execution of onboarding information.
type Request struct {
	Info     *artifacts.Onboarding
	Proof    *artifacts.Proof // by which Info may be judged again, where another process executes it
	Warnings []string         // of the validation, reported as parsing-warning
	Reporter Reporter         // nil when the server is not trusted: nothing is ever reported then (RFC 8572 §5.6)
	Level    progress.Level   // of the reports, as the server asked
	Network  image.Network    // how images are reached
	Files    fs.FS            // what file URIs of images name; nil when they name nothing
	// Where tells, in the end, what the network is known by on which the device was provisioned; nil when it was on none.
	Where func() state.Network
}

// Outcome is how an execution ended well.
type Outcome int

// The two good ends.
const (
	Complete  Outcome = iota + 1 // everything is done, acknowledged and recorded
	Rebooting                    // an image was installed and the reboot was asked for; begin anew after it
)

// Executor executes onboarding information, one at a time.
type Executor struct {
	Options
	handler handler
}

// New returns an executor. Values that o leaves zero get the defaults named in Options.
func New(o Options) *Executor {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.FS == nil {
		o.FS = durable.OS{}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Image.Attempts <= 0 {
		o.Image.Attempts = 3
	}
	e := &Executor{Options: o}
	e.handler = e.configurationHandler()
	return e
}

// Execute carries out r.Info and sends every report of RFC 8572 §5.6, from bootstrap-initiated to the terminal one. When
// it returns Complete, the outcome "provisioned" is already in the durable record, written together with the end of the
// journal; all that is left to the caller is Record.Last. When it returns an error, what was changed has been undone, and
// the error has a reason code; an undo that failed is retried by the next Execute or Recover.
//
// A power cut between the server's acknowledgement and the record leaves the journal. Recover then undoes it and the
// session is repeated: the server hears of a second success, and the device ends where it would have.
func (e *Executor) Execute(ctx context.Context, r Request) (Outcome, error) {
	if !r.Info.Valid() {
		return 0, &reason.Error{
			Code: ReasonUntrusted,
			Msg:  "onboarding information that nobody vouched for is never executed",
		}
	}
	return e.execute(ctx, r, plan{
		boot:   r.Info.BootImage(),
		pre:    r.Info.PreScript(),
		config: r.Info.Configuration(),
		post:   r.Info.PostScript(),
		owner:  r.Info.Owner(),
	})
}

// plan is the content of onboarding information. Only Execute makes one of what came from outside.
type plan struct {
	boot   *artifacts.BootImage
	pre    []byte
	config *artifacts.Configuration
	post   []byte
	owner  *x509.Certificate // that signed it; nil when nobody did
}

// session is one execution.
type session struct {
	*Executor
	plan
	reports
	id      string // of state.Session
	network image.Network
	files   fs.FS
	where   func() state.Network

	looked bool              // the records of images are up to date with the slots
	fallen []string          // SHA-256 of the images that were found to have fallen back when the session began
	slots  slot.Description  // when they were looked at last
	known  state.ImageRecord // of the demanded image, at the same time
	signer string            // of the image that was fetched
}

func (e *Executor) execute(ctx context.Context, r Request, p plan) (Outcome, error) {
	e.Board.Update(func(s *state.Status) { s.Downloads, s.Image, s.Steps, s.Reports = nil, nil, nil, nil })
	s := &session{Executor: e, plan: p, reports: e.reports(r.Reporter, r.Level), network: r.Network, files: r.Files, where: r.Where}
	outcome, err := s.run(ctx, r.Warnings)
	if err == nil {
		return outcome, nil
	}
	// Undoing comes before the report, which then tells the truth about the device, and may need the network that the
	// undone configuration took away. It must not be cut short by what stopped the session.
	f := asFailure(err)
	if code, _ := reason.Of(err); code != ReasonRollback {
		f.err = errors.Join(f.err, e.rollback(context.WithoutCancel(ctx)))
	}
	s.fail(ctx, f)
	return 0, f.err
}

func (s *session) run(ctx context.Context, warnings []string) (Outcome, error) {
	if err := s.open(ctx, warnings); err != nil {
		return 0, err
	}
	if err := s.begin(ctx); err != nil {
		return 0, err
	}
	rebooting, err := s.bootImage(ctx)
	if err != nil {
		return 0, err
	}
	if rebooting {
		return Rebooting, nil
	}
	if err := s.script(ctx, preScript, s.pre); err != nil {
		return 0, err
	}
	if err := s.configure(ctx); err != nil {
		return 0, err
	}
	if err := s.script(ctx, postScript, s.post); err != nil {
		return 0, err
	}
	return Complete, s.complete(ctx)
}

// begin makes sure that nothing of an earlier session is left, and that there is a session to belong to.
func (s *session) begin(ctx context.Context) error {
	undone, err := s.recover(ctx)
	if err != nil {
		return err
	}
	if undone > 0 {
		s.send(ctx, progress.Informational, fmt.Sprintf("undid %d steps of an interrupted session", undone))
	}
	runs := ""
	if _, right := s.called(); right {
		runs = s.imageKey()
	}
	if s.fallen, err = s.look(ctx, runs); err != nil { // whoever wants an image looks again
		s.warn("the image slots cannot be looked at", err)
	}
	s.looked = err == nil
	return s.Store.Update(func(r *state.Record) error {
		if r.Session == nil {
			r.Session = state.NewSession(s.Now())
		}
		s.id = r.Session.ID
		return nil
	})
}

// complete ends the session: until the server acknowledged it, everything can still be undone.
func (s *session) complete(ctx context.Context) error {
	r, err := s.Store.Load()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(r.Journal, func(entry state.Entry) bool { return entry.File == nil }) {
		s.settle()
	}
	if r.Enabled {
		s.send(ctx, progress.BootstrapWarning, "the bootstrapping flag is still on")
	}
	if err := s.finish(ctx, progress.Report{Type: progress.BootstrapComplete, SSHHostKeys: s.hostKeys()}); err != nil {
		return err
	}
	var network state.Network
	if s.where != nil {
		network, _ = network.Learn(s.where())
	}
	// The slot comes first: a device that is recorded as provisioned never comes here again, and would fall back to
	// the old image one day. Whatever wants to stop the session comes too late now.
	if err := s.markGood(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	err = s.Store.Update(func(r *state.Record) error {
		for _, entry := range r.Journal {
			if _, err := findStep(&entry, acknowledge); err != nil {
				return fmt.Errorf("%s: %w", entry.Step, err)
			}
		}
		r.Outcome, r.Reason, r.Session, r.Journal = state.OutcomeProvisioned, nil, nil, nil
		r.Network = network
		return nil
	})
	if err != nil {
		// What was written, but perhaps not for good, is what everybody reads. Should a power cut lose it, the journal is
		// back, and everything is undone and done again.
		if r, loadErr := s.Store.Load(); loadErr != nil || r.Outcome != state.OutcomeProvisioned {
			return err
		}
		s.warn("that the device is provisioned may be lost in a power cut, after which it provisions itself again", err)
	}
	s.cleanUp()
	return nil
}

// warn tells people about something that did not stop the session.
func (e *Executor) warn(text string, err error) {
	e.Logger.Warn(text, "error", err)
	e.Board.Update(func(s *state.Status) {
		if len(s.Warnings) < maxWarnings {
			s.Warnings = append(s.Warnings, state.Warning{Text: fmt.Sprintf("%s: %v", text, err), At: e.Now().UTC()})
		}
	})
}

const maxWarnings = 100
