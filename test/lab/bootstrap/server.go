// Package bootstrap is a bootstrap server (RFC 8572 §7) for laboratories: RESTCONF over mutual TLS, JSON or XML, a device known by
// the serial number in its IDevID. It is strict about what devices may send, keeps every request and report for inspection,
// and can be told to misbehave. What a device is given is decided by a function of the caller's.
package bootstrap

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/xpu-sztp/ztp/test/lab/artifact"
	"github.com/xpu-sztp/ztp/test/lab/event"
)

// RESTCONF root discovery and the operations of RFC 8572 §7, as faults and events name them.
const (
	HostMeta             = "host-meta"
	GetBootstrappingData = "get-bootstrapping-data"
	ReportProgress       = "report-progress"
)

const (
	maxBody   = 4 << 20
	jsonType  = "application/yang-data+json"
	operation = "/operations/ietf-sztp-bootstrap-server:"
)

// Options describes a server. Certificate and Devices are mandatory.
type Options struct {
	Name        string // for events; default "bootstrap"
	Certificate tls.Certificate
	Devices     *x509.CertPool // the manufacturers whose IDevIDs are admitted
	Root        string         // the RESTCONF root; default "/restconf"
	// Answer decides what a device is given. Its errors become the RESTCONF error invalid-value with status 404.
	Answer func(Request) (Answer, error)
	Log    *event.Log // may be nil
}

// Request is a get-bootstrapping-data request of an authenticated device.
type Request struct {
	Serial   string
	Chain    []*x509.Certificate // as the device sent it, leaf first
	Host     string              // the Host header
	Input    Input
	Received time.Time
}

// Answer is what a device is given.
type Answer struct {
	ReportingLevel string // "", "minimal" or "verbose"
	Summary        string // what it is, for events
	artifact.Bundle
}

// Report is a progress report that was received.
type Report struct {
	Serial   string
	Received time.Time
	Status   int // what the server answered
	ProgressInput
}

// Server is a bootstrap server. Use New.
type Server struct {
	options Options
	http    *http.Server

	mu         sync.Mutex
	faults     map[string][]Fault
	requests   []Request
	reports    []Report
	violations []string
	handshakes int
	xml        bool // see SpeakXML
}

// New returns a server that is ready to Serve.
func New(o Options) *Server {
	if o.Name == "" {
		o.Name = "bootstrap"
	}
	if o.Root == "" {
		o.Root = "/restconf"
	}
	if o.Log == nil {
		o.Log = &event.Log{}
	}
	s := &Server{options: o, faults: map[string][]Fault{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/host-meta", s.faulty(HostMeta, s.hostMeta))
	mux.HandleFunc("POST "+o.Root+operation+GetBootstrappingData, s.faulty(GetBootstrappingData, s.getBootstrappingData))
	mux.HandleFunc("POST "+o.Root+operation+ReportProgress, s.faulty(ReportProgress, s.reportProgress))
	s.http = &http.Server{
		Handler: mux,
		TLSConfig: &tls.Config{
			Certificates:     []tls.Certificate{o.Certificate},
			ClientAuth:       tls.RequireAndVerifyClientCert,
			ClientCAs:        o.Devices,
			VerifyConnection: s.noteClient,
		},
		ErrorLog:          log.New(tlsErrors{s}, "", 0),
		ReadHeaderTimeout: time.Minute,
	}
	return s
}

// Serve accepts TLS connections on l until Close.
func (s *Server) Serve(l net.Listener) error { return s.http.ServeTLS(l, "", "") }

// Close ends Serve and all connections.
func (s *Server) Close() error { return s.http.Close() }

// Requests returns the get-bootstrapping-data requests so far.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

// Reports returns the progress reports so far.
func (s *Server) Reports() []Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Report(nil), s.reports...)
}

// Violations returns what devices did that RFC 8572 does not allow; such requests are answered with 400.
func (s *Server) Violations() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.violations...)
}

// Handshakes returns how many TLS handshakes with a device were completed.
func (s *Server) Handshakes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.handshakes
}

// noteClient runs when the client's certificate was verified.
func (s *Server) noteClient(state tls.ConnectionState) error {
	leaf := state.PeerCertificates[0]
	serial := leaf.Subject.SerialNumber
	if serial == "" {
		return fmt.Errorf("the client certificate %q has no serialNumber in its subject", leaf.Subject)
	}
	s.mu.Lock()
	s.handshakes++
	s.mu.Unlock()
	s.options.Log.Add(s.options.Name, event.TLS, []string{"serial", serial},
		"device %s proved its IDevID (issued by %q, %d certificate(s) sent)",
		serial, leaf.Issuer.CommonName, len(state.PeerCertificates))
	return nil
}

func (s *Server) hostMeta(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/xrd+xml")
	io.WriteString(w, "<?xml version='1.0' encoding='UTF-8'?>\n"+
		"<XRD xmlns='http://docs.oasis-open.org/ns/xri/xrd-1.0'>\n  <Link rel='restconf' href='"+s.options.Root+"'/>\n</XRD>\n")
}

func (s *Server) violation(serial, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.violations = append(s.violations, serial+": "+err.Error())
	return err
}

// tlsErrors turns net/http's error log into events.
type tlsErrors struct{ server *Server }

func (t tlsErrors) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	if i := strings.Index(text, "TLS handshake error from "); i >= 0 {
		t.server.options.Log.Add(t.server.options.Name, event.TLS, []string{"error", text}, "%s", text)
	}
	return len(line), nil
}
