package image_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xpu-sztp/ztp/pkg/image"
	"github.com/xpu-sztp/ztp/test/nettest"
)

// startNginx starts an nginx that serves an image, and logs status, Range and If-Range of requests.
func startNginx(t *testing.T, server string, image []byte) nettest.Nginx {
	t.Helper()
	return nettest.StartNginx(t, "", "log_format short '$status $http_range $http_if_range'; access_log access.log short;",
		"root www; "+server, map[string][]byte{"www/os.img": image})
}

// breaking is a network whose connections break after so many bytes each, the last of them never.
type breaking struct {
	nettest.Nginx
	after []int
}

func (b *breaking) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := b.Nginx.DialContext(ctx, network, address)
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
		{"as it comes", "", nil, 0, []string{"200 - -"}},
		{"broken", "", []int{500_000, 500_000}, 2, []string{"200 - -", "206 bytes=", "206 bytes="}},
		{"compressing", "gzip on; gzip_types *; gzip_proxied any; gzip_min_length 1;", []int{500_000}, 1, []string{"200 - -", "206 bytes="}},
		{"without ranges", "max_ranges 0;", []int{500_000}, 0, []string{"200 - -", "200 bytes="}},
		{"without entity tags", "etag off;", []int{500_000}, 0, []string{"200 - -", "200 - -"}},
		{"rate limited", "limit_rate 4m;", []int{500_000}, 1, []string{"200 - -", "206 bytes="}},
		{"redirecting", "rewrite ^/old/(.*) /$1 redirect;", nil, 0, []string{"302 - -", "200 - -"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := startNginx(t, tt.server, b)
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
			lines := n.Lines(t, "access.log", len(tt.want))
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
	n := startNginx(t, "", old)
	r := request(b, "http://files.example/os.img")
	r.Network = &breaking{n, []int{500_000}}
	r.Progress = func(p image.Progress) {
		if p.Requests == 1 && !p.Done {
			n.Write(t, "www/new", b)
			if err := os.Rename(filepath.Join(n.Dir, "www/new"), filepath.Join(n.Dir, "www/os.img")); err != nil {
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
