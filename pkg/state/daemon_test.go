package state

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestDaemonLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	if _, alive, err := Daemon(dir); alive || err != nil {
		t.Fatalf("without a run folder: alive %v, %v", alive, err)
	}
	other := otherProcess("daemon", dir)
	in, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer other.Wait()
	defer in.Close()
	said := make([]byte, len("locked"))
	if _, err := out.Read(said); err != nil || string(said) != "locked" {
		t.Fatalf("the other daemon said %q, %v", said, err)
	}
	if pid, alive, err := Daemon(dir); !alive || pid != other.Process.Pid || err != nil {
		t.Errorf("got pid %d, alive %v, %v; want %d", pid, alive, err, other.Process.Pid)
	}
	_, err = LockDaemon(dir)
	wantCode(t, err, ReasonRunning)
	if !strings.Contains(err.Error(), strconv.Itoa(other.Process.Pid)) {
		t.Errorf("%q does not name the process", err)
	}
	other.Process.Kill()
	other.Wait()
	if _, alive, err := Daemon(dir); alive || err != nil {
		t.Errorf("after its death: alive %v, %v", alive, err)
	}
	lock, err := LockDaemon(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := lock.Unlock(); err != nil {
		t.Error(err)
	}
}
