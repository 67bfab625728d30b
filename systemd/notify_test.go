package systemd_test

import (
	"context"
	"net"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/systemd"
)

// manager listens like systemd does for a unit of Type=notify.
func manager(t *testing.T) *net.UnixConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("NOTIFY_SOCKET", path)
	return conn
}

func expect(t *testing.T, conn *net.UnixConn, want string) {
	t.Helper()
	buf := make([]byte, 512)
	n, err := conn.Read(buf)
	if err != nil || string(buf[:n]) != want {
		t.Errorf("got %q, %v; want %q", buf[:n], err, want)
	}
}

func TestNotify(t *testing.T) {
	conn := manager(t)
	systemd.Ready()
	expect(t, conn, "READY=1")
	systemd.Status("visiting\nREADY=1")
	expect(t, conn, "STATUS=visiting READY=1")
	systemd.Stopping()
	expect(t, conn, "STOPPING=1")
}

func TestWatchdog(t *testing.T) {
	conn := manager(t)
	systemd.Watchdog(t.Context(), func() bool { t.Error("asked although the unit has no watchdog"); return false })

	t.Setenv("WATCHDOG_USEC", strconv.Itoa(int((10 * time.Millisecond).Microseconds())))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	alive := make(chan bool, 3)
	alive <- true
	alive <- false // a hung program is not reported alive
	alive <- true
	go func() {
		defer close(ended)
		systemd.Watchdog(ctx, func() bool {
			select {
			case a := <-alive:
				return a
			case <-ctx.Done():
				return false
			}
		})
	}()
	expect(t, conn, "WATCHDOG=1")
	expect(t, conn, "WATCHDOG=1")
	if len(alive) != 0 {
		t.Error("the watchdog was fed without asking whether the program is alive")
	}
	stop()
	<-ended
}
