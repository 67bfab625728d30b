package main

import (
	"io"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestInstallFigures(t *testing.T) {
	round := func(install, cpu float64) installRound {
		return installRound{
			install: stageCost{Seconds: install, ReadBack: 4, Status: 0.25, CPU: cpu}, hash: stageCost{Seconds: 3, CPU: 3},
			write: stageCost{Seconds: 2, CPU: 9}, copy: stageCost{Seconds: 100, CPU: 1}, loopback: 1, serving: 3, pipeline: 16, openssl: 8,
		}
	}
	want := []figure{
		{"install-vs-slowest-stage-x", 0.75, "times", noLimit}, // 3 of 4 s
		{"install-vs-machine-x", 0.875, "times", noLimit},      // two processors do 3 + 1 + 3 s in 3.5
		{"install-vs-pipeline-x", 4, "times", noLimit},
		{"install-vs-pipeline-openssl-x", 2, "times", noLimit},
		{"install-cpu-vs-minimum-x", 1.5, "times", noLimit}, // 6 of 3 + 1 s
		{"install-readback-share-x", 0.5, "times", noLimit},
		{"status-overhead-x", 0.0625, "times", noLimit},
	}
	got := installFigures("-x", 2, []installRound{round(40, 4), round(4, 6), round(0.4, 8)})
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(figure{})); diff != "" {
		t.Error(diff)
	}
	if got := median([]float64{4, 1, 3, 2}); got != 2.5 {
		t.Errorf("the median of four is %v", got)
	}
}

// TestCopySocket fails when the header of a reply is copied too, or part of the body is lost.
func TestCopySocket(t *testing.T) {
	body := strings.Repeat("0123456789", 300_000)
	for name, pieces := range map[string][]string{
		"at once":        {"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n" + body},
		"header apart":   {"HTTP/1.1 200 OK\r\n\r\n", body},
		"within the end": {"HTTP/1.1 200 OK\r\n\r", "\n" + body[:10], body[10:]},
	} {
		t.Run(name, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			go func() {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				for _, p := range pieces {
					io.WriteString(conn, p)
				}
			}()
			conn, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			socket, err := conn.(*net.TCPConn).File() // its Fd blocks, as the socket of the benchmark does
			if err != nil {
				t.Fatal(err)
			}
			defer socket.Close()
			var got strings.Builder
			if err := copySocket(&got, int(socket.Fd()), int64(len(body))); err != nil || got.String() != body {
				t.Errorf("%d of %d bytes, %v", got.Len(), len(body), err)
			}
		})
	}
}
