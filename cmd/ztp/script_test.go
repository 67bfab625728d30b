package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/xpu-sztp/ztp/pkg/daemon"
	"github.com/xpu-sztp/ztp/pkg/state"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"ztp": main})
}

// TestCommandLine runs the stories in testdata/script. Each has a root folder "root" with a device identity in files,
// device.key and device.pem below /etc/ztp, and three more commands: "exits CODE command…" wants an exit code, "until root
// phase|reason VALUE" waits for the status. "swtpm SOCKET" starts a software TPM, which ends with the story.
// $FIXTURES is the folder of artifacts that OpenSSL made.
func TestCommandLine(t *testing.T) {
	fixtures, err := filepath.Abs("../../pkg/inspect/testdata")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("FIXTURES", fixtures)
			return makeIdentity(filepath.Join(env.WorkDir, "root/etc/ztp"))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "until": until, "swtpm": softTPM},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE command…")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	var failed *exec.ExitError
	switch {
	case errors.As(err, &failed):
		got = failed.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if want, err := strconv.Atoi(args[0]); err != nil || got != want {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: until ROOT phase|reason VALUE")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var last string
	err := daemon.Follow(ctx, ts.MkAbs(args[0]), func(s *state.Status) error {
		last = string(s.Phase)
		if args[1] == "reason" {
			last = ""
			if s.Reason != nil {
				last = s.Reason.Code
			}
		}
		if last == args[2] {
			cancel()
		}
		return nil
	})
	if err != nil || last != args[2] {
		ts.Fatalf("%s is %q, not %q: %v", args[1], last, args[2], err)
	}
}

func softTPM(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: swtpm SOCKET")
	}
	socket, dir := ts.MkAbs(args[0]), ts.MkAbs("swtpm")
	ts.Check(os.MkdirAll(filepath.Dir(socket), 0o755))
	ts.Check(os.MkdirAll(dir, 0o700))
	pidFile := filepath.Join(dir, "pid")
	ts.Check(ts.Exec("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir, "--daemon", "--pid", "file="+pidFile,
		"--server", "type=unixio,path="+socket, "--ctrl", "type=unixio,path="+socket+".ctrl",
		"--flags", "not-need-init,startup-clear"))
	pid, err := strconv.Atoi(strings.TrimSpace(ts.ReadFile(pidFile)))
	ts.Check(err)
	ts.Defer(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
}

// makeIdentity writes a self-signed device identity with its key in a file.
func makeIdentity(folder string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "device", SerialNumber: "SN-1"},
		NotBefore:    time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for name, block := range map[string]*pem.Block{
		"device.key": {Type: "PRIVATE KEY", Bytes: private},
		"device.pem": {Type: "CERTIFICATE", Bytes: cert},
	} {
		if err := os.WriteFile(filepath.Join(folder, name), pem.EncodeToMemory(block), 0o600); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return nil
}
