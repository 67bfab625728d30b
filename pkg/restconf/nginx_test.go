package restconf_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/pkg/restconf"
	"github.com/xpu-sztp/ztp/test/nettest"
)

// TestRetryAfterOfNginx has a real front of bootstrap servers turn devices away, in both forms of the header.
func TestRetryAfterOfNginx(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		header   string
		from, to time.Duration
	}{
		"seconds": {"75", 75 * time.Second, 75 * time.Second},
		"a date":  {time.Now().Add(time.Hour).UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT"), 58 * time.Minute, time.Hour},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, nil)
			o := l.options
			o.Dial = startNginx(t, l, fmt.Sprintf(`location / { add_header Retry-After %q always; return 503; }`, tt.header))
			_, err := connect(t, o).GetBootstrappingData(t.Context(), restconf.Input{})
			wantCode(t, err, restconf.CodeServerError)
			e, ok := err.(*restconf.Error)
			if !ok || e.Status != 503 || e.RetryAfter < tt.from || e.RetryAfter > tt.to {
				t.Errorf("%#v", err)
			}
		})
	}
}

// startNginx returns how to connect to a real nginx with a certificate of the lab's root.
func startNginx(t *testing.T, l *lab, server string) func(context.Context, string, string) (net.Conn, error) {
	t.Helper()
	web := l.root.issue(t, x509.Certificate{Subject: pkix.Name{CommonName: serverName}, DNSNames: []string{serverName},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	return nettest.StartNginx(t, "ssl", "access_log off;", "ssl_certificate web.pem; ssl_certificate_key web.key; "+server,
		map[string][]byte{"web.pem": certificatesPEM(web), "web.key": keyPEM(t, web)}).DialContext
}

func certificatesPEM(c tls.Certificate) (list []byte) {
	for _, der := range c.Certificate {
		list = append(list, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return list
}

func keyPEM(t *testing.T, c tls.Certificate) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}
