package nettest

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Nginx is a real nginx that listens on a socket in the file system, so that no port has to be free. As a network it leads
// every connection there.
type Nginx struct {
	Dir string // where its files are
}

// NginxConfig is the configuration of an nginx of one process that works in dir, which main, http and server add to.
func NginxConfig(dir, main, http, server string) []byte {
	return fmt.Appendf(nil, `daemon off; master_process off; pid %[1]s/pid; %[2]s
events {}
http {
  client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi;
  uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
  %[3]s
  server { %[4]s }
}
`, dir, main, http, server)
}

// StartNginx starts one with these files, by their names in its folder. listen is what its configuration says about the
// socket, http and server are more of it.
func StartNginx(t *testing.T, listen, http, server string, files map[string][]byte) Nginx {
	t.Helper()
	dir, err := os.MkdirTemp("", "nginx-") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	n := Nginx{dir}
	n.Write(t, "nginx.conf", NginxConfig(dir, "error_log stderr;", http, fmt.Sprintf("listen unix:%s/socket %s; %s", dir, listen, server)))
	for name, data := range files {
		n.Write(t, name, data)
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
	return n
}

// Write makes or changes one of its files.
func (n Nginx) Write(t *testing.T, name string, data []byte) {
	t.Helper()
	path := filepath.Join(n.Dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// Lines waits until one of its files has so many lines, and returns them. A line about a request is written after nginx has
// noticed that the client is gone.
func (n Nginx) Lines(t *testing.T, name string, least int) []string {
	t.Helper()
	for tick := time.NewTicker(10 * time.Millisecond); ; <-tick.C {
		data, err := os.ReadFile(filepath.Join(n.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if lines := strings.Split(strings.TrimSpace(string(data)), "\n"); len(lines) >= least && lines[0] != "" {
			return lines
		}
	}
}

// LookupNetIP has an address for every name.
func (Nginx) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
}

// DialContext waits until nginx listens.
func (n Nginx) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", filepath.Join(n.Dir, "socket"))
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
