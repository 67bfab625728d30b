package daemon

import (
	"context"
	"crypto/x509"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/agent"
	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/image"
	"github.com/xpu-sztp/ztp/pkg/image/signature"
	"github.com/xpu-sztp/ztp/pkg/onboard"
	"github.com/xpu-sztp/ztp/pkg/restconf"
	"github.com/xpu-sztp/ztp/pkg/revocation"
	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/tpm"
)

// compose connects the loop to this device. The caller calls closeAgent when the loop has ended.
func (d *daemon) compose(ctx context.Context, cfg *config.Config, plan leads, id *tpm.Identity, device state.Device) (
	a *agent.Agent, closeAgent func(), err error,
) {
	certificate, maxVersion, err := id.TLSCertificate(ctx)
	if err != nil {
		return nil, nil, err
	}
	leaf := id.Chain[0]
	clock := func() artifacts.Clock { return cfg.ClockAt(time.Now(), leaf.NotBefore) }
	connect := func(ctx context.Context, t agent.Target) (agent.Session, error) {
		session, err := restconf.Connect(ctx, restconf.Options{
			Host: t.Host, Port: t.Port, Address: t.Address, Dial: t.Network.DialContext,
			Certificate: certificate, MaxVersion: maxVersion, Anchors: t.Anchors, Clock: t.Clock,
			Lenient: cfg.Trust.Lenient, Logger: d.Logger,
		})
		if err != nil {
			return nil, err
		}
		return visitable{session}, nil
	}
	a = &agent.Agent{
		Device: agent.Device{
			Device:  ArtifactsFor(id),
			HWModel: device.HWModel, OSName: device.OSName, OSVersion: device.OSVersion,
			Presented: describe(leaf),
		},
		Policy:     policyOf(cfg),
		Connect:    connect,
		Onboarder:  d.inTurns(d.onboarder(cfg, id, device)),
		Revocation: d.statusFetcher(cfg),
		Enabled:    func() (bool, error) { return d.enabled(ctx) },
		Clock:      clock,
		Nonce:      nonce,
		Random:     rand.Float64,
		Retry:      backoff(cfg),
		Board:      d.board,
		Log:        d.Logger,
	}
	closeAgent, err = d.sources(a, cfg, plan, id.SerialNumber)
	return a, closeAgent, err
}

// policyOf is by which rules artifacts are judged.
func policyOf(cfg *config.Config) artifacts.Policy {
	return artifacts.Policy{
		VoucherAnchors:      config.Certificates(cfg.Anchors.Vouchers),
		Assertions:          assertions(cfg),
		RequireNonce:        cfg.Trust.RequireNonce,
		RequireSigned:       cfg.Trust.RequireSigned,
		LongLived:           cfg.Trust.LongLived,
		UncheckedRevocation: cfg.Trust.UncheckedRevocation,
		Lenient:             cfg.Trust.Lenient,
	}
}

// ArtifactsFor is what artifacts are held against on the device with this identity, and what decrypts them.
func ArtifactsFor(id *tpm.Identity) artifacts.Device {
	leaf := id.Chain[0]
	d := artifacts.Device{SerialNumber: id.SerialNumber, AuthorityKeyID: leaf.AuthorityKeyId, Certificate: id.Recipient}
	if decrypter, err := id.Decrypter(); err == nil {
		d.Decrypter = decrypter
	}
	if id.MayAgree() == nil {
		d.KeyAgreement = id
	}
	return d
}

// statusFetcher returns nil where the operator wants nothing fetched.
func (d *daemon) statusFetcher(cfg *config.Config) agent.StatusFetcher {
	if cfg.Trust.Revocation == "carried" {
		return nil
	}
	return &revocation.Fetcher{Logger: d.Logger}
}

// onboardOptions is how onboarding information is executed on this device.
func (d *daemon) onboardOptions(cfg *config.Config, board onboard.Board, device state.Device) onboard.Options {
	o := onboard.Options{
		Store: d.store, Board: board, Slots: d.slots, Dir: d.paths.Onboard, Root: d.paths.Root, Device: device,
		Image: cfg.Image, Configuration: cfg.Configuration, Scripts: cfg.Scripts, Report: cfg.Report, Reboot: cfg.Reboot,
		Logger:      d.Logger,
		Signatures:  signatures(cfg),
		Checkpoints: image.CheckpointFile{FS: durable.OS{}, Path: filepath.Join(d.paths.State, "image-checkpoint")},
	}
	if cfg.Image.VerifyServers {
		anchors := artifacts.PlainAnchors(config.Certificates(cfg.Anchors.Images))
		o.AuthenticateMirror = func(chain []*x509.Certificate, host string) error {
			_, err := artifacts.AuthenticateServer(chain, host, anchors, cfg.ClockAt(time.Now()))
			return err
		}
	}
	return o
}

// signatures returns nil where images need not be signed. No time before any of notBefore is believed.
func signatures(cfg *config.Config, notBefore ...time.Time) func(*x509.Certificate) *signature.Policy {
	if cfg.Image.Signature != "required" {
		return nil
	}
	return func(owner *x509.Certificate) *signature.Policy {
		return &signature.Policy{
			Signers: &cfg.Signers, Namespace: cfg.Image.SignatureNamespace, Owner: owner, Clock: cfg.ClockAt(time.Now(), notBefore...),
		}
	}
}

func (d *daemon) enabled(ctx context.Context) (bool, error) {
	r, err := d.record(ctx)
	if err != nil {
		return false, err
	}
	return r.Enabled, nil
}

// visitable is a restconf.Session that can describe its server.
type visitable struct{ *restconf.Session }

func (v visitable) Certificate() string {
	chain := v.PeerCertificates()
	if len(chain) == 0 {
		return ""
	}
	return describe(chain[0])
}

func describe(cert *x509.Certificate) string {
	return cert.Subject.String() + ", issued by " + cert.Issuer.String()
}

func assertions(cfg *config.Config) []artifacts.Assertion {
	list := make([]artifacts.Assertion, len(cfg.Trust.Assertions))
	for i, a := range cfg.Trust.Assertions {
		list[i] = artifacts.Assertion(a)
	}
	return list
}

// settle returns to the system what only starting up needed: from here on the daemon may wait for days, or install an image.
func settle() {
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), image.Stages+1))
	debug.SetGCPercent(50)
	debug.FreeOSMemory()
}
