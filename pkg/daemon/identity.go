package daemon

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/xpu-sztp/ztp/pkg/agent"
	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/tpm"
)

const (
	// identityTimeout bounds one attempt to find the identity: some dozens of TPM commands, of which slow ones take seconds.
	identityTimeout = 2 * time.Minute
	// maxIdentityWait is the longest wait for the next attempt. Nobody but this device's own TPM is asked, so that it need
	// not be spared like a server.
	maxIdentityWait = time.Minute
)

// IdentityOptions says where the configuration places the identity.
func IdentityOptions(cfg *config.Config) tpm.Options {
	o := tpm.Options{
		TPM:                cfg.Identity.TPM,
		Key:                cfg.Identity.Key,
		Certificate:        cfg.Identity.Certificate,
		DecryptKey:         cfg.Identity.DecryptKey,
		DecryptCertificate: cfg.Identity.DecryptCertificate,
		SerialNumber:       cfg.Device.SerialNumber,
	}
	if cfg.Device.SerialPattern != "" {
		o.SerialPattern, _ = tpm.ParseSerialPattern(cfg.Device.SerialPattern) // checked when it was read
	}
	return o
}

// openIdentity finds the device's identity. A TPM may need time to appear, and a person time to repair what is wrong with
// it, so this goes on until it works, except in a session of one round. What stays the same is logged once.
func (d *daemon) openIdentity(ctx context.Context, cfg *config.Config) (*tpm.Identity, error) {
	options := IdentityOptions(cfg)
	retry := backoff(cfg)
	retry.Max = min(retry.Max, maxIdentityWait)
	waits := retry.Schedule(rand.Float64())
	logged := ""
	for {
		bounded, cancel := context.WithTimeout(ctx, identityTimeout)
		identity, err := tpm.Open(bounded, options)
		cancel()
		if err == nil || d.Once || ctx.Err() != nil {
			return identity, err
		}
		next, _ := waits.Failed(time.Now(), time.Time{})
		why := agent.Explain(err)
		if why.Message != logged {
			logged = why.Message
			d.Logger.Error("no identity, trying again until there is one", agent.Attributes(why))
		}
		d.Logger.Debug("no identity, waiting", "reason", why.Code, "retry_in", time.Until(next).Round(time.Millisecond).String())
		d.board.Update(func(s *state.Status) { s.Reason, s.NextAttempt = why, next.UTC() })
		select {
		case <-time.After(time.Until(next)):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// showIdentity puts the identity on the board and into the log, loudly when its key is a plain file.
func (d *daemon) showIdentity(id *tpm.Identity, device state.Device) {
	leaf := id.Chain[0]
	decryptKey, err := id.DecryptionKey()
	if err != nil {
		d.Logger.Info("encrypted artifacts cannot be read", "reason", string(agent.Explain(err).Code), "error", err)
	}
	shown := &state.Identity{
		Kind:        string(id.Kind),
		Key:         id.Key,
		Certificate: id.Certificate,
		Subject:     leaf.Subject.String(),
		Issuer:      leaf.Issuer.String(),
		NotAfter:    leaf.NotAfter.UTC(),
		Algorithm:   tpm.Algorithm(leaf.PublicKey),
		DecryptKey:  decryptKey,
		Warnings:    id.Warnings,
	}
	d.board.Update(func(s *state.Status) {
		s.Device, s.Identity = device, shown
		s.Reason, s.NextAttempt = nil, time.Time{}
	})
	d.Logger.Info("identity found", "serial_number", id.SerialNumber, "key", id.Key, "algorithm", shown.Algorithm)
	for _, w := range id.Warnings {
		d.Logger.Warn("identity: " + w)
	}
}

func backoff(cfg *config.Config) agent.Backoff {
	return agent.Backoff{Initial: time.Duration(cfg.Retry.Initial), Max: time.Duration(cfg.Retry.Max)}
}
