package restconf_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/restconf"
)

// authority is a certificate authority of a test.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t testing.TB, name string, parent *authority) *authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if parent == nil {
		parent = &authority{template, key}
	}
	return &authority{sign(t, template, parent, &key.PublicKey), key}
}

// issue makes a leaf certificate with the intermediates given.
func (a *authority) issue(t testing.TB, template x509.Certificate, intermediates ...*authority) tls.Certificate {
	t.Helper()
	key := newKey(t)
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	leaf := sign(t, &template, a, &key.PublicKey)
	certificate := tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}
	for _, i := range intermediates {
		certificate.Certificate = append(certificate.Certificate, i.certificate.Raw)
	}
	return certificate
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t testing.TB, template *x509.Certificate, parent *authority, public crypto.PublicKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent.certificate, public, parent.key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func pool(authorities ...*authority) *x509.CertPool {
	p := x509.NewCertPool()
	for _, a := range authorities {
		p.AddCert(a.certificate)
	}
	return p
}

// countingSigner counts the signatures that the device's key makes.
type countingSigner struct {
	crypto.Signer
	n   atomic.Int32
	err error
}

func (c *countingSigner) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	c.n.Add(1)
	if c.err != nil {
		return nil, c.err
	}
	return c.Signer.Sign(rand, digest, opts)
}

// seen is one request as the server saw it.
type seen struct {
	Method, Path string
	Header       http.Header
	Body         string
}

// lab is a bootstrap server that demands a client certificate, and a device that has one.
type lab struct {
	server  *httptest.Server
	root    *authority // of the server's certificate
	maker   *authority // root of the device's certificate
	issuing *authority // of the device's certificate
	signer  *countingSigner
	options restconf.Options // provisional

	mu       sync.Mutex
	requests []seen
	peers    [][]*x509.Certificate // what the device presented, by request
	conns    atomic.Int32
	names    []string // server names the device asked for
}

const serverName = "bs1.example.net"

// newLab starts a server; change may change it first.
func newLab(t testing.TB, handler http.HandlerFunc, change ...func(*lab, *tls.Config)) *lab {
	t.Helper()
	l := &lab{root: newAuthority(t, "server root", nil), maker: newAuthority(t, "maker root", nil)}
	l.issuing = newAuthority(t, "IDevID CA", l.maker)
	device := l.issuing.issue(t, x509.Certificate{Subject: pkix.Name{CommonName: "X100", SerialNumber: "AC-000123"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, l.issuing)
	l.signer = &countingSigner{Signer: device.PrivateKey.(crypto.Signer)}
	device.PrivateKey = l.signer

	l.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.record(r)
		handler(w, r)
	}))
	config := &tls.Config{
		Certificates: []tls.Certificate{l.root.issue(t, x509.Certificate{Subject: pkix.Name{CommonName: serverName},
			DNSNames: []string{serverName}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})},
		ClientAuth: tls.RequireAndVerifyClientCert,
		ClientCAs:  pool(l.maker),
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			l.conns.Add(1)
			l.mu.Lock()
			defer l.mu.Unlock()
			l.names = append(l.names, hello.ServerName)
			return nil, nil
		},
	}
	for _, c := range change {
		c(l, config)
	}
	l.server.TLS = config
	l.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	l.server.StartTLS()
	t.Cleanup(l.server.Close)
	address := netip.MustParseAddrPort(l.server.Listener.Addr().String())
	l.options = restconf.Options{Host: serverName, Port: address.Port(), Address: address.Addr(), Certificate: device,
		Clock: artifacts.Clock{Now: time.Now(), Confidence: artifacts.ClockRTC}}
	return l
}

func (l *lab) record(r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests = append(l.requests, seen{r.Method, r.URL.RequestURI(), r.Header.Clone(), string(body)})
	l.peers = append(l.peers, r.TLS.PeerCertificates)
}

// bodies returns the bodies of the requests to path, in order.
func (l *lab) bodies(path string) (list []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.requests {
		if r.Path == path {
			list = append(list, r.Body)
		}
	}
	return list
}

func (l *lab) paths() (list []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.requests {
		list = append(list, r.Method+" "+r.Path)
	}
	return list
}

// authenticated returns the options of a session that trusts the lab's root.
func (l *lab) authenticated() restconf.Options {
	o := l.options
	o.Anchors = []artifacts.TrustAnchor{{Lowest: l.root.certificate, Chain: []*x509.Certificate{l.root.certificate}}}
	return o
}

func connect(t testing.TB, o restconf.Options) *restconf.Session {
	t.Helper()
	s, err := restconf.Connect(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

const (
	pathGBD = "/restconf/operations/ietf-sztp-bootstrap-server:get-bootstrapping-data"
	pathRP  = "/restconf/operations/ietf-sztp-bootstrap-server:report-progress"
)

var ci = base64.StdEncoding.EncodeToString([]byte("conveyed information"))

// good is a correct bootstrap server with the default root.
func good(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case pathGBD:
		w.Header().Set("Content-Type", "application/yang-data+json")
		io.WriteString(w, `{"ietf-sztp-bootstrap-server:output":{"conveyed-information":"`+ci+`"}}`)
	case pathRP:
		w.WriteHeader(http.StatusNoContent)
	default:
		http.NotFound(w, r)
	}
}

func wantCode(t *testing.T, err error, want reason.Code) {
	t.Helper()
	if code, _ := reason.Of(err); code != want {
		t.Fatalf("got %q (%v), want code %q", code, err, want)
	}
}

// closing serves with h on connections that end after every reply.
func closing(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		h(w, r)
	}
}
