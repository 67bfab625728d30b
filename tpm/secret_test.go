//lint:file-ignore SA1019 RSAES-PKCS1-v1_5 is in use in the field and has to be tested

package tpm_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/xpu-sztp/ztp/tpm"
)

// wire listens to what goes to a TPM and comes back, as somebody with probes on its bus does.
type wire struct {
	path string // for Options.TPM

	mu      sync.Mutex
	traffic []byte
	done    []tpm2.TPMCC // commands that went well
	change  func(tpm2.TPMCC, []byte) []byte
}

// tamper changes responses on their way.
func (w *wire) tamper(change func(command tpm2.TPMCC, rsp []byte) []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.change = change
}

// tap places a wire between its users and the TPM behind a socket.
func tap(t *testing.T, path string) *wire {
	t.Helper()
	w := &wire{}
	w.path = "unix:" + serve(t, func(c net.Conn) {
		command := readCommand(c)
		if command == nil {
			return
		}
		rsp, err := w.forward(path, command)
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = c.Write(rsp)
	})
	return w
}

func (w *wire) forward(path string, command []byte) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c, err := net.Dial("unix", strings.TrimPrefix(path, "unix:"))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if _, err := c.Write(command); err != nil {
		return nil, err
	}
	rsp := readCommand(c) // a response has the same header
	w.traffic = append(append(w.traffic, command...), rsp...)
	if len(rsp) >= 10 && bytes.Equal(rsp[6:10], make([]byte, 4)) {
		code := tpm2.TPMCC(binary.BigEndian.Uint32(command[6:]))
		w.done = append(w.done, code)
		if w.change != nil {
			rsp = w.change(code, rsp)
		}
	}
	return rsp, nil
}

// Send implements transport.TPM for use by the tests themselves.
func (w *wire) Send(command []byte) ([]byte, error) {
	c, err := net.Dial("unix", strings.TrimPrefix(w.path, "unix:"))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if _, err := c.Write(command); err != nil {
		return nil, err
	}
	return io.ReadAll(c)
}

// heard tells whether secret went over the wire since the last call, which forgets everything.
func (w *wire) heard(secret []byte) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	heard := bytes.Contains(w.traffic, secret)
	w.traffic = nil
	return heard
}

func (w *wire) did(code tpm2.TPMCC) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(w.done, code)
}

// nothingLeft wants that no session and no transient object stays in the TPM.
func nothingLeft(t *testing.T, d transport.TPM) {
	t.Helper()
	for what, first := range map[string]uint32{"sessions": 0x02000000, "saved sessions": 0x03000000, "objects": 0x80000000} {
		rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: first, PropertyCount: 16}.Execute(d)
		if err != nil {
			t.Fatal(err)
		}
		list, err := rsp.CapabilityData.Data.Handles()
		if err != nil {
			t.Fatal(err)
		}
		if len(list.Handle) != 0 {
			t.Errorf("%d %s left in the TPM", len(list.Handle), what)
		}
	}
}

// decryptKey is a template for a key that only decrypts.
func decryptKey(area tpm2.TPMTPublic) tpm2.TPMTPublic {
	area.ObjectAttributes.SignEncrypt, area.ObjectAttributes.Decrypt = false, true
	return area
}

// decryptOrSign is a template for a key that does both.
func decryptOrSign(area tpm2.TPMTPublic) tpm2.TPMTPublic {
	area.ObjectAttributes.SignEncrypt, area.ObjectAttributes.Decrypt = true, true
	return area
}

// evict removes a persistent key.
func evict(t *testing.T, d transport.TPM, handle tpm2.TPMHandle) {
	t.Helper()
	rsp, err := tpm2.ReadPublic{ObjectHandle: handle}.Execute(d)
	if err != nil {
		t.Fatal(err)
	}
	_, err = tpm2.EvictControl{Auth: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		ObjectHandle: tpm2.NamedHandle{Handle: handle, Name: rsp.Name}, PersistentHandle: handle}.Execute(d)
	if err != nil {
		t.Fatal(err)
	}
}

// persist creates a key in the owner hierarchy at a persistent handle.
func persist(t *testing.T, d transport.TPM, template tpm2.TPMTPublic, handle tpm2.TPMHandle) tpm2.AuthHandle {
	t.Helper()
	owner := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
	rsp, err := tpm2.CreatePrimary{PrimaryHandle: owner, InPublic: tpm2.New2B(template)}.Execute(d)
	if err != nil {
		t.Fatal(err)
	}
	_, err = tpm2.EvictControl{Auth: owner,
		ObjectHandle:     tpm2.NamedHandle{Handle: rsp.ObjectHandle, Name: rsp.Name},
		PersistentHandle: handle}.Execute(d)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (tpm2.FlushContext{FlushHandle: rsp.ObjectHandle}).Execute(d); err != nil {
		t.Fatal(err)
	}
	return tpm2.AuthHandle{Handle: handle, Name: rsp.Name, Auth: tpm2.PasswordAuth(nil)}
}

func publicAt(t *testing.T, d transport.TPM, handle tpm2.TPMHandle) crypto.PublicKey {
	t.Helper()
	rsp, err := tpm2.ReadPublic{ObjectHandle: handle}.Execute(d)
	if err != nil {
		t.Fatal(err)
	}
	area, err := rsp.OutPublic.Contents()
	if err != nil {
		t.Fatal(err)
	}
	public, err := tpm2.Pub(*area)
	if err != nil {
		t.Fatal(err)
	}
	return public
}

// softTPMs are the software TPMs of two makers.
var softTPMs = map[string]func(*testing.T) string{
	"simulator": func(t *testing.T) string { return startSimulator(t).path },
	"swtpm":     func(t *testing.T) string { return startSwtpm(t, "not-need-init,startup-clear") },
}

// Who listens to the bus learns neither what the TPM decrypts nor the secrets it agrees on. That this would be seen is
// proven by asking the TPM the same without an encrypted session.
func TestListenerLearnsNoSecret(t *testing.T) {
	for name, start := range softTPMs {
		for storage, prepare := range map[string]func(*testing.T, *wire){
			"derived": func(*testing.T, *wire) {},
			"persistent-ECC": func(t *testing.T, w *wire) {
				persist(t, w, tpm2.ECCSRKTemplate, 0x81000001)
			},
			"persistent-RSA": func(t *testing.T, w *wire) {
				persist(t, w, tpm2.RSASRKTemplate, 0x81000001)
			},
			"useless": func(t *testing.T, w *wire) { // not a storage key: another one has to be found
				persist(t, w, signingKey(), 0x81000001)
			},
			"password": func(t *testing.T, w *wire) { // of the owner hierarchy, set when the key is there
			},
		} {
			t.Run(name+"/"+storage, func(t *testing.T) {
				w, ca := tap(t, start(t)), newAuthority(t)
				prepare(t, w)
				provision(t, w.path, tpm.P256, ca)
				rsaHandle := persist(t, w, decryptKey(rsaKey(tpm2.TPMTRSAScheme{})), 0x81020002)
				eccHandle := persist(t, w, decryptKey(signingKey()), 0x81020003)
				if storage == "password" {
					owner := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
					if _, err := (tpm2.HierarchyChangeAuth{
						AuthHandle: owner, NewAuth: tpm2.TPM2BAuth{Buffer: []byte("secret")}}).Execute(w); err != nil {
						t.Fatal(err)
					}
				}
				open := func(key string, handle tpm2.TPMHandle) *tpm.Identity {
					return mustOpen(t, tpm.Options{TPM: w.path, DecryptKey: key,
						DecryptCertificate: writeFile(t, ca.device(publicAt(t, w, handle), "SN1").Raw)})
				}

				d, err := open("0x81020002", 0x81020002).Decrypter()
				if err != nil {
					t.Fatal(err)
				}
				secret := []byte("content encryption key")
				ciphertext, err := rsa.EncryptPKCS1v15(rand.Reader, d.Public().(*rsa.PublicKey), secret)
				if err != nil {
					t.Fatal(err)
				}
				if plain, err := d.Decrypt(nil, ciphertext, nil); err != nil || !bytes.Equal(plain, secret) {
					t.Errorf("got %q, %v", plain, err)
				}
				if w.heard(secret) {
					t.Error("the plaintext was on the wire")
				}
				if _, err := (tpm2.RSADecrypt{KeyHandle: rsaHandle, CipherText: tpm2.TPM2BPublicKeyRSA{Buffer: ciphertext},
					InScheme: tpm2.TPMTRSADecrypt{Scheme: tpm2.TPMAlgRSAES,
						Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSAES, &tpm2.TPMSEncSchemeRSAES{})},
				}).Execute(w); err != nil || !w.heard(secret) {
					t.Errorf("without a session the plaintext is not on the wire, so this test proves nothing: %v", err)
				}

				id := open("0x81020003", 0x81020003)
				peer, err := ecdh.P256().GenerateKey(rand.Reader)
				if err != nil {
					t.Fatal(err)
				}
				own, err := publicAt(t, w, 0x81020003).(*ecdsa.PublicKey).ECDH()
				if err != nil {
					t.Fatal(err)
				}
				if secret, err = peer.ECDH(own); err != nil {
					t.Fatal(err)
				}
				if z, err := id.ECDH(peer.PublicKey()); err != nil || !bytes.Equal(z, secret) {
					t.Errorf("got %x, %v", z, err)
				}
				if w.heard(secret) {
					t.Error("the shared secret was on the wire")
				}
				x, y, err := tpm2.ECCPoint(peer.PublicKey())
				if err != nil {
					t.Fatal(err)
				}
				point := tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: x.FillBytes(make([]byte, 32))},
					Y: tpm2.TPM2BECCParameter{Buffer: y.FillBytes(make([]byte, 32))}}
				if _, err := (tpm2.ECDHZGen{KeyHandle: eccHandle, InPoint: tpm2.New2B(point)}).Execute(w); err != nil ||
					!w.heard(bytes.TrimLeft(secret, "\x00")) {
					t.Errorf("without a session the secret is not on the wire, so this test proves nothing: %v", err)
				}
				nothingLeft(t, w)
			})
		}
	}
}

// A wrapped key does not go over the bus in the form in which it lies in its file.
func TestListenerLearnsNoWrappedKey(t *testing.T) {
	for name, start := range softTPMs {
		t.Run(name, func(t *testing.T) {
			w, ca := tap(t, start(t)), newAuthority(t)
			_, parent, _, _ := storageKeys()
			k := wrap(t, w, parent, signingKey(), 0)
			if !w.heard(k.private[2:]) {
				t.Fatal("the wrapped key was not on the wire when it was made, so this test proves nothing")
			}
			id := mustOpen(t, tpm.Options{TPM: w.path, Key: writeFile(t, k.pem(t)), Certificate: k.certificate(t, ca)})
			if _, err := signWith(id, crypto.SHA256); err != nil {
				t.Fatal(err)
			}
			if !w.did(tpm2.TPMCCLoad) || w.heard(k.private[2:]) {
				t.Error("the wrapped key was not loaded, or it was on the wire")
			}
			nothingLeft(t, w)
		})
	}
}

// A TPM whose sessions cannot encrypt does not get to send secrets in plain.
func TestNoSecretWithoutEncryption(t *testing.T) {
	sim, ca := startSimulator(t), newAuthority(t)
	provision(t, sim.path, tpm.P256, ca)
	persist(t, sim, decryptKey(signingKey()), 0x81020003)
	id := mustOpen(t, tpm.Options{TPM: sim.path, DecryptKey: "0x81020003",
		DecryptCertificate: writeFile(t, ca.device(publicAt(t, sim, 0x81020003), "SN1").Raw)})
	peer, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for command, rc := range map[tpm2.TPMCC]tpm2.TPMRC{
		tpm2.TPMCCStartAuthSession: tpm2.TPMRCSessionMemory,
		tpm2.TPMCCCreatePrimary:    tpm2.TPMRCObjectMemory,
	} {
		sim.intercept(func(code tpm2.TPMCC) []byte {
			if code == command {
				return refusal(rc)
			}
			return nil
		})
		_, err := id.ECDH(peer.PublicKey())
		wantCode(t, err, tpm.CodeFailure, "no room for another")
	}
	if n := sim.count(tpm2.TPMCCECDHZGen); n != 0 {
		t.Errorf("the TPM was asked %d times", n)
	}
	sim.intercept(nil)
	if _, err := id.ECDH(peer.PublicKey()); err != nil {
		t.Error(err)
	}
	nothingLeft(t, sim)
}
