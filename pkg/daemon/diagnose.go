package daemon

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/doctor"
	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/tpm"
)

// DiagnoseOptions say what to look at.
type DiagnoseOptions struct {
	Root    string
	Logger  *slog.Logger
	Offline bool          // send nothing on any network
	Servers []string      // to be looked at besides those that are found: "https://HOST[:PORT]"
	Timeout time.Duration // for all of it
}

// tidyTime is what the end of a diagnosis may take: leases are given back.
const tidyTime = 3 * time.Second

// errAgentStarted ends what could disturb the agent when it starts.
var errAgentStarted = errors.New("the agent has started meanwhile, and has the network and the TPM to itself")

// Diagnose looks at whether the device could be provisioned, and shows what it finds. It changes nothing: what it leases for a
// moment, as the agent would, is given back. While the agent runs, nothing is done that it could notice.
func Diagnose(ctx context.Context, o DiagnoseOptions, show doctor.Lines) error {
	paths, err := config.NewPaths(o.Root)
	if err != nil {
		return err
	}
	named, err := config.Servers(o.Servers, nil)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, max(o.Timeout-tidyTime, o.Timeout/2))
	defer cancel()
	d := &diagnosis{DiagnoseOptions: o, paths: paths, named: named, known: make(chan struct{})}
	if d.status, d.statusErr = state.Read(paths.Runtime, paths.State); d.statusErr != nil {
		d.status = &state.Status{} // the agent may run all the same
	}
	_, alive, _ := state.Daemon(paths.Runtime)
	d.running = alive || d.status.PID != 0
	d.cfg, d.invalid = config.Load(o.Root)
	sections := []doctor.Section{{Check: doctor.Configuration, Run: d.installation}}
	if d.invalid == nil {
		alone, stop := context.WithCancelCause(ctx)
		defer stop(nil)
		if !d.running {
			go d.watchForAgent(alone, stop)
		}
		go d.openIdentity(alone)
		sections = append(sections,
			doctor.Section{Check: doctor.TPM, Run: func(_ context.Context, l doctor.Lines) { l.Identity(&d.identity().facts) }},
			doctor.Section{Check: doctor.Clock, Run: d.trust},
			doctor.Section{Check: doctor.Images, Run: d.execution},
			doctor.Section{Check: doctor.Links, Run: func(_ context.Context, l doctor.Lines) { d.network(alone, l) }})
	}
	doctor.Run(ctx, sections, tidyTime, show)
	return nil
}

// diagnosis is one look at a device.
type diagnosis struct {
	DiagnoseOptions
	paths     config.Paths
	named     []artifacts.BootstrapServer // on the command line
	cfg       *config.Config
	invalid   error
	running   bool          // the agent
	status    *state.Status // empty with statusErr
	statusErr error
	opened    identity
	known     chan struct{} // closed when opened is known
}

// identity waits until the identity is known.
func (d *diagnosis) identity() *identity {
	<-d.known
	return &d.opened
}

// idle reports whether the agent would begin a session, were it started.
func (d *diagnosis) idle() bool {
	return d.status.Enabled && d.status.Outcome != state.OutcomeProvisioned
}

// watchForAgent calls stop when the agent starts.
func (d *diagnosis) watchForAgent(ctx context.Context, stop context.CancelCauseFunc) {
	for pause(ctx) == nil {
		if _, alive, err := state.Daemon(d.paths.Runtime); err == nil && alive {
			stop(errAgentStarted)
			return
		}
	}
}

// installation is what files tell.
func (d *diagnosis) installation(_ context.Context, l doctor.Lines) {
	root := os.Geteuid() == 0
	l.Privileges(root)
	var files []string
	if d.cfg != nil {
		files = d.cfg.Files
	}
	l.Configuration(files, d.invalid)
	l.Device(d.status, d.statusErr)
	u, user := unitFacts(d.paths)
	u.Needed = d.idle()
	l.Unit(&u)
	if found := userOf(d.paths, user); found != nil && d.invalid == nil {
		l.Mildly(!u.Needed).User(user, found.denied(d.paths.Root, needs(d.cfg)))
	}
	asRoot := l.Mildly(!root)
	asRoot.Folder(doctor.StateFolder, folder(d.paths.State), true)
	asRoot.Folder(doctor.RuntimeFolder, folder(d.paths.Runtime), false)
}

// identity is what was found in the TPM, and the identity itself where nothing is wrong with it.
type identity struct {
	facts doctor.IdentityFacts
	id    *tpm.Identity // nil when it cannot be used
}

// openIdentity finds the identity and makes one signature with it.
func (d *diagnosis) openIdentity(ctx context.Context) {
	defer close(d.known)
	options, began := IdentityOptions(d.cfg), time.Now()
	f := &d.opened.facts
	f.Clock = d.cfg.ClockAt(began)
	shared := options.TPM == "" || options.TPM == "none" || strings.HasPrefix(filepath.Base(options.TPM), "tpmrm")
	if f.InUse = d.running && !shared; f.InUse {
		return
	}
	opening, cancel := context.WithTimeout(ctx, d.Timeout/2) // a TPM that is silent must not hide the network
	defer cancel()
	id, found, err := tpm.OpenExamined(opening, options, began)
	f.Found, f.Err, f.Took = found, err, time.Since(began)
	f.InUse = err != nil && errors.Is(context.Cause(ctx), errAgentStarted)
	if err != nil {
		return
	}
	context.AfterFunc(ctx, func() { _ = id.Close() })
	began = time.Now()
	f.Notes, f.Unproven = id.Warnings, id.Prove(opening)
	f.Signing = time.Since(began)
	d.opened.id = id
}

// trust judges whom the device believes, and since when.
func (d *diagnosis) trust(_ context.Context, l doctor.Lines) {
	clock := d.clock()
	auto := *d.cfg
	auto.Trust.Clock = "auto"
	plausible := auto.ClockAt(clock.Now, d.made()...).Confidence != artifacts.ClockNone
	l.Clock(&doctor.ClockFacts{Policy: d.cfg.Trust.Clock, Clock: clock, Plausible: plausible})
	known := len(d.cfg.Discovery.WellKnown) > 0
	l.VoucherAnchors(d.cfg.Anchors.Vouchers, clock, d.cfg.Trust.Vouchers, known)
	l.ServerAnchors(d.cfg.Anchors.BootstrapServers, clock, known)
	if d.cfg.Image.VerifyServers {
		l.ImageAnchors(d.cfg.Anchors.Images, clock)
	}
}

func (d *diagnosis) clock() artifacts.Clock { return d.cfg.ClockAt(time.Now(), d.made()...) }

// made is when the device's certificate was made, as far as it has one.
func (d *diagnosis) made() (at []time.Time) {
	if x := d.identity().facts.Found; x != nil && len(x.Certificates) > 0 {
		at = append(at, x.Certificates[0].NotBefore)
	}
	return at
}
