package machine

import (
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestShell talks to a shell like that of the machine, which answers late to some of what it is asked.
func TestShell(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shell")
	listener, err := net.Listen("unix", path)
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
		// What an earlier question left behind.
		io.WriteString(conn, "boot message\nshell-1-ready\n")
		cmd := exec.Command("/bin/sh")
		cmd.Stdin, cmd.Stdout = conn, conn
		cmd.Run()
	}()
	s, err := connectShell(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.conn.Close()
	for command, want := range map[string]struct {
		output string
		status int
	}{
		"echo one; echo two":  {"one\ntwo", 0},
		"printf unfinished":   {"unfinished", 0},
		"echo why >&2; false": {"why", 1},
		"(exit 7)":            {"", 7},
		"cat":                 {"", 0}, // it gets no input
	} {
		output, status, err := s.Run(t.Context(), command)
		if err != nil || output != want.output || status != want.status {
			t.Errorf("%s: %q, %d, %v", command, output, status, err)
		}
	}
}
