package image_test

import (
	"bytes"
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

	"github.com/xpu-sztp/ztp/pkg/image"
)

// nginx is a real one that serves dir/www with its own idea of HTTP, reached through a socket in the file system.
type nginx struct{ dir string }

func startNginx(t *testing.T, server string, content map[string][]byte) nginx {
	t.Helper()
	dir, err := os.MkdirTemp("", "nginx-") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	config := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log stderr;
events {}
http {
  log_format short '$status $http_range $http_if_range $bytes_sent';
  access_log %[1]s/access.log short;
  client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi;
  uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
  server { listen unix:%[1]s/socket; root %[1]s/www; %[2]s }
}
`, dir, server)
	n := nginx{dir}
	n.write(t, "nginx.conf", []byte(config))
	for name, data := range content {
		n.write(t, "www/"+name, data)
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

func (n nginx) write(t *testing.T, name string, data []byte) {
	t.Helper()
	path := filepath.Join(n.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// log is what nginx answered: status, Range and If-Range of each of so many requests. It writes a line after it has noticed
// that the client is gone.
func (n nginx) log(t *testing.T, requests int) []string {
	t.Helper()
	for tick := time.NewTicker(10 * time.Millisecond); ; <-tick.C {
		data, err := os.ReadFile(filepath.Join(n.dir, "access.log"))
		if err != nil {
			t.Fatal(err)
		}
		if lines := strings.Split(strings.TrimSpace(string(data)), "\n"); len(lines) >= requests && lines[0] != "" {
			return lines
		}
	}
}

func (n nginx) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
}

// DialContext waits until nginx listens.
func (n nginx) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", filepath.Join(n.dir, "socket"))
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

// breaking is a network whose connections break after so many bytes each, the last of them never.
type breaking struct {
	nginx
	after []int
}

func (b *breaking) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := b.nginx.DialContext(ctx, network, address)
	if err != nil || len(b.after) == 0 {
		return conn, err
	}
	left := b.after[0]
	b.after = b.after[1:]
	return &breakable{conn, left}, nil
}

type breakable struct {
	net.Conn
	left int
}

func (b *breakable) Read(p []byte) (int, error) {
	if b.left == 0 {
		b.Close()
		return 0, net.ErrClosed
	}
	n, err := b.Conn.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// What operators run as a file server does what this package hopes for.
func TestNginx(t *testing.T) {
	b := content(2 << 20)
	tests := []struct {
		name    string
		server  string
		cuts    []int
		resumed int
		want    []string // beginnings of lines of the log
	}{
		{"as it comes", "", nil, 0, []string{"200 - - "}},
		{"broken", "", []int{500_000, 500_000}, 2, []string{"200 - - ", "206 bytes=", "206 bytes="}},
		{"compressing", "gzip on; gzip_types *; gzip_proxied any; gzip_min_length 1;", []int{500_000}, 1, []string{"200 - - ", "206 bytes="}},
		{"without ranges", "max_ranges 0;", []int{500_000}, 0, []string{"200 - - ", "200 bytes="}},
		{"without entity tags", "etag off;", []int{500_000}, 0, []string{"200 - - ", "200 - - "}},
		{"rate limited", "limit_rate 4m;", []int{500_000}, 1, []string{"200 - - ", "206 bytes="}},
		{"redirecting", "rewrite ^/old/(.*) /$1 redirect;", nil, 0, []string{"302 - - ", "200 - - "}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := startNginx(t, tt.server, map[string][]byte{"os.img": b})
			uri := "http://files.example/os.img"
			if tt.name == "redirecting" {
				uri = "http://files.example/old/os.img"
			}
			r := request(b, uri)
			r.Network = &breaking{n, tt.cuts}
			var sink memory
			result, err := image.Fetch(t.Context(), r, &sink)
			if err != nil {
				t.Fatal(err)
			}
			wantImage(t, &sink, b)
			if result.Resumed != tt.resumed {
				t.Errorf("resumed %d times, want %d", result.Resumed, tt.resumed)
			}
			lines := n.log(t, len(tt.want))
			for i, line := range lines {
				if i >= len(tt.want) || !strings.HasPrefix(line, tt.want[i]) {
					t.Errorf("nginx tells of %q, want %q", lines, tt.want)
				}
			}
		})
	}
}

// A file that is replaced while it is downloaded is not mixed with the one that it replaces, at the same mirror.
func TestNginxFileReplaced(t *testing.T) {
	old, b := bytes.Repeat([]byte("old"), 1<<20), content(2<<20)
	n := startNginx(t, "", map[string][]byte{"os.img": old})
	r := request(b, "http://files.example/os.img")
	r.Network = &breaking{n, []int{500_000}}
	r.Progress = func(p image.Progress) {
		if p.Requests == 1 && !p.Done {
			n.write(t, "www/new", b)
			if err := os.Rename(filepath.Join(n.dir, "www/new"), filepath.Join(n.dir, "www/os.img")); err != nil {
				t.Error(err)
			}
		}
	}
	var sink memory
	result, err := image.Fetch(t.Context(), r, &sink)
	if err != nil || result.Resumed != 0 {
		t.Fatalf("%+v, %v", result, err)
	}
	wantImage(t, &sink, b)
}
