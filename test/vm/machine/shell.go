package machine

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// Shell is what reads the second serial line of the machine: a shell without prompt or echo.
type Shell struct {
	conn  net.Conn
	lines chan string
	count int
}

func connectShell(ctx context.Context, path string, exited <-chan struct{}) (*Shell, error) {
	conn, err := connect(ctx, path, exited)
	if err != nil {
		return nil, err
	}
	s := &Shell{conn: conn, lines: make(chan string, 1024)}
	go func() {
		defer close(s.lines)
		defer conn.Close()
		for lines := bufio.NewReader(conn); ; {
			text, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			s.lines <- strings.TrimRight(text, "\r\n")
		}
	}()
	return s, nil
}

// again is how often the shell is told the same until it answers: whatever is sent before it reads is lost.
const again = 3 * time.Second

// Ready waits for the shell.
func (s *Shell) Ready(ctx context.Context) error {
	s.count++
	mark := fmt.Sprintf("shell-%d-ready", s.count)
	tick := time.NewTicker(again)
	defer tick.Stop()
	for {
		// What may be left of an earlier command is ended first.
		if _, err := fmt.Fprintf(s.conn, "\necho shell-%d-$(echo ready)\n", s.count); err != nil {
			return fmt.Errorf("shell of the machine: %w", err)
		}
		if found, err := s.until(ctx, tick.C, func(line string) bool { return strings.HasSuffix(line, mark) }); found || err != nil {
			return err
		}
	}
}

func (s *Shell) until(ctx context.Context, tick <-chan time.Time, match func(string) bool) (bool, error) {
	for {
		select {
		case line, ok := <-s.lines:
			if !ok {
				return false, fmt.Errorf("the machine has ended")
			}
			if match(line) {
				return true, nil
			}
		case <-tick:
			return false, nil
		case <-ctx.Done():
			return false, fmt.Errorf("shell of the machine: %w", context.Cause(ctx))
		}
	}
}

// Send has the shell run a command, and does not wait for what comes of it.
func (s *Shell) Send(ctx context.Context, command string) error {
	if err := s.Ready(ctx); err != nil {
		return err
	}
	_, err := fmt.Fprintln(s.conn, command)
	return err
}

// Run has the shell run a command, and returns what it printed and its exit status. One command at a time.
func (s *Shell) Run(ctx context.Context, command string) (output string, status int, err error) {
	if err := s.Ready(ctx); err != nil {
		return "", -1, err
	}
	s.count++
	begin, mark := fmt.Sprintf("shell-%d-begin", s.count), fmt.Sprintf("shell-%d-status ", s.count)
	// Written so that the marks are not in what is sent, should it be echoed. Before the first there may be answers to Ready.
	if _, err := fmt.Fprintf(s.conn, "echo shell-%[1]d-\"begin\"; { %[2]s\n} </dev/null 2>&1; code=$?; echo; echo \"shell-%[1]d-\"status $code\n", s.count, command); err != nil {
		return "", -1, fmt.Errorf("shell of the machine: %w", err)
	}
	var lines []string
	_, err = s.until(ctx, nil, func(line string) bool {
		code, ended := strings.CutPrefix(line, mark)
		switch {
		case ended:
			status, _ = strconv.Atoi(code)
		case strings.HasSuffix(line, begin):
			lines = nil
		default:
			lines = append(lines, line)
		}
		return ended
	})
	if err != nil {
		return "", -1, fmt.Errorf("%s: %w", command, err)
	}
	return strings.TrimSuffix(strings.Join(lines, "\n"), "\n"), status, nil
}
