package onboard

import (
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xpu-sztp/ztp/pkg/image/signature"
	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// signedMirror serves an image, and its signature when there is one.
type signedMirror struct {
	*httptest.Server
	signature []byte // over newImage, by whom signers believes
	signers   signature.Signers
	signed    bool // the signature is there
	gets      int  // of the image
}

func newSignedMirror(t *testing.T) *signedMirror {
	t.Helper()
	dir := t.TempDir()
	key, file := filepath.Join(dir, "key"), filepath.Join(dir, "image")
	put(t, file, newImage, 0o600)
	for _, args := range [][]string{
		{"-q", "-t", "ed25519", "-N", "", "-f", key},
		{"-q", "-Y", "sign", "-n", "ztp-image", "-f", key, file},
	} {
		if out, err := exec.Command("ssh-keygen", args...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	m := &signedMirror{signed: true}
	public, err := os.ReadFile(key + ".pub")
	if err == nil {
		err = m.signers.AddKeys(append([]byte("release@example.com "), public...))
	}
	if err == nil {
		m.signature, err = os.ReadFile(file + ".sig")
	}
	if err != nil {
		t.Fatal(err)
	}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		switch {
		case q.URL.Path == "/image":
			m.gets++
			w.Write([]byte(newImage))
		case q.URL.Path == "/image.sig" && m.signed:
			w.Write(m.signature)
		default:
			http.NotFound(w, q)
		}
	}))
	t.Cleanup(m.Close)
	return m
}

func (m *signedMirror) policy(owner *x509.Certificate) *signature.Policy {
	return &signature.Policy{Signers: &m.signers, Namespace: "ztp-image", Owner: owner}
}

func TestImageSigned(t *testing.T) {
	r, m := imageRig(t), newSignedMirror(t)
	r.opts.Signatures = m.policy
	want := plan{boot: demand(newImage, "2", m.URL+"/image")}
	r.installs(t, want)
	check := func(when string) {
		t.Helper()
		if shown := r.board.Snapshot().Image; !strings.HasPrefix(shown.Signer, "release@example.com, ssh-ed25519 key ") {
			t.Errorf("%s: signed by %q", when, shown.Signer)
		}
	}
	check("installed")
	r.boot(t)
	r.opts.Device.OSVersion = "2"
	if outcome, err := r.run(progress.Minimal, want); outcome != Complete || err != nil {
		t.Fatal(outcome, err)
	}
	check("complete")
}

// TestImageUnsigned: nothing of the image is fetched, and the server hears why.
func TestImageUnsigned(t *testing.T) {
	r, m := imageRig(t), newSignedMirror(t)
	m.signed = false
	r.opts.Signatures = m.policy
	r.fails(t, plan{boot: demand(newImage, "2", m.URL+"/image")}, signature.CodeMissing)
	if text := r.server.message(progress.BootImageError); !strings.Contains(text, "/image.sig: there is no signature") {
		t.Error(text)
	}
	if d := r.describe(t); m.gets != 0 || d.Next != "" {
		t.Errorf("fetched %d times, next is %q", m.gets, d.Next)
	}
}

// TestImageWithoutOwner: who could have signed is not known, as the server says itself who it is.
func TestImageWithoutOwner(t *testing.T) {
	r, m := imageRig(t), newSignedMirror(t)
	m.signers = signature.Signers{Owner: true}
	r.opts.Signatures = m.policy
	r.fails(t, plan{boot: demand(newImage, "2", m.URL+"/image")}, signature.CodeNoOwner)
	if m.gets != 0 {
		t.Error("fetched")
	}
}

// TestImageWrittenUnsigned: what was written before a signature was asked for is not started without one.
func TestImageWrittenUnsigned(t *testing.T) {
	for name, prepare := range map[string]func(*rig, plan){
		"before the reboot": func(r *rig, p plan) { r.installs(t, p) },
		"written": func(r *rig, p plan) {
			r.installs(t, p)
			if _, err := r.run(progress.Minimal, plan{}); err != nil { // nobody wants it
				t.Fatal(err)
			}
			err := r.store.Update(func(rec *state.Record) error {
				for key, i := range rec.Images {
					i.State, i.Slot = state.ImageWritten, "b"
					rec.Images[key] = i
				}
				rec.Outcome = state.OutcomeNone
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, m := imageRig(t), newSignedMirror(t)
			want := plan{boot: demand(newImage, "2", m.URL+"/image")}
			prepare(r, want)
			if m.gets != 1 {
				t.Fatalf("fetched %d times", m.gets)
			}
			r.opts.Signatures, m.signed = m.policy, false
			r.server = &server{}
			r.fails(t, want, signature.CodeMissing)
			if d := r.describe(t); d.Next != "" || m.gets != 1 {
				t.Fatalf("next is %q, fetched %d times", d.Next, m.gets)
			}
			m.signed = true
			r.installs(t, want)
			if d := r.describe(t); d.Next != "b" || m.gets != 2 {
				t.Errorf("next is %q, fetched %d times", d.Next, m.gets)
			}
		})
	}
}

// TestImageSignedAndInterrupted: wherever the session breaks off, the next one comes to the same end, and no image starts whose
// signer is not known.
func TestImageSignedAndInterrupted(t *testing.T) {
	m := newSignedMirror(t)
	want := plan{boot: demand(newImage, "2", m.URL+"/image")}
	key := hex.EncodeToString(want.boot.SHA256)
	for moment := 0; ; moment++ {
		r := imageRig(t)
		r.opts.Signatures, r.opts.Store = m.policy, &failingStore{r.store, moment, errors.New("the storage fails")}
		outcome, _ := r.run(progress.Minimal, want)
		if d := r.describe(t); d.Next != "" && r.record(t).Images[key].Signer == "" {
			t.Errorf("moment %d: an image starts whose signer is not known", moment)
		}
		r.opts.Store = r.store
		if outcome == Rebooting {
			if moment < 5 {
				t.Errorf("only %d changes of the record", moment)
			}
			return
		}
		r.installs(t, want)
		if i := r.record(t).Images[key]; i.Signer == "" || r.describe(t).Next != "b" {
			t.Errorf("moment %d: %+v", moment, i)
		}
	}
}
