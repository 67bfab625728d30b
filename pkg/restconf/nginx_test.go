package restconf_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/pkg/restconf"
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

// startNginx returns how to connect to a real nginx with a certificate of the lab's root. It listens on a socket in the
// file system, so that no port has to be free.
func startNginx(t *testing.T, l *lab, server string) func(context.Context, string, string) (net.Conn, error) {
	t.Helper()
	dir, err := os.MkdirTemp("", "nginx-") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	web := l.root.issue(t, x509.Certificate{Subject: pkix.Name{CommonName: serverName}, DNSNames: []string{serverName},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	config := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log stderr;
events {}
http {
  access_log off;
  client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi;
  uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
  server { listen unix:%[1]s/socket ssl; ssl_certificate %[1]s/web.pem; ssl_certificate_key %[1]s/web.key; %[2]s }
}
`, dir, server)
	for name, content := range map[string][]byte{"nginx.conf": []byte(config), "web.pem": certificatesPEM(web), "web.key": keyPEM(t, web)} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("nginx", "-p", dir, "-c", filepath.Join(dir, "nginx.conf"))
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		for tick := time.NewTicker(10 * time.Millisecond); ; {
			conn, err := new(net.Dialer).DialContext(ctx, "unix", filepath.Join(dir, "socket"))
			if err == nil {
				return conn, nil
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return nil, err
			}
		}
	}
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
