package systemd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/reason"
)

// fakeManager stands in the place of systemd on a bus: what a real one does, the tests in test/nspawn show.
type fakeManager struct {
	conn   *dbus.Conn
	liar   *dbus.Conn // somebody else on the bus
	told   chan string
	mu     sync.Mutex // guards the rest
	result string     // of jobs
	denied bool
	jobs   int
}

// StartUnit, StopUnit, EnableUnitFiles, DisableUnitFiles and Reload are those of org.freedesktop.systemd1.Manager.
func (f *fakeManager) StartUnit(name, mode string) (dbus.ObjectPath, *dbus.Error) {
	return f.job("start", name, mode)
}

func (f *fakeManager) StopUnit(name, mode string) (dbus.ObjectPath, *dbus.Error) {
	return f.job("stop", name, mode)
}

func (f *fakeManager) job(verb, name, mode string) (dbus.ObjectPath, *dbus.Error) {
	f.told <- fmt.Sprintf("%s %s %s", verb, name, mode)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.denied {
		return "", dbus.NewError("org.freedesktop.DBus.Error.AccessDenied", []any{"Permission denied"})
	}
	f.jobs++
	path := dbus.ObjectPath(fmt.Sprintf("%s/job/%d", managerPath, f.jobs))
	// The caller may learn of the end before it has the answer.
	if err := f.conn.Emit(managerPath, managerName+".Manager.JobRemoved", uint32(f.jobs), path, name, f.result); err != nil {
		return "", dbus.MakeFailedError(err)
	}
	lie := map[bool]string{true: "failed", false: "done"}[f.result == "done"]
	told := f.conn.BusObject().Call("org.freedesktop.DBus.GetId", 0).Err // the bus has taken what came before it
	err := f.liar.Emit(managerPath, managerFace+"."+jobRemoved, uint32(f.jobs), path, name, lie)
	if err := errors.Join(told, err, f.liar.BusObject().Call("org.freedesktop.DBus.GetId", 0).Err); err != nil {
		return "", dbus.MakeFailedError(err)
	}
	return path, nil
}

type change struct{ Type, File, Destination string }

func (f *fakeManager) EnableUnitFiles(files []string, runtime, force bool) (bool, []change, *dbus.Error) {
	f.told <- fmt.Sprintf("enable %s %t %t", files, runtime, force)
	return true, []change{{"symlink", "/etc/x", "/usr/x"}}, nil
}

func (f *fakeManager) DisableUnitFiles(files []string, runtime bool) ([]change, *dbus.Error) {
	f.told <- fmt.Sprintf("disable %s %t", files, runtime)
	return nil, nil
}

func (f *fakeManager) Reload() *dbus.Error {
	f.told <- "reload"
	return nil
}

// newBus starts a bus, and returns how to connect to it.
func newBus(t *testing.T) (socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "bus") // a short path: it holds a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	config := fmt.Sprintf(`<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path=%s/bus</listen><policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy></busconfig>`, dir)
	file := filepath.Join(dir, "bus.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("dbus-daemon", "--config-file="+file, "--nofork", "--print-address=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(address, dir+"/bus") {
		t.Fatalf("the bus is at %s", address)
	}
	return dir + "/bus"
}

func TestUnit(t *testing.T) {
	socket := newBus(t)
	serving, err := dbus.Connect("unix:path=" + socket)
	if err != nil {
		t.Fatal(err)
	}
	defer serving.Close()
	liar, err := dbus.Connect("unix:path=" + socket)
	if err != nil {
		t.Fatal(err)
	}
	defer liar.Close()
	manager := &fakeManager{conn: serving, liar: liar, told: make(chan string, 10), result: "done"}
	if err := serving.Export(manager, managerPath, managerName+".Manager"); err != nil {
		t.Fatal(err)
	}
	if _, err := serving.RequestName(managerName, dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	unit := unitOver{"x.service", func(ctx context.Context) (*conn, error) { return dial(ctx, socket, true) }}
	tests := map[string]struct {
		do     func(context.Context) error
		result string
		denied bool
		told   []string
		says   string // of the error; "" is none
	}{
		"enable":           {unit.enable, "", false, []string{"enable [x.service] false false", "reload"}, ""},
		"disable":          {unit.disable, "", false, []string{"disable [x.service] false", "reload"}, ""},
		"start":            {unit.start, "done", false, []string{"start x.service replace"}, ""},
		"condition":        {unit.start, "skipped", false, []string{"start x.service replace"}, ""},
		"stop":             {unit.stop, "done", false, []string{"stop x.service replace"}, ""},
		"fails":            {unit.start, "failed", false, []string{"start x.service replace"}, `systemd did not start x.service: the job's result is "failed"`},
		"is cancelled":     {unit.stop, "canceled", false, []string{"stop x.service replace"}, `systemd did not stop x.service: the job's result is "canceled"`},
		"is not permitted": {unit.stop, "", true, []string{"stop x.service replace"}, "systemd did not stop x.service: Permission denied"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			manager.mu.Lock()
			manager.result, manager.denied = tt.result, tt.denied
			manager.mu.Unlock()
			err := tt.do(t.Context())
			var told []string
			for len(manager.told) > 0 {
				told = append(told, <-manager.told)
			}
			if diff := cmp.Diff(tt.told, told); diff != "" {
				t.Errorf("systemd was told (-want +got):\n%s", diff)
			}
			if tt.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if code, hint := reason.Of(err); code != UnitFailed || hint == "" || err.Error() != tt.says {
				t.Errorf("code %q, hint %q, %v", code, hint, err)
			}
		})
	}
}

// TestUnitOfNobody: on a bus without systemd, and without a bus, there is a reason.
func TestUnitOfNobody(t *testing.T) {
	socket := newBus(t)
	nobody := func(ctx context.Context) (*conn, error) { return dial(ctx, socket, true) }
	nowhere := func(ctx context.Context) (*conn, error) { return dial(ctx, filepath.Join(t.TempDir(), "none"), false) }
	var codes []string
	for _, where := range []func(context.Context) (*conn, error){nobody, nowhere} {
		unit := unitOver{"x.service", where}
		for _, do := range []func(context.Context) error{unit.enable, unit.disable, unit.start, unit.stop} {
			code, _ := reason.Of(do(t.Context()))
			codes = append(codes, string(code))
		}
	}
	if want := slices.Repeat([]string{string(UnitFailed)}, 8); !slices.Equal(codes, want) {
		t.Errorf("got %q", codes)
	}
}
