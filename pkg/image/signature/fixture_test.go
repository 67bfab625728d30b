package signature_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/image/signature"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

const namespace = "ztp-image"

var boot = []byte("not really a boot image\n")

// world is the keys that the tests share, made by the programs whose signatures the device reads.
type world struct {
	folder string
	files  int
}

var folder string

func TestMain(m *testing.M) {
	time.Local = time.UTC // as for the programs
	var err error
	if folder, err = os.MkdirTemp("", "signature"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(folder)
	os.Exit(code)
}

var shared = sync.OnceValue(func() *world {
	w := &world{folder: folder}
	w.write("image", boot)
	w.write("other", []byte("another image\n"))
	for name, args := range map[string]string{
		"ed25519": "-t ed25519", "stranger": "-t ed25519", "p256": "-t ecdsa -b 256", "p384": "-t ecdsa -b 384", "p521": "-t ecdsa -b 521",
		"rsa": "-t rsa -b 2048", "weak": "-t rsa -b 1024",
	} {
		w.run("ssh-keygen", append(strings.Fields(args), "-q", "-N", "", "-C", name+"@test", "-f", w.path(name))...)
	}
	for _, name := range []string{"mini", "mini-stranger"} {
		w.run("minisign", "-G", "-W", "-p", w.path(name+".pub"), "-s", w.path(name+".key"))
	}
	w.write("req.cnf", []byte("[req]\ndistinguished_name=dn\n[dn]\n"))
	w.certify("root", "", authority)
	w.certify("ca", "root", authority)
	w.certify("release", "ca", leaf+",extendedKeyUsage=codeSigning")
	w.certify("web", "ca", leaf+",extendedKeyUsage=serverAuth")
	w.certify("any", "ca", leaf)
	w.certify("owner", "", leaf)
	w.certify("lone", "", "basicConstraints=CA:TRUE")                          // as `openssl req -x509` makes it
	w.certify("forger", "", leaf+",extendedKeyUsage=codeSigning", "/CN=owner") // the owner's name
	w.certify("rsa-cert", "ca", leaf+",extendedKeyUsage=codeSigning", "", "rsa:2048")
	w.certify("weak-cert", "ca", leaf+",extendedKeyUsage=codeSigning", "", "rsa:1024")
	return w
})

const (
	authority = "basicConstraints=critical,CA:TRUE,keyUsage=critical,keyCertSign"
	leaf      = "basicConstraints=critical,CA:FALSE,keyUsage=critical,digitalSignature"
)

func (w *world) path(name string) string { return filepath.Join(w.folder, name) }

func (w *world) write(name string, data []byte) string {
	if err := os.WriteFile(w.path(name), data, 0o600); err != nil {
		panic(err)
	}
	return w.path(name)
}

func (w *world) read(name string) []byte {
	data, err := os.ReadFile(w.path(name))
	if err != nil {
		panic(err)
	}
	return data
}

// temp returns the path of a new file.
func (w *world) temp() string {
	w.files++
	return w.path(fmt.Sprintf("%d.tmp", w.files))
}

func (w *world) run(program string, args ...string) []byte {
	out, err := w.try(program, args...)
	if err != nil {
		panic(err)
	}
	return out
}

func (w *world) try(program string, args ...string) ([]byte, error) {
	return w.tryInput(nil, program, args...)
}

// tryInput runs a program, which may refuse, with something on its standard input.
func (w *world) tryInput(input []byte, program string, args ...string) ([]byte, error) {
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Env, cmd.Stdin = w.folder, append(os.Environ(), "TZ=UTC"), bytes.NewReader(input)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w\n%s", program, args, err, stderr.String())
	}
	return out, nil
}

// certify makes NAME.key and NAME.pem. more is the subject, "" for that of the name, and the argument of -newkey.
func (w *world) certify(name, issuer, extensions string, more ...string) {
	subject, key := "/CN="+name, "ec -pkeyopt ec_paramgen_curve:P-256"
	if len(more) > 0 && more[0] != "" {
		subject = more[0]
	}
	if len(more) > 1 {
		key = more[1]
	}
	args := append([]string{"req", "-x509", "-config", "req.cnf", "-nodes", "-days", "3650", "-subj", subject, "-out", name + ".pem",
		"-keyout", name + ".key", "-newkey"}, strings.Fields(key)...)
	if issuer != "" {
		args = append(args, "-CA", issuer+".pem", "-CAkey", issuer+".key")
	}
	for extension := range strings.SplitSeq(strings.ReplaceAll(extensions, "critical,", "critical;"), ",") {
		args = append(args, "-addext", strings.ReplaceAll(extension, ";", ","))
	}
	w.run("openssl", append(args, "-addext", "subjectKeyIdentifier=hash")...)
}

func (w *world) certificate(name string) *x509.Certificate {
	block, _ := pem.Decode(w.read(name + ".pem"))
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		panic(err)
	}
	return c
}

// ssh signs like an operator: image is the name of the file.
func (w *world) ssh(key, image string, args ...string) []byte {
	os.Remove(w.path(image + ".sig"))
	w.run("ssh-keygen", append(append([]string{"-Y", "sign", "-q", "-f", w.path(key), "-n", namespace}, args...), w.path(image))...)
	return w.read(image + ".sig")
}

func (w *world) mini(key, image string, args ...string) []byte {
	out := w.temp()
	w.run("minisign", append([]string{"-S", "-s", w.path(key + ".key"), "-m", w.path(image), "-x", out}, args...)...)
	return w.read(filepath.Base(out))
}

func (w *world) cms(signer, image string, args ...string) []byte {
	if !slices.Contains(args, "-crlfeol") { // which says how lines of text end
		args = append(args, "-binary")
	}
	return w.run("openssl", append([]string{"cms", "-sign", "-nosmimecap", "-md", "sha256", "-signer", signer + ".pem",
		"-inkey", signer + ".key", "-in", image, "-outform", "DER"}, args...)...)
}

// allow is a line of allowed_signers for a key.
func (w *world) allow(key, options string) string {
	return strings.Join(strings.Fields(key+"@example.com "+options+" "+string(w.read(key+".pub"))), " ") + "\n"
}

// policy believes allowed_signers, public keys of minisign and certificates.
func (w *world) policy(t testing.TB, allowed string, mini, certificates []string) *signature.Policy {
	t.Helper()
	s := new(signature.Signers)
	if allowed != "" {
		if err := s.AddKeys([]byte(allowed)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range mini {
		if err := s.AddKeys(w.read(name + ".pub")); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range certificates {
		if err := s.AddCertificates([]*x509.Certificate{w.certificate(name)}); err != nil {
			t.Fatal(err)
		}
	}
	return &signature.Policy{Signers: s, Namespace: namespace, Clock: artifacts.Clock{Now: w.now(), Confidence: artifacts.ClockRTC}}
}

// now is a time at which the certificates are valid.
func (w *world) now() time.Time { return w.certificate("weak-cert").NotBefore.Add(time.Hour) }

// judge verifies a signature over an image.
func judge(p *signature.Policy, f signature.Form, sig, image []byte) (*signature.Claim, error) {
	claim, err := p.Verify(f, sig)
	if err != nil {
		return nil, err
	}
	h := claim.New()
	h.Write(image)
	return claim, claim.Check(h.Sum(nil))
}

// refusal returns the code of an error that must have all that people are to be told.
func refusal(t testing.TB, err error) reason.Code {
	t.Helper()
	if err == nil {
		return ""
	}
	var e *reason.Error
	if !errors.As(err, &e) || e.Code == "" || e.Msg == "" || e.Fix == "" {
		t.Errorf("not explained: %#v", err)
	}
	code, _ := reason.Of(err)
	return code
}
