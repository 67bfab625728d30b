package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

// TestMain lets the test binary play another process.
func TestMain(m *testing.M) {
	switch dir := os.Getenv("STATE_TEST_DIR"); os.Getenv("STATE_TEST_ROLE") {
	case "":
		os.Exit(m.Run())
	case "count":
		countReboots(dir, 100)
	case "die":
		dieAt(dir, os.Getenv("STATE_TEST_MOMENT"))
	case "read":
		s, err := Read(dir, filepath.Join(dir, "state"))
		if err != nil {
			fmt.Println(err)
			os.Exit(100)
		}
		os.Exit(s.ExitCode())
	case "daemon":
		if _, err := LockDaemon(dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("locked")
		os.Stdin.Read(make([]byte, 1))
	}
}

func otherProcess(role, dir string, env ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), append(env, "STATE_TEST_ROLE="+role, "STATE_TEST_DIR="+dir)...)
	return cmd
}

func countReboots(dir string, n int) {
	s, err := Open(dir)
	if err != nil {
		panic(err)
	}
	for range n {
		err := s.Update(func(r *Record) error {
			if r.Session == nil {
				r.Session = new(Session)
			}
			r.Session.Reboots++
			return nil
		})
		if err != nil {
			panic(err)
		}
	}
}

func dieAt(dir, moment string) {
	s, err := OpenOn(dying{moment: moment}, dir)
	if err != nil {
		panic(err)
	}
	panic(s.Update(func(r *Record) error { r.Outcome = OutcomeProvisioned; return nil }))
}

// dying is a file system during whose use the process is killed.
type dying struct {
	durable.OS
	moment string
}

const (
	momentWritten = "temporary file written"
	momentSynced  = "temporary file synced"
	momentRenamed = "renamed"
)

func (d dying) pass(moment string) {
	if moment == d.moment {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

func (d dying) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	f, err := d.OS.OpenFile(name, flag, perm)
	return dyingFile{f, d}, err
}

func (d dying) Rename(from, to string) error {
	err := d.OS.Rename(from, to)
	d.pass(momentRenamed)
	return err
}

type dyingFile struct {
	durable.File
	dying
}

func (f dyingFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	f.pass(momentWritten)
	return n, err
}

func (f dyingFile) Sync() error {
	err := f.File.Sync()
	f.pass(momentSynced)
	return err
}

func open(t *testing.T) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func load(t *testing.T, s *Store) *Record {
	t.Helper()
	r, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wantCode(t *testing.T, err error, want reason.Code) {
	t.Helper()
	if got, _ := reason.Of(err); got != want {
		t.Fatalf("got reason %q (%v), want %q", got, err, want)
	}
}

func TestStoreFactoryDefault(t *testing.T) {
	s := open(t)
	if diff := cmp.Diff(&Record{Schema: 1, Enabled: true}, load(t, s)); diff != "" {
		t.Error(diff)
	}
	if _, err := os.Stat(s.path()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("reading wrote the record: %v", err)
	}
}

func TestStorePersists(t *testing.T) {
	s := open(t)
	if err := s.Update(func(r *Record) error { r.SetEnabled(false, ""); return nil }); err != nil {
		t.Fatal(err)
	}
	again, err := Open(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	if load(t, again).Enabled {
		t.Error("the flag did not survive")
	}
	for path, want := range map[string]os.FileMode{s.dir: 0o700 | os.ModeDir, s.path(): 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", path, info.Mode(), want)
		}
	}
}

func TestStoreErrorOfChangeWritesNothing(t *testing.T) {
	s, no := open(t), errors.New("no")
	err := s.Update(func(r *Record) error { r.Enabled = false; return no })
	if err != no {
		t.Fatalf("got %v", err)
	}
	if !load(t, s).Enabled {
		t.Error("a refused change was written")
	}
}

func TestStoreCorruptIsNeverFactoryFresh(t *testing.T) {
	tests := map[string]string{
		"empty":       "",
		"truncated":   `{"schema":1,"enabled":false`,
		"other type":  `{"schema":1,"enabled":"yes"}`,
		"trailing":    `{"schema":1}{}`,
		"no schema":   `{"enabled":true}`,
		"null":        `null`,
		"too large":   `{"schema":1,"x":"` + strings.Repeat("x", MaxRecord) + `"}`,
		"deep":        strings.Repeat("[", 100000),
		"zero filled": string(make([]byte, 4096)),
	}
	for name, content := range tests {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			if err := os.WriteFile(s.path(), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := s.Load()
			wantCode(t, err, ReasonCorrupt)
			r := load(t, s)
			if r.Enabled || r.Reason == nil || r.Reason.Code != string(ReasonCorrupt) {
				t.Errorf("after a corrupt record: enabled %v, reason %+v", r.Enabled, r.Reason)
			}
			aside, err := os.ReadFile(s.path() + ".corrupt")
			if err != nil || string(aside) != content {
				t.Errorf("the corrupt record was not kept: %v", err)
			}
		})
	}
}

func TestStoreRefusesNewerSchema(t *testing.T) {
	s := open(t)
	const newer = `{"schema":99,"enabled":"in a new way"}`
	if err := os.WriteFile(s.path(), []byte(newer), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := s.Load()
	wantCode(t, err, ReasonSchema)
	wantCode(t, s.Update(func(*Record) error { return nil }), ReasonSchema)
	if kept, _ := os.ReadFile(s.path()); string(kept) != newer {
		t.Errorf("the newer record was changed to %q", kept)
	}
}

func TestStoreTooLarge(t *testing.T) {
	s := open(t)
	err := s.Update(func(r *Record) error {
		r.Reason = &Reason{Message: strings.Repeat("x", MaxRecord)}
		return nil
	})
	wantCode(t, err, ReasonTooLarge)
	if load(t, s).Reason != nil {
		t.Error("it was written")
	}
}

func TestStoreKilledWhileWriting(t *testing.T) {
	for moment, provisioned := range map[string]bool{momentWritten: false, momentSynced: false, momentRenamed: true} {
		t.Run(moment, func(t *testing.T) {
			s := open(t)
			if err := s.Update(func(r *Record) error { r.Enabled = false; return nil }); err != nil {
				t.Fatal(err)
			}
			err := otherProcess("die", s.dir, "STATE_TEST_MOMENT="+moment).Run()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Fatalf("the other process was not killed: %v", err)
			}
			r := load(t, s)
			if r.Enabled || (r.Outcome == OutcomeProvisioned) != provisioned {
				t.Errorf("got enabled %v, outcome %q", r.Enabled, r.Outcome)
			}
			if err := s.Update(func(r *Record) error { r.Enabled = true; return nil }); err != nil {
				t.Fatalf("the lock or the temporary file of the dead is in the way: %v", err)
			}
			if _, err := os.Stat(durable.TempName(s.path())); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the temporary file stayed: %v", err)
			}
		})
	}
}

func TestStoreFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatalf("mount a small file system (needs root): %v", err)
	}
	defer syscall.Unmount(dir, syscall.MNT_DETACH)
	s, err := Open(filepath.Join(dir, "state"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Update(func(r *Record) error { r.Enabled = false; return nil }); err != nil {
		t.Fatal(err)
	}
	err = s.Update(func(r *Record) error {
		r.Reason = &Reason{Message: strings.Repeat("x", 128<<10)}
		return nil
	})
	wantCode(t, err, ReasonWrite)
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v, want ENOSPC in it", err)
	}
	if r := load(t, s); r.Enabled || r.Reason != nil {
		t.Errorf("the old record is gone: %+v", r)
	}
	if err := s.Update(func(r *Record) error { r.Enabled = true; return nil }); err != nil {
		t.Errorf("a small change does not fit any more: %v", err)
	}
}

func TestStoreConcurrentProcesses(t *testing.T) {
	s := open(t)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if out, err := otherProcess("count", s.dir).CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
		wg.Go(func() { countReboots(s.dir, 100) })
	}
	wg.Wait()
	if got := load(t, s).Session.Reboots; got != 400 {
		t.Errorf("%d of 400 updates arrived", got)
	}
}
