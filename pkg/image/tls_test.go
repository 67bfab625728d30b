package image_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/image"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

// authority is a certification authority of file servers.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert, key}
}

// serve starts an https server with a certificate for host, valid until end.
func (a authority) serve(t *testing.T, h http.HandlerFunc, host net.IP, end time.Time) string {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(2), IPAddresses: []net.IP{host}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		NotBefore: a.cert.NotBefore, NotAfter: end}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(h)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: a.key}}}
	server.Config.ErrorLog = quiet()
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}

func TestAuthenticatedMirrors(t *testing.T) {
	b := content(1000)
	ours, theirs := newAuthority(t, "Files"), newAuthority(t, "Others")
	here, elsewhere, valid := net.IPv4(127, 0, 0, 1), net.IPv4(192, 0, 2, 1), time.Now().Add(time.Hour)
	secret := func(w http.ResponseWriter, r *http.Request) {
		t.Error("a server that is not believed was asked")
		w.Write(b)
	}
	good := ours.serve(t, file(b, ""), here, valid)
	impostor := theirs.serve(t, secret, here, valid)
	moved := ours.serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, impostor, http.StatusFound) }, here, valid)
	expired := ours.serve(t, file(b, ""), here, time.Now().Add(-time.Minute))
	old := httptest.NewUnstartedServer(nil)
	old.TLS = &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	old.Config.ErrorLog = quiet()
	old.StartTLS()
	t.Cleanup(old.Close)
	authenticate := func(confidence artifacts.Confidence) func([]*x509.Certificate, string) error {
		return func(chain []*x509.Certificate, host string) error {
			_, err := artifacts.AuthenticateServer(chain, host, artifacts.PlainAnchors([]*x509.Certificate{ours.cert}),
				artifacts.Clock{Now: time.Now(), Confidence: confidence})
			return err
		}
	}
	rtc := authenticate(artifacts.ClockRTC)
	tests := []struct {
		name         string
		uri          string
		authenticate func([]*x509.Certificate, string) error
		code         reason.Code
	}{
		{"good", good, rtc, ""},
		{"other authority", impostor, rtc, image.CodeTLS},
		{"other name", ours.serve(t, secret, elsewhere, valid), rtc, image.CodeTLS},
		{"expired", expired, rtc, image.CodeTLS},
		{"expired by a clock that nobody believes", expired, authenticate(artifacts.ClockNone), ""},
		{"moved to another authority's", moved, rtc, image.CodeTLS},
		{"blind", theirs.serve(t, file(b, ""), elsewhere, time.Now().Add(-time.Minute)), nil, ""},
		{"no TLS", "https" + strings.TrimPrefix(serve(t, file(b, "")), "http"), nil, image.CodeTLS},
		{"TLS of the past", old.URL, nil, image.CodeTLS},
		{"http", serve(t, file(b, "")), rtc, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := request(b, tt.uri)
			r.Authenticate, r.CrossOrigin = tt.authenticate, true
			_, err := image.Fetch(t.Context(), r, &memory{})
			wantCode(t, err, tt.code)
			if err == nil {
				return
			}
			if _, hint := reason.Of(err); hint == "" {
				t.Errorf("%q does not say what to do", err)
			}
			r.URIs = append(r.URIs, good)
			if _, err := image.Fetch(t.Context(), r, &memory{}); err != nil {
				t.Errorf("the next mirror was not used: %v", err)
			}
		})
	}
}
