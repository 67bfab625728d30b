package tpm_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-tpm/tpm2"

	"github.com/xpu-sztp/ztp/tpm"
)

// took returns the commands that went well since the last call.
func (w *wire) took() []tpm2.TPMCC {
	w.mu.Lock()
	defer w.mu.Unlock()
	done := w.done
	w.done = nil
	return done
}

// What an operation costs, in commands to the TPM. Nothing else ever talks to it: package tpm starts no goroutine.
func TestCommandsForEachOperation(t *testing.T) {
	const (
		describe, list, property = tpm2.TPMCCReadPublic, tpm2.TPMCCGetCapability, tpm2.TPMCCGetCapability
		begin, end               = tpm2.TPMCCStartAuthSession, tpm2.TPMCCFlushContext
	)
	for _, storageRoot := range []bool{true, false} {
		t.Run(fmt.Sprintf("storage-root-%v", storageRoot), func(t *testing.T) {
			w, ca := tap(t, startSwtpm(t, "not-need-init,startup-clear")), newAuthority(t)
			salted := []tpm2.TPMCC{tpm2.TPMCCCreatePrimary, begin, end}
			if storageRoot {
				persist(t, w, tpm2.ECCSRKTemplate, 0x81000001)
				salted = []tpm2.TPMCC{describe, begin}
			}
			provision(t, w.path, tpm.P256, ca)
			_, parent, _, _ := storageKeys()
			wrapped := wrap(t, w, parent, signingKey(), 0)
			persist(t, w, decryptKey(rsaKey(tpm2.TPMTRSAScheme{})), 0x81020002)
			persist(t, w, decryptKey(signingKey()), 0x81020003)
			with := func(key string, handle tpm2.TPMHandle) *tpm.Identity {
				return mustOpen(t, tpm.Options{TPM: w.path, DecryptKey: key,
					DecryptCertificate: writeFile(t, ca.device(publicAt(t, w, handle), "").Raw)})
			}
			check := func(doing string, want ...tpm2.TPMCC) {
				t.Helper()
				if diff := cmp.Diff(want, w.took()); diff != "" {
					t.Errorf("%s (-want +got):\n%s", doing, diff)
				}
			}

			w.took()
			id := mustOpen(t, tpm.Options{TPM: w.path})
			readNV := []tpm2.TPMCC{tpm2.TPMCCNVReadPublic, property, tpm2.TPMCCNVRead}
			check("open", slices.Concat([]tpm2.TPMCC{describe, list}, readNV, readNV)...)
			if err := sign(id); err != nil {
				t.Fatal(err)
			}
			check("sign", tpm2.TPMCCSign)
			for range 2 {
				if _, _, err := id.TLSCertificate(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			check("learn what the key can do, once", list)

			id = mustOpen(t, tpm.Options{TPM: w.path, Key: writeFile(t, wrapped.pem(t)), Certificate: wrapped.certificate(t, ca)})
			w.took()
			if err := sign(id); err != nil {
				t.Fatal(err)
			}
			check("sign with a wrapped key", tpm2.TPMCCContextLoad, tpm2.TPMCCSign, end)

			d, err := with("0x81020002", 0x81020002).Decrypter()
			if err != nil {
				t.Fatal(err)
			}
			c, err := rsa.EncryptOAEP(crypto.SHA256.New(), rand.Reader, d.Public().(*rsa.PublicKey), []byte("secret"), nil)
			if err != nil {
				t.Fatal(err)
			}
			w.took()
			if _, err := d.Decrypt(nil, c, &rsa.OAEPOptions{Hash: crypto.SHA256}); err != nil {
				t.Fatal(err)
			}
			check("decrypt", append(slices.Clone(salted), tpm2.TPMCCRSADecrypt, end)...)

			id = with("0x81020003", 0x81020003)
			peer, err := ecdh.P256().GenerateKey(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			w.took()
			if _, err := id.ECDH(peer.PublicKey()); err != nil {
				t.Fatal(err)
			}
			check("agree on a secret", append(slices.Clone(salted), tpm2.TPMCCECDHZGen, end)...)
		})
	}
}

// Who changes what is on the TPM's bus, without a key of their own in the place of the storage key, is noticed, and it is not
// taken for a password of the key.
func TestChangesOnTheBus(t *testing.T) {
	w, ca := tap(t, startSwtpm(t, "not-need-init,startup-clear")), newAuthority(t)
	provision(t, w.path, tpm.P256, ca)
	persist(t, w, tpm2.ECCSRKTemplate, 0x81000001)
	persist(t, w, decryptKey(signingKey()), 0x81020003)
	id := mustOpen(t, tpm.Options{TPM: w.path, DecryptKey: "0x81020003",
		DecryptCertificate: writeFile(t, ca.device(publicAt(t, w, 0x81020003), "").Raw)})
	peer, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other := newP256(t)
	for name, test := range map[string]struct {
		command tpm2.TPMCC
		change  func(rsp []byte) []byte
		mention string
	}{
		"another-storage-key": {tpm2.TPMCCReadPublic, func(rsp []byte) []byte {
			point, err := other.PublicKey.Bytes()
			if err != nil {
				t.Error(err)
			}
			real := publicPoint(t, rsp)
			rsp = bytes.Replace(rsp, real[:32], point[1:33], 1)
			return bytes.Replace(rsp, real[32:], point[33:], 1)
		}, "do not share the key"},
		"derived-storage-key": {tpm2.TPMCCCreatePrimary, func(rsp []byte) []byte {
			rsp[14+2+60] ^= 1 // the point is not on the curve any more
			return rsp
		}, "preparing an encrypted session"},
		"nonce": {tpm2.TPMCCStartAuthSession, func(rsp []byte) []byte {
			rsp[len(rsp)-1] ^= 1
			return rsp
		}, "do not share the key"},
		"secret": {tpm2.TPMCCECDHZGen, func(rsp []byte) []byte {
			rsp[20] ^= 1
			return rsp
		}, "HMAC"},
		"attributes": {tpm2.TPMCCECDHZGen, func(rsp []byte) []byte {
			rsp[len(rsp)-35] ^= 0x40 // says that the response is not encrypted
			return rsp
		}, "HMAC"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.command == tpm2.TPMCCCreatePrimary { // which is sent only without a storage key at the usual place
				evict(t, w, 0x81000001)
				defer persist(t, w, tpm2.ECCSRKTemplate, 0x81000001)
			}
			w.tamper(func(command tpm2.TPMCC, rsp []byte) []byte {
				if command == test.command {
					return test.change(rsp)
				}
				return rsp
			})
			secret, err := id.ECDH(peer.PublicKey())
			w.tamper(nil)
			wantCode(t, err, tpm.CodeFailure, test.mention)
			if secret != nil {
				t.Error("there is a secret nevertheless")
			}
			if _, err := id.ECDH(peer.PublicKey()); err != nil {
				t.Errorf("afterwards: %v", err)
			}
			nothingLeft(t, w)
		})
	}
}

// publicPoint returns the coordinates in the response to TPM2_ReadPublic of the storage key at 0x81000001.
func publicPoint(t *testing.T, rsp []byte) []byte {
	t.Helper()
	sized, err := tpm2.Unmarshal[tpm2.TPM2BPublic](rsp[10:])
	if err != nil {
		t.Fatal(err)
	}
	area, err := sized.Contents()
	if err != nil {
		t.Fatal(err)
	}
	point, err := area.Unique.ECC()
	if err != nil {
		t.Fatal(err)
	}
	return append(bytes.Clone(point.X.Buffer), point.Y.Buffer...)
}

// Whichever command fails, nothing stays in the TPM: neither an object nor a session.
func TestNothingIsLeftByFailures(t *testing.T) {
	sim, ca := startSimulator(t), newAuthority(t)
	pub := provision(t, sim.path, tpm.P256, ca)
	_, parent, _, _ := storageKeys()
	k := wrap(t, sim, parent, decryptOrSign(rsaKey(tpm2.TPMTRSAScheme{})), 0)
	options := tpm.Options{TPM: sim.path, Key: writeFile(t, k.pem(t)), Certificate: k.certificate(t, ca)}
	wrapped := mustOpen(t, options)
	d, err := wrapped.Decrypter()
	if err != nil {
		t.Fatal(err)
	}
	c, err := rsa.EncryptPKCS1v15(rand.Reader, d.Public().(*rsa.PublicKey), []byte("secret")) //lint:ignore SA1019 it is what the field uses
	if err != nil {
		t.Fatal(err)
	}
	files := writeFile(t, pemOf("CERTIFICATE", ca.device(pub, "SN1").Raw, ca.issuer.Raw))
	overwriting := tpm.Factory{TPM: sim.path, Overwrite: true}
	for name, operation := range map[string]func() error{
		"open": func() error {
			id, err := tpm.Open(t.Context(), options)
			if err == nil {
				err = id.Close()
			}
			return err
		},
		"sign":    func() error { return sign(wrapped) },
		"decrypt": func() error { _, err := d.Decrypt(nil, c, nil); return err },
		"create": func() error {
			_, err := overwriting.CreateIDevID(t.Context(), tpm.P384, 0x81020005)
			return err
		},
		"create-as-owner": func() error {
			f := overwriting
			f.EndorsementPassword = []byte("wrong") // asks for a session
			_, err := f.CreateIDevID(t.Context(), tpm.P384, 0x81020005)
			if errors.Is(err, tpm2.TPMRCBadAuth) {
				return nil
			}
			return err
		},
		"install": func() error {
			id, err := overwriting.Install(t.Context(), tpm.Options{Certificate: "0x01C90000"}, files)
			if err == nil {
				err = id.Close()
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			failures := 0
			for at := 0; ; at++ {
				n, failed := 0, false
				sim.intercept(func(code tpm2.TPMCC) []byte {
					n++
					if n-1 != at || code == tpm2.TPMCCFlushContext { // else it is the refusal that leaves something
						return nil
					}
					failed = true
					return refusal(tpm2.TPMRCMemory)
				})
				err := operation()
				sim.intercept(nil)
				nothingLeft(t, sim)
				var known *tpm.Error
				if err != nil && !errors.As(err, &known) {
					t.Fatalf("command %d: %v is not explained", at, err)
				}
				if err != nil {
					failures++
				}
				if t.Failed() || n <= at && !failed {
					break
				}
			}
			if failures == 0 {
				t.Error("no failure was noticed")
			}
			if err := operation(); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// Responses come in pieces, and several keys and certificates lie beside each other.
func TestShortReads(t *testing.T) {
	sim, ca := startSimulator(t), newAuthority(t)
	provision(t, sim.path, tpm.P256, ca)
	path := "unix:" + serve(t, func(c net.Conn) {
		if command := readCommand(c); command != nil {
			rsp, _ := sim.Send(command)
			for i := range rsp {
				_, _ = c.Write(rsp[i : i+1])
			}
			_, _ = io.Copy(io.Discard, c)
		}
	})
	if err := sign(mustOpen(t, tpm.Options{TPM: path})); err != nil {
		t.Error(err)
	}
}

// Hierarchies that have passwords need them, and the passwords are not on the bus.
func TestHierarchyPasswords(t *testing.T) {
	for kind, start := range softTPMs {
		t.Run(kind, func(t *testing.T) {
			w, ca := tap(t, start(t)), newAuthority(t)
			passwords := map[tpm2.TPMHandle][]byte{tpm2.TPMRHOwner: []byte("the owner's"), tpm2.TPMRHEndorsement: []byte("the maker's")}
			for hierarchy, password := range passwords {
				if _, err := (tpm2.HierarchyChangeAuth{AuthHandle: tpm2.AuthHandle{Handle: hierarchy, Auth: tpm2.PasswordAuth(nil)},
					NewAuth: tpm2.TPM2BAuth{Buffer: password}}).Execute(w); err != nil {
					t.Fatal(err)
				}
				if !w.heard(password) {
					t.Fatal("the password was not on the wire when it was set, so this test proves nothing")
				}
			}
			f := tpm.Factory{TPM: w.path, Overwrite: true}
			create := func() (crypto.PublicKey, error) { return f.CreateIDevID(t.Context(), tpm.P256, tpm.IDevIDHandle) }
			for _, f.EndorsementPassword = range [][]byte{nil, []byte("wrong")} {
				_, err := create()
				wantCode(t, err, tpm.CodePassword, "--endorsement-password-file")
			}
			f.EndorsementPassword = passwords[tpm2.TPMRHEndorsement]
			for _, f.OwnerPassword = range [][]byte{nil, []byte("wrong")} {
				_, err := create()
				wantCode(t, err, tpm.CodePassword, "--owner-password-file")
			}
			f.OwnerPassword = passwords[tpm2.TPMRHOwner]
			pub, err := create()
			if err != nil {
				t.Fatal(err)
			}
			files := writeFile(t, pemOf("CERTIFICATE", ca.device(pub, "SN1").Raw, ca.issuer.Raw))
			for range 2 { // the second time everything is there
				id, err := f.Install(t.Context(), tpm.Options{Certificate: "0x01C90000"}, files)
				if err != nil {
					t.Fatal(err)
				}
				id.Close()
			}
			for _, password := range passwords {
				if w.heard(password) {
					t.Error("a password was on the wire")
				}
			}
			if id := mustOpen(t, tpm.Options{TPM: w.path}); len(id.Chain) != 2 {
				t.Errorf("chain %q", names(id.Chain))
			}
			nothingLeft(t, w)
		})
	}
}

// A TPM that does not decrypt for reasons of its own says so; and a badly padded ciphertext looks to it like a good one, so
// that neither its answers nor the time it takes can tell (R5.1-06).
func TestDecryptionTells(t *testing.T) {
	sim, ca := startSimulator(t), newAuthority(t)
	w := tap(t, sim.path)
	provision(t, w.path, tpm.P256, ca)
	persist(t, w, decryptKey(rsaKey(tpm2.TPMTRSAScheme{})), 0x81020002)
	id := mustOpen(t, tpm.Options{TPM: w.path, DecryptKey: "0x81020002",
		DecryptCertificate: writeFile(t, ca.device(publicAt(t, w, 0x81020002), "").Raw)})
	d, err := id.Decrypter()
	if err != nil {
		t.Fatal(err)
	}
	good, err := rsa.EncryptOAEP(crypto.SHA256.New(), rand.Reader, d.Public().(*rsa.PublicKey), []byte("secret"), nil)
	if err != nil {
		t.Fatal(err)
	}
	oaep := &rsa.OAEPOptions{Hash: crypto.SHA256}
	w.took()
	if _, err := d.Decrypt(nil, good, oaep); err != nil {
		t.Fatal(err)
	}
	want := w.took()
	bad := bytes.Clone(good)
	bad[200] ^= 1
	if _, err := d.Decrypt(nil, bad, oaep); err != rsa.ErrDecryption {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff(want, w.took()); diff != "" {
		t.Errorf("the TPM was asked for something else, or refused it:\n%s", diff)
	}
	for name, ciphertext := range map[string][]byte{"too-large": bytes.Repeat([]byte{0xFF}, 256), "too-long": make([]byte, 300)} {
		if _, err := d.Decrypt(nil, ciphertext, oaep); err != rsa.ErrDecryption {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, test := range []struct {
		rc   tpm2.TPMRC
		code tpm.Code
	}{
		{tpm2.TPMRCLockout, tpm.CodeLockout},
		{tpm2.TPMRCAuthFail + 0x900, tpm.CodeKeyUnusable}, // of the first session, which is the key's
	} {
		sim.intercept(func(command tpm2.TPMCC) []byte {
			if command == tpm2.TPMCCRSADecrypt {
				return refusal(test.rc)
			}
			return nil
		})
		_, err := d.Decrypt(nil, good, oaep)
		wantCode(t, err, test.code)
		var e *tpm.Error
		if errors.As(err, &e) && !e.KeyFailed() {
			t.Errorf("%v does not say that the key failed", err)
		}
	}
	sim.intercept(nil)
	nothingLeft(t, sim)
}

// T-07: the simulator makes no RSA 3072, and that has a code.
func TestUnsupportedTemplate(t *testing.T) {
	sim := startSimulator(t)
	_, err := tpm.Factory{TPM: sim.path}.CreateIDevID(t.Context(), tpm.RSA3072, tpm.IDevIDHandle)
	wantCode(t, err, tpm.CodeUnsupported, "H-6", "H-2")
	nothingLeft(t, sim)
}
