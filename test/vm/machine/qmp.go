package machine

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

const connectTimeout = 20 * time.Second

// qmp is QEMU's control connection, of which the events are heard.
type qmp struct {
	conn net.Conn
	done chan struct{} // closed when there is nothing more to hear

	mu       sync.Mutex
	reason   string
	watchdog bool
}

// connectQMP waits until QEMU listens. It gives up when exited is closed.
func connectQMP(ctx context.Context, path string, exited <-chan struct{}) (*qmp, error) {
	conn, err := connect(ctx, path, exited)
	if err != nil {
		return nil, err
	}
	q := &qmp{conn: conn, done: make(chan struct{})}
	// The answer is heard with the events.
	if _, err := fmt.Fprintln(conn, `{"execute":"qmp_capabilities"}`); err != nil {
		conn.Close()
		return nil, err
	}
	go q.listen()
	return q, nil
}

func connect(ctx context.Context, path string, exited <-chan struct{}) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, connectTimeout, errors.New("QEMU does not listen at "+path))
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if conn, err := net.Dial("unix", path); err == nil {
			return conn, nil
		}
		select {
		case <-exited:
			return nil, errors.New("QEMU ended at once")
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func (q *qmp) listen() {
	defer close(q.done)
	defer q.conn.Close()
	for lines := bufio.NewScanner(q.conn); lines.Scan(); {
		var message struct {
			Event string `json:"event"`
			Data  struct {
				Reason string `json:"reason"`
			} `json:"data"`
		}
		if json.Unmarshal(lines.Bytes(), &message) != nil {
			continue
		}
		q.mu.Lock()
		switch message.Event {
		case "SHUTDOWN":
			q.reason = message.Data.Reason
		case "WATCHDOG":
			q.watchdog = true
		}
		q.mu.Unlock()
	}
}

// cause is why QEMU ended, if it said so before it did.
func (q *qmp) cause() (Cause, bool) {
	<-q.done
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.watchdog {
		return Watchdog, true
	}
	return Cause(q.reason), q.reason == string(Reset) || q.reason == string(Off)
}
