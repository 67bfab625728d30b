package agent_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/agent"
	"github.com/xpu-sztp/ztp/pkg/onboard"
	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/restconf"
	"github.com/xpu-sztp/ztp/pkg/source"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// world is a network of bootstrap servers in memory. It judges server certificates with the real artifacts package, so
// evidence of trust in these tests is real evidence.
type world struct {
	t       *testing.T
	names   map[string][]string     // host name → addresses
	servers map[string]*serverThere // address → what listens there
	trace   []string                // what happened, in order
	inputs  []restconf.Input
	targets []agent.Target
	status  state.Status
	onboard func(onboard.Request) (onboard.Outcome, error)
	enabled bool
	clock   artifacts.Clock
	nonces  byte // how many were drawn; a nonce is 32 times its number
	open    int  // sessions that nobody closed yet
}

type serverThere struct {
	chain   []*x509.Certificate
	answers [][]byte                              // conveyed information, one per request; the last repeats
	signed  func(restconf.Input) artifacts.Bundle // instead, made for each request
	fail    error                                 // of get-bootstrapping-data
	asked   int

	warnings []string
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, names: map[string][]string{}, servers: map[string]*serverThere{}, enabled: true,
		clock:   artifacts.Clock{Now: time.Now(), Confidence: artifacts.ClockRTC},
		onboard: func(onboard.Request) (onboard.Outcome, error) { return onboard.Complete, nil }}
	t.Cleanup(func() {
		if w.open != 0 {
			t.Errorf("%d sessions were left open", w.open)
		}
	})
	return w
}

// nonce draws a nonce, all bytes of which are the count of those drawn, from 1.
func (w *world) nonce() ([]byte, error) {
	w.nonces++
	return nonceNumber(w.nonces), nil
}

func nonceNumber(n byte) []byte { return bytes.Repeat([]byte{n}, 32) }

func (w *world) note(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

func (w *world) agent(sources ...source.Source) *agent.Agent {
	return &agent.Agent{
		Device:    agent.Device{Device: artifacts.Device{SerialNumber: "AC-1"}, HWModel: "X100", OSName: "AcmeOS", OSVersion: "1"},
		Sources:   sources,
		Connect:   w.connect,
		Onboarder: w,
		Enabled:   func() (bool, error) { return w.enabled, nil },
		Clock:     func() artifacts.Clock { return w.clock },
		Nonce:     w.nonce,
		Random:    func() float64 { return 0.5 },
		Retry:     agent.Backoff{Initial: 10 * time.Second, Max: time.Minute},
		Board:     w,
		Log:       slog.New(slog.DiscardHandler),
	}
}

// Update makes world the board.
func (w *world) Update(change func(*state.Status)) { change(&w.status) }

// Execute makes world the onboarder.
func (w *world) Execute(_ context.Context, r onboard.Request) (onboard.Outcome, error) {
	if !r.Info.Valid() {
		w.t.Error("onboarding was handed data without evidence of trust")
	}
	w.note("onboard %s reports=%t level=%s", r.Info.PreScript(), r.Reporter != nil, r.Level)
	return w.onboard(r)
}

func (w *world) ReportParsingError(_ context.Context, _ onboard.Reporter, _ progress.Level, cause error) {
	code, _ := reason.Of(cause)
	w.note("reject %s", code)
}

func (w *world) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	w.note("resolve %s", host)
	addresses, known := w.names[host]
	if !known {
		return nil, errors.New("no such host")
	}
	var found []netip.Addr
	for _, a := range addresses {
		found = append(found, netip.MustParseAddr(a))
	}
	return found, nil
}

func (w *world) DialContext(context.Context, string, string) (net.Conn, error) {
	return nil, errors.New("tests connect in memory")
}

func (w *world) connect(_ context.Context, target agent.Target) (agent.Session, error) {
	mode := "provisional"
	if len(target.Anchors) > 0 {
		mode = "authenticated"
	}
	w.note("connect %s %s:%d %s", target.Host, target.Address, target.Port, mode)
	w.targets = append(w.targets, target)
	if w.open > 0 {
		w.t.Errorf("connecting to %s while another session is open", target.Host)
	}
	there, ok := w.servers[target.Address.String()]
	if !ok {
		return nil, &reason.Error{Code: "connect-failed", Msg: "connection refused"}
	}
	var evidence *artifacts.ServerEvidence
	if len(target.Anchors) > 0 {
		var err error
		if evidence, err = artifacts.AuthenticateServer(there.chain, target.Host, target.Anchors, target.Clock); err != nil {
			return nil, err
		}
	}
	s := w.session(there)
	s.evidence = evidence
	return s, nil
}

// session opens one to a server that did not authenticate.
func (w *world) session(there *serverThere) *session {
	w.open++
	return &session{world: w, there: there}
}

type session struct {
	*world
	there    *serverThere
	evidence *artifacts.ServerEvidence
	closed   bool
}

func (s *session) Evidence() *artifacts.ServerEvidence { return s.evidence }
func (s *session) Certificate() string                 { return "" }

func (s *session) Close() error {
	if !s.closed {
		s.closed = true
		s.open--
	}
	return nil
}

func (s *session) ReportProgress(context.Context, progress.Report) error { return nil }

func (s *session) GetBootstrappingData(_ context.Context, in restconf.Input) (*restconf.Output, error) {
	s.inputs = append(s.inputs, in)
	if s.there.fail != nil {
		return nil, s.there.fail
	}
	if s.there.signed != nil {
		s.there.asked++
		return &restconf.Output{Bundle: s.there.signed(in), Level: progress.Verbose, Warnings: s.there.warnings}, nil
	}
	answer := s.there.answers[min(s.there.asked, len(s.there.answers)-1)]
	s.there.asked++
	return &restconf.Output{Bundle: artifacts.Bundle{ConveyedInformation: answer}, Level: progress.Verbose}, nil
}

// leads is a source that yields fixed leads, in order, each time it is asked.
type leads []source.Lead

func (l leads) Name() string { return "test" }

func (l leads) Discover(ctx context.Context, visit func(context.Context, source.Lead) error) error {
	errs := []error{&reason.Error{Code: "no-dhcp-answer", Msg: "nobody answered"}}
	for _, lead := range l {
		err := visit(ctx, lead)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (w *world) lead(trusted bool, servers ...artifacts.BootstrapServer) source.Lead {
	return source.Lead{Source: "test", Servers: servers, Trusted: trusted, Network: w}
}

func at(host string, anchors ...artifacts.TrustAnchor) artifacts.BootstrapServer {
	return artifacts.BootstrapServer{Address: host, Port: 443, Anchors: anchors}
}

// authority is a certificate authority for server certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Unix(0, 0), NotAfter: time.Now().AddDate(10, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert: cert, key: key}
}

func (a *authority) anchor() artifacts.TrustAnchor {
	return artifacts.TrustAnchor{Lowest: a.cert, Chain: []*x509.Certificate{a.cert}}
}

func (a *authority) serverChain(t *testing.T, host string) []*x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "server"}, DNSNames: []string{host},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, NotBefore: time.Unix(0, 0), NotAfter: time.Now().AddDate(10, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return []*x509.Certificate{cert}
}

// conveyed wraps JSON as unsigned conveyed information of type id-ct-sztpConveyedInfoJSON.
func conveyed(t *testing.T, doc any) []byte {
	t.Helper()
	text, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(struct {
		Type    asn1.ObjectIdentifier
		Content []byte `asn1:"explicit,tag:0"`
	}{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 43}, text})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// onboardingNamed is onboarding information recognisable by its pre-configuration script.
func onboardingNamed(t *testing.T, name string) []byte {
	return conveyed(t, map[string]any{"ietf-sztp-conveyed-info:onboarding-information": map[string]any{
		"pre-configuration-script": base64.StdEncoding.EncodeToString([]byte(name))}})
}

type entry struct {
	host string
	ca   *authority
}

func redirectTo(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var list []map[string]any
	for _, e := range entries {
		server := map[string]any{"address": e.host}
		if e.ca != nil {
			der, err := pkcs7.DegenerateCertificate(e.ca.cert.Raw)
			if err != nil {
				t.Fatal(err)
			}
			server["trust-anchor"] = base64.StdEncoding.EncodeToString(der)
		}
		list = append(list, server)
	}
	return conveyed(t, map[string]any{"ietf-sztp-conveyed-info:redirect-information": map[string]any{"bootstrap-server": list}})
}
