package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// imageServer is an nginx that serves an image.
type imageServer struct {
	uri, sha256 string
	size        int64
	cmd         *exec.Cmd
}

// serveImage makes an image of size random bytes and serves it.
func serveImage(ctx context.Context, dir string, size int64) (*imageServer, error) {
	s := &imageServer{size: size}
	var err error
	if s.sha256, err = makeImage(filepath.Join(dir, "www", "image"), size); err != nil {
		return nil, err
	}
	// The port is free, and nothing else runs in these namespaces.
	listener, err := net.Listen("tcp", net.JoinHostPort(serverAddress, "0"))
	if err != nil {
		return nil, err
	}
	address := listener.Addr().String()
	listener.Close()
	s.uri = "http://" + address + "/image"
	config := fmt.Sprintf(`daemon off; master_process off; user root; pid %[1]s/pid; error_log stderr notice;
events {}
http {
  access_log off; sendfile on;
  client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi;
  uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
  server { listen %[2]s; root %[1]s/www; }
}
`, dir, address)
	path := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(path, []byte(config), 0o644); err != nil {
		return nil, err
	}
	s.cmd = exec.CommandContext(ctx, "nginx", "-p", dir, "-c", path)
	if err := startUntil(s.cmd, "getrlimit"); err != nil {
		return nil, err
	}
	return s, nil
}

// processorTime is what the server has spent so far, in seconds.
func (s *imageServer) processorTime() float64 {
	var spent unix.Timespec
	clock := ^s.cmd.Process.Pid<<3 | 2 // clock_getcpuclockid(3) of Linux: CPUCLOCK_SCHED of a process
	if err := unix.ClockGettime(int32(clock), &spent); err != nil {
		return math.NaN()
	}
	return time.Duration(spent.Nano()).Seconds()
}

func (s *imageServer) Close() {
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.cmd.Wait()
}

// startUntil starts a command and waits until it says on its standard error that it serves.
func startUntil(cmd *exec.Cmd, ready string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd.Stderr = w
	err = cmd.Start()
	w.Close()
	if err != nil {
		r.Close()
		return err
	}
	lines := bufio.NewScanner(r)
	var said strings.Builder
	for lines.Scan() {
		if strings.Contains(lines.Text(), ready) {
			go func() {
				defer r.Close()
				io.Copy(io.Discard, r)
			}()
			return nil
		}
		fmt.Fprintln(&said, lines.Text())
	}
	r.Close()
	return fmt.Errorf("%s: %w\n%s", cmd, cmd.Wait(), &said)
}

// makeImage writes random bytes, and leaves them in the page cache for the server. It returns their SHA-256 in hexadecimal.
func makeImage(path string, size int64) (string, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(f, hash), rand.NewChaCha8([32]byte{2}), size); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), f.Sync()
}
