// Package lab is a whole provisioning network on one machine: DHCP, router advertisements, DNS, a manufacturer with its
// redirect server and voucher service, an owner with bootstrap and file servers, and simulated devices that run the real
// agent. It serves demonstrations, tests and people's own experiments. It is not a production server: keys are made at every
// start and lie in memory or plain files, nothing is limited against abuse, and some of its servers misbehave on request.
package lab

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/xpu-sztp/ztp/test/lab/artifact"
	"github.com/xpu-sztp/ztp/test/lab/bootstrap"
	"github.com/xpu-sztp/ztp/test/lab/device"
	"github.com/xpu-sztp/ztp/test/lab/dhcpd"
	"github.com/xpu-sztp/ztp/test/lab/event"
	"github.com/xpu-sztp/ztp/test/lab/files"
	"github.com/xpu-sztp/ztp/test/lab/masa"
	"github.com/xpu-sztp/ztp/test/lab/pki"
)

// Options describes a laboratory.
type Options struct {
	// Family is what the network speaks. Loopback needs neither privilege nor namespaces: servers listen on 127.0.0.1 with
	// random ports, there is neither DHCP nor DNS, and devices are told URLs.
	Family Family
	NoDHCP bool       // leave DHCP and router advertisements to somebody else
	Log    *event.Log // default a new one
}

// Family is what a laboratory's network speaks.
type Family string

// The families.
const (
	Loopback Family = "loopback"
	IPv4     Family = "ipv4"
	IPv6     Family = "ipv6"
	Dual     Family = "dual"
)

// Lab is a running laboratory. What it gives to devices may be changed while it runs.
type Lab struct {
	Options
	Maker     *pki.Manufacturer
	Owner     *pki.Owner
	MakerWeb  *pki.Entity // issues the certificates of the maker's redirect server and voucher service
	OwnerWeb  *pki.Entity // issues the certificates of the owner's servers
	MASA      *masa.Service
	Redirect  *bootstrap.Server // the maker's: sends devices to their owners, unsigned
	Bootstrap *bootstrap.Server // the owner's
	Files     *files.Server
	DHCP4     *dhcpd.Server4 // nil when the family has none
	DHCP6     *dhcpd.Server6 // nil when the family has none

	RedirectAt, BootstrapAt, FilesAt, MASAAt Endpoint

	voucher *masa.Client

	mu             sync.Mutex
	closers        []io.Closer
	redirectAnswer func(bootstrap.Request) (bootstrap.Answer, error)
	ownerAnswer    func(bootstrap.Request) (bootstrap.Answer, error)
	onboarding     artifact.Onboarding
	reportingLevel string
	ports          int
}

// New builds the laboratory and starts its servers. Unless the family is Loopback it needs a network namespace of its own
// (netlab.Enter).
func New(o Options) (*Lab, error) {
	if o.Log == nil {
		o.Log = &event.Log{}
	}
	l := &Lab{Options: o, reportingLevel: "verbose"}
	for _, step := range []func() error{l.makePKI, l.makeNetwork, l.startMaker, l.startOwner, l.startNames, l.startDHCP} {
		if err := step(); err != nil {
			l.Close()
			return nil, err
		}
	}
	return l, nil
}

// Close stops all servers and devices and removes their links.
func (l *Lab) Close() error {
	l.mu.Lock()
	closers := l.closers
	l.closers = nil
	l.mu.Unlock()
	var errs []error
	for _, c := range slices.Backward(closers) {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// atClose has c closed with the laboratory, before everything that was there earlier.
func (l *Lab) atClose(c io.Closer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closers = append(l.closers, c)
}

func (l *Lab) makePKI() error {
	var err error
	if l.Maker, err = pki.NewManufacturer("Maker"); err != nil {
		return err
	}
	if l.Owner, err = pki.NewOwner("Owner"); err != nil {
		return err
	}
	if l.MakerWeb, err = pki.Root(pki.Profile{CommonName: "Maker Web CA", Organization: "Maker"}); err != nil {
		return err
	}
	l.OwnerWeb, err = pki.Root(pki.Profile{CommonName: "Owner Web CA", Organization: "Owner"})
	return err
}

func (l *Lab) startMaker() error {
	l.MASA = &masa.Service{Signer: l.Maker.MASA, Log: l.Log}
	err := l.open(&l.MASAAt, l.MakerWeb, func(cert tls.Certificate) server {
		return &webServer{&http.Server{
			Handler: l.MASA, TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}, ErrorLog: log.New(io.Discard, "", 0),
		}}
	})
	if err != nil {
		return err
	}
	return l.open(&l.RedirectAt, l.MakerWeb, func(cert tls.Certificate) server {
		l.Redirect = bootstrap.New(bootstrap.Options{
			Name: "redirect", Certificate: cert, Devices: l.Maker.Root.Pool(), Answer: l.answerRedirect, Log: l.Log,
		})
		return l.Redirect
	})
}

func (l *Lab) startOwner() error {
	transport := &http.Transport{DialContext: l.dialByName, TLSClientConfig: &tls.Config{RootCAs: l.MakerWeb.Pool()}}
	l.voucher = &masa.Client{HTTP: &http.Client{Transport: transport}, Owner: l.Owner.Signer}
	err := l.open(&l.BootstrapAt, l.OwnerWeb, func(cert tls.Certificate) server {
		l.Bootstrap = bootstrap.New(bootstrap.Options{
			Name: "bootstrap", Certificate: cert, Devices: l.Maker.Root.Pool(), Root: "/sztp/restconf", Answer: l.answerOwner, Log: l.Log,
		})
		return l.Bootstrap
	})
	if err != nil {
		return err
	}
	return l.open(&l.FilesAt, l.OwnerWeb, func(cert tls.Certificate) server {
		l.Files = &files.Server{Certificate: &cert, Log: l.Log}
		return l.Files
	})
}

// server is what listens at an endpoint.
type server interface {
	Serve(net.Listener) error
	io.Closer
}

// webServer is a server of net/http that speaks TLS.
type webServer struct{ *http.Server }

func (s *webServer) Serve(l net.Listener) error { return s.ServeTLS(l, "", "") }

// open starts the server that newServer makes at an endpoint, with a certificate of ca.
func (l *Lab) open(at *Endpoint, ca *pki.Entity, newServer func(tls.Certificate) server) error {
	listener, err := listen(at)
	if err != nil {
		return err
	}
	cert, err := serverCertificate(ca, *at)
	if err != nil {
		listener.Close()
		return err
	}
	s := newServer(cert)
	l.serve(s, func() error { return s.Serve(listener) })
	return nil
}

// serve runs a server until Close.
func (l *Lab) serve(server io.Closer, run func() error) {
	l.atClose(server)
	go func() {
		if err := run(); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			fmt.Fprintln(os.Stderr, "lab: a server ended:", err)
		}
	}()
}

// Device builds a device of the lab's maker, sold to the lab's owner. Fields of o that are zero and can be known here are
// filled in: Certify, VoucherAnchors and Log.
func (l *Lab) Device(ctx context.Context, o device.Options) (*device.Device, error) {
	if o.Certify == nil {
		o.Certify = func(pub crypto.PublicKey, model, serial string) (*pki.Entity, error) {
			return l.Maker.IDevID(pub, model, serial, "https://"+l.MASAAt.String())
		}
	}
	if o.VoucherAnchors == nil {
		o.VoucherAnchors = append(o.VoucherAnchors, l.Maker.Root.Certificate)
	}
	if o.Log == nil {
		o.Log = l.Log
	}
	l.MASA.Sell(o.Serial, l.Owner.Root.Certificate)
	d, err := device.New(ctx, o)
	if err == nil {
		l.atClose(d)
	}
	return d, err
}

// SavePKI writes every certificate and key of the laboratory into a folder, for people's own experiments.
func (l *Lab) SavePKI(folder string) error {
	for name, e := range map[string]*pki.Entity{
		"maker-root": l.Maker.Root, "idevid-ca": l.Maker.IDevIDCA, "masa": l.Maker.MASA, "maker-web-ca": l.MakerWeb,
		"owner-root": l.Owner.Root, "owner-issuing": l.Owner.Issuing, "owner": l.Owner.Signer, "owner-web-ca": l.OwnerWeb,
	} {
		if err := e.Save(filepath.Clean(folder), name); err != nil {
			return err
		}
	}
	return nil
}
