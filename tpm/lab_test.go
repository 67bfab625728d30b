package tpm_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-tpm-tools/simulator"
	"github.com/google/go-tpm/tpm2"

	"github.com/xpu-sztp/ztp/tpm"
)

// softTPM is a TPM simulator behind a unix socket that keeps a record of the commands it was sent.
type softTPM struct {
	path string // for Options.TPM

	mu       sync.Mutex
	sim      *simulator.Simulator
	commands []tpm2.TPMCC
	answer   func(tpm2.TPMCC) []byte // a response instead of the simulator's, nil for none
}

func startSimulator(t *testing.T) *softTPM {
	t.Helper()
	sim, err := simulator.Get()
	if err != nil {
		t.Fatal(err)
	}
	s := &softTPM{sim: sim}
	s.path = "unix:" + serve(t, func(c net.Conn) {
		if command := readCommand(c); command != nil {
			rsp, _ := s.Send(command)
			_, _ = c.Write(rsp)
		}
	})
	t.Cleanup(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		_ = sim.Close()
	})
	return s
}

// serve handles connections to a new unix socket, one at a time, until the test ends, and returns the socket's path.
func serve(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	path := filepath.Join(tempDir(t), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			handle(c)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return path
}

// tempDir is a folder whose path is short enough for a unix socket.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tpm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func readCommand(r io.Reader) []byte {
	header := make([]byte, 10)
	if _, err := io.ReadFull(r, header); err != nil {
		return nil
	}
	body := make([]byte, binary.BigEndian.Uint32(header[2:])-10)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil
	}
	return append(header, body...)
}

// Send implements transport.TPM for use by the tests themselves.
func (s *softTPM) Send(command []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	code := tpm2.TPMCC(binary.BigEndian.Uint32(command[6:]))
	s.commands = append(s.commands, code)
	if s.answer != nil {
		if rsp := s.answer(code); rsp != nil {
			return rsp, nil
		}
	}
	if _, err := s.sim.Write(command); err != nil {
		return nil, err
	}
	buf := make([]byte, 4096)
	n, err := s.sim.Read(buf)
	return buf[:n], err
}

// count returns how often a command was sent.
func (s *softTPM) count(code tpm2.TPMCC) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.commands {
		if c == code {
			n++
		}
	}
	return n
}

func (s *softTPM) intercept(answer func(tpm2.TPMCC) []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

// refusal is a response that carries only a response code.
func refusal(rc tpm2.TPMRC) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(tpm2.TPMSTNoSessions))
	b = binary.BigEndian.AppendUint32(b, 10)
	return binary.BigEndian.AppendUint32(b, uint32(rc))
}

func (s *softTPM) transients(t *testing.T) int {
	t.Helper()
	rsp, err := tpm2.GetCapability{
		Capability: tpm2.TPMCapHandles, Property: 0x80000000, PropertyCount: 16}.Execute(s)
	if err != nil {
		t.Fatal(err)
	}
	list, err := rsp.CapabilityData.Data.Handles()
	if err != nil {
		t.Fatal(err)
	}
	return len(list.Handle)
}

// startSwtpm starts a real software TPM and returns its path for Options.TPM.
func startSwtpm(t *testing.T, flags string) string {
	t.Helper()
	dir := tempDir(t)
	sock, pidFile := filepath.Join(dir, "s"), filepath.Join(dir, "pid")
	out, err := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir, "--daemon", "--pid", "file="+pidFile,
		"--server", "type=unixio,path="+sock, "--ctrl", "type=unixio,path="+sock+".ctrl", "--flags", flags).CombinedOutput()
	if err != nil {
		t.Fatalf("swtpm: %v\n%s", err, out)
	}
	content, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	return "unix:" + sock
}

// authority is a manufacturer's CA: a root and an issuing CA below it.
type authority struct {
	t            *testing.T
	root, issuer *x509.Certificate
	trusted      *x509.Certificate // another root that its servers believe devices by
	key          *ecdsa.PrivateKey // of issuer
	rootKey      *ecdsa.PrivateKey
	serial       int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	rootKey, issuerKey := newP256(t), newP256(t)
	ca := func(name string) *x509.Certificate {
		return &x509.Certificate{
			Subject: pkix.Name{CommonName: name}, BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign}
	}
	template := ca("Maker Root CA")
	a.root = a.sign(template, template, rootKey.Public(), rootKey)
	a.issuer = a.sign(ca("Maker Device CA"), a.root, issuerKey.Public(), rootKey)
	a.key, a.rootKey = issuerKey, rootKey
	return a
}

func newP256(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) sign(template, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	a.t.Helper()
	a.serial++
	template.SerialNumber = big.NewInt(a.serial)
	if template.NotBefore.IsZero() {
		template.NotBefore = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	template.NotAfter = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert
}

// device issues an IDevID certificate.
func (a *authority) device(pub crypto.PublicKey, serial string) *x509.Certificate {
	a.t.Helper()
	return a.sign(&x509.Certificate{
		Subject:  pkix.Name{Organization: []string{"Maker"}, CommonName: "Model X", SerialNumber: serial},
		KeyUsage: x509.KeyUsageDigitalSignature,
	}, a.issuer, pub, a.key)
}

// provision gives a TPM a key at the usual handle and the certificates for it at the usual indices.
func provision(t *testing.T, path string, template tpm.Template, a *authority) crypto.PublicKey {
	t.Helper()
	f := tpm.Factory{TPM: path}
	pub, err := f.CreateIDevID(t.Context(), template, tpm.IDevIDHandle)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.WriteCertificate(t.Context(), tpm.IDevIDCertificate, a.device(pub, "SN1").Raw); err != nil {
		t.Fatal(err)
	}
	if err := f.WriteChain(t.Context(), a.issuer.Raw); err != nil {
		t.Fatal(err)
	}
	return pub
}

func mustOpen(t *testing.T, o tpm.Options) *tpm.Identity {
	t.Helper()
	id, err := tpm.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { id.Close() })
	return id
}

// wantCode checks that err is a *tpm.Error with this code and a message that mentions all of mentions.
func wantCode(t *testing.T, err error, code tpm.Code, mentions ...string) {
	t.Helper()
	var e *tpm.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want a *tpm.Error with code %s", err, code)
	}
	if e.Reason() != string(code) {
		t.Errorf("code %s, want %s (%v)", e.Reason(), code, err)
	}
	for _, m := range mentions {
		if !strings.Contains(e.Error()+"\n"+e.Hint(), m) {
			t.Errorf("%q and the hint %q do not mention %q", e, e.Hint(), m)
		}
	}
}

func writeFile(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func pemOf(kind string, ders ...[]byte) []byte {
	var b bytes.Buffer
	for _, der := range ders {
		_ = pem.Encode(&b, &pem.Block{Type: kind, Bytes: der})
	}
	return b.Bytes()
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func readAll(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}
