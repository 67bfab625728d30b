package main

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/test/lab/artifact"
	"github.com/xpu-sztp/ztp/test/lab/bootstrap"
	"github.com/xpu-sztp/ztp/test/lab/device"
	"github.com/xpu-sztp/ztp/test/lab/pki"
)

// countedTPM is configuration that has the agent talk to its TPM through a signatureCounter.
const countedTPM = "[identity]\ntpm = \"unix:/dev/counted.sock\"\n"

const (
	serverAddress  = "127.0.0.1"
	verboseReports = 8 // at least: the beginning, the end, and two for each of three steps
)

// provision makes a device and has it provisioned. It also returns how many signatures its TPM made for each bootstrap
// server it met.
func provision(ctx context.Context, ztp, dir string) (*device.Device, float64, error) {
	maker, err := pki.NewManufacturer("Bench Silicon")
	if err != nil {
		return nil, 0, err
	}
	operator, err := pki.Root(pki.Profile{CommonName: "Bench Operator CA"})
	if err != nil {
		return nil, 0, err
	}
	d, err := newDevice(ctx, maker, device.Options{
		Dir: dir, ZTP: ztp, Serial: "BENCH-1",
		ServerAnchors: []*x509.Certificate{operator.Certificate},
		Config:        countedTPM,
	})
	if err != nil {
		return nil, 0, err
	}
	perServer, err := bootstrapOnce(ctx, d, maker, operator)
	if err != nil {
		d.Close()
		return nil, 0, err
	}
	return d, perServer, nil
}

// bootstrapOnce lets d go through a redirect to its onboarding, each at a server of its own that authenticates devices,
// with verbose reports to the second. It returns the TPM's signatures for each server, from the first connection on.
func bootstrapOnce(ctx context.Context, d *device.Device, maker *pki.Manufacturer, operator *pki.Entity) (float64, error) {
	counter, err := countSignatures(d.Path("dev/counted.sock"), d.Path("dev/tpm.sock"))
	if err != nil {
		return 0, err
	}
	defer counter.Close()
	onboarding, err := serve(operator, maker, onboardingAnswer)
	if err != nil {
		return 0, err
	}
	defer onboarding.server.Close()
	redirect, err := serve(operator, maker, func() (bootstrap.Answer, error) {
		return redirectAnswer(operator, onboarding.port())
	})
	if err != nil {
		return 0, err
	}
	defer redirect.server.Close()
	redirect.contacted = counter.mark

	first := fmt.Sprintf("https://%s:%d", serverAddress, redirect.port())
	out, code, err := d.Ztp(ctx, "run", "--once", "--trusted", "--url", first)
	if err != nil {
		return 0, err
	}
	complaints := append(redirect.server.Violations(), onboarding.server.Violations()...)
	signed := counter.sinceMark()
	switch {
	case code != state.ExitProvisioned:
		return 0, fmt.Errorf("ztp run ended with %d:\n%s", code, out)
	case len(onboarding.server.Reports()) < verboseReports:
		return 0, fmt.Errorf("only %d reports arrived:\n%s", len(onboarding.server.Reports()), out)
	case len(complaints) > 0:
		return 0, errors.New(strings.Join(complaints, "\n"))
	case signed == 0:
		return 0, errors.New("the device was provisioned without a signature of its TPM")
	}
	return float64(signed) / 2, nil
}

// newDevice makes a device whose IDevID maker issues.
func newDevice(ctx context.Context, maker *pki.Manufacturer, o device.Options) (*device.Device, error) {
	o.Certify = func(pub crypto.PublicKey, model, serial string) (*pki.Entity, error) {
		return maker.IDevID(pub, model, serial, "")
	}
	return device.New(ctx, o)
}

// onboardingAnswer asks for every step but an image, so that there is no reboot.
func onboardingAnswer() (bootstrap.Answer, error) {
	return answer(artifact.Onboarding{
		PreScript:     []byte("#!/bin/sh\necho before\n"),
		Handling:      "replace",
		Configuration: []byte("hostname bench\n"),
		PostScript:    []byte("#!/bin/sh\necho after\n"),
	}.JSON())
}

func redirectAnswer(operator *pki.Entity, port uint16) (bootstrap.Answer, error) {
	anchor, err := artifact.TrustAnchor(operator)
	if err != nil {
		return bootstrap.Answer{}, err
	}
	return answer(artifact.Redirect{Servers: []artifact.BootstrapServer{
		{Address: serverAddress, Port: port, TrustAnchor: anchor},
	}}.JSON())
}

func answer(document []byte, err error) (bootstrap.Answer, error) {
	if err != nil {
		return bootstrap.Answer{}, err
	}
	conveyed, err := artifact.Unsigned(document)
	return bootstrap.Answer{ReportingLevel: "verbose", Bundle: artifact.Bundle{ConveyedInformation: conveyed}}, err
}

// bootstrapServer is a bootstrap server on a port of its own. Its Accept tells of every connection.
type bootstrapServer struct {
	net.Listener
	server    *bootstrap.Server
	contacted func() // called at each connection, before it is served
}

func serve(operator *pki.Entity, maker *pki.Manufacturer, give func() (bootstrap.Answer, error)) (*bootstrapServer, error) {
	profile := pki.ServerProfile("bench")
	profile.IPs = []net.IP{net.ParseIP(serverAddress)}
	identity, err := operator.Issue(profile)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(serverAddress, "0"))
	if err != nil {
		return nil, err
	}
	s := &bootstrapServer{Listener: listener, contacted: func() {}}
	s.server = bootstrap.New(bootstrap.Options{
		Certificate: identity.TLS(),
		Devices:     maker.Root.Pool(),
		Answer:      func(bootstrap.Request) (bootstrap.Answer, error) { return give() },
	})
	go s.server.Serve(s)
	return s, nil
}

func (s *bootstrapServer) port() uint16 { return uint16(s.Addr().(*net.TCPAddr).Port) }

func (s *bootstrapServer) Accept() (net.Conn, error) {
	conn, err := s.Listener.Accept()
	if err == nil {
		s.contacted()
	}
	return conn, err
}
