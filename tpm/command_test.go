package tpm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// answering is a session with a TPM that answers every command alike, and what it was asked last.
func answering(t testing.TB, answer []byte) (s *session, last *[]byte) {
	t.Helper()
	last = new([]byte)
	c := newConn(linkFunc(func(_ context.Context, command []byte) ([]byte, error) {
		*last = bytes.Clone(command)
		return answer, nil
	}), true)
	t.Cleanup(func() { _ = c.Close() })
	return &session{c, context.Background()}, last
}

// libraryCommand is a command as the library describes it.
type libraryCommand[R any] interface {
	Execute(transport.TPM, ...tpm2.Session) (*R, error)
}

func byLibrary[R any](c libraryCommand[R]) func(*session) error {
	return func(s *session) error {
		_, err := c.Execute(s)
		return err
	}
}

// The commands are, byte for byte, what the library makes of them.
func TestCommandsAreTheLibrarys(t *testing.T) {
	const handle, persistent = tpm2.TPMHandle(0x80000001), tpm2.TPMHandle(0x81020000)
	bytesOf := func(n int) []byte { return bytes.Repeat([]byte{0xA5}, n) }
	name := tpm2.TPM2BName{Buffer: bytesOf(34)}
	object := tpm2.AuthHandle{Handle: handle, Name: name}
	named := tpm2.NamedHandle{Handle: handle, Name: name}
	key := tpm2.AuthHandle{Handle: handle, Name: name, Auth: tpm2.PasswordAuth(nil)}
	area, err := P384.area()
	if err != nil {
		t.Fatal(err)
	}
	index := tpm2.TPMSNVPublic{NVIndex: identityFirst, NameAlg: tpm2.TPMAlgSHA256, DataSize: 700,
		Attributes: tpm2.TPMANV{OwnerWrite: true, NoDA: true, NT: tpm2.TPMNTOrdinary}}
	saved := tpm2.TPMSContext{Sequence: 5, SavedHandle: 0x80000000, Hierarchy: tpm2.TPMRHOwner,
		ContextBlob: tpm2.TPM2BContextData{Buffer: bytesOf(500)}}
	signing := tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgRSAPSS,
		Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgRSAPSS, &tpm2.TPMSSchemeHash{HashAlg: tpm2.TPMAlgSHA256})}
	noProof := tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull}
	oaep := tpm2.TPMTRSADecrypt{Scheme: tpm2.TPMAlgOAEP,
		Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgOAEP, &tpm2.TPMSEncSchemeOAEP{HashAlg: tpm2.TPMAlgSHA1})}
	point := tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: bytesOf(32)}, Y: tpm2.TPM2BECCParameter{Buffer: bytesOf(31)}}

	for _, test := range []struct {
		title   string
		ours    *command
		library func(*session) error
	}{
		{"FlushContext", flushContext(handle), byLibrary(tpm2.FlushContext{FlushHandle: handle})},
		{"ContextSave", contextSave(handle), byLibrary(tpm2.ContextSave{SaveHandle: handle})},
		{"ContextLoad", contextLoad(tpm2.Marshal(saved)), byLibrary(tpm2.ContextLoad{Context: saved})},
		{"EvictControl", evictControl(owner(), object, persistent),
			byLibrary(tpm2.EvictControl{Auth: owner(), ObjectHandle: named, PersistentHandle: persistent})},
		{"GetCapability", getCapability(tpm2.TPMCapHandles, 0x01C90000, 128),
			byLibrary(tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: 0x01C90000, PropertyCount: 128})},
		{"ReadPublic", readPublicArea(handle), byLibrary(tpm2.ReadPublic{ObjectHandle: handle})},
		{"CreatePrimary", createPrimary(owner(), area), byLibrary(tpm2.CreatePrimary{PrimaryHandle: owner(), InPublic: tpm2.New2B(area)})},
		{"Load", load(key, bytesOf(200), &area),
			byLibrary(tpm2.Load{ParentHandle: key, InPrivate: tpm2.TPM2BPrivate{Buffer: bytesOf(200)}, InPublic: tpm2.New2B(area)})},
		{"Sign", signDigest(key, bytesOf(32), signing),
			byLibrary(tpm2.Sign{KeyHandle: key, Digest: tpm2.TPM2BDigest{Buffer: bytesOf(32)}, InScheme: signing, Validation: noProof})},
		{"RSADecrypt", rsaDecrypt(key, bytesOf(256), oaep),
			byLibrary(tpm2.RSADecrypt{KeyHandle: key, CipherText: tpm2.TPM2BPublicKeyRSA{Buffer: bytesOf(256)}, InScheme: oaep})},
		{"RSADecrypt-bare", rsaDecrypt(key, bytesOf(256), tpm2.TPMTRSADecrypt{Scheme: tpm2.TPMAlgNull}),
			byLibrary(tpm2.RSADecrypt{KeyHandle: key, CipherText: tpm2.TPM2BPublicKeyRSA{Buffer: bytesOf(256)}})},
		{"ECDHZGen", ecdhZGen(key, point), byLibrary(tpm2.ECDHZGen{KeyHandle: key, InPoint: tpm2.New2B(point)})},
		{"NVReadPublic", nvReadPublic(identityFirst), byLibrary(tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(identityFirst)})},
		{"NVRead", nvRead(owner(), object, 700, 1024),
			byLibrary(tpm2.NVRead{AuthHandle: owner(), NVIndex: named, Size: 700, Offset: 1024})},
		{"NVRead-itself", nvRead(key, object, 1, 0), byLibrary(tpm2.NVRead{AuthHandle: key, NVIndex: named, Size: 1})},
		{"NVDefineSpace", nvDefineSpace(owner(), index),
			byLibrary(tpm2.NVDefineSpace{AuthHandle: owner(), PublicInfo: tpm2.New2B(index)})},
		{"NVWrite", nvWrite(owner(), object, bytesOf(512), 1024),
			byLibrary(tpm2.NVWrite{AuthHandle: owner(), NVIndex: named, Data: tpm2.TPM2BMaxNVBuffer{Buffer: bytesOf(512)}, Offset: 1024})},
		{"NVWriteLock", nvWriteLock(owner(), object), byLibrary(tpm2.NVWriteLock{AuthHandle: owner(), NVIndex: named})},
		{"NVUndefineSpace", nvUndefineSpace(owner(), object), byLibrary(tpm2.NVUndefineSpace{AuthHandle: owner(), NVIndex: named})},
	} {
		t.Run(test.title, func(t *testing.T) {
			s, last := answering(t, respond(tpm2.TPMRCFailure, nil))
			if err := test.library(s); !errors.Is(err, tpm2.TPMRCFailure) {
				t.Fatalf("the library: %v", err)
			}
			want := *last
			if _, err := s.execute(test.ours); !errors.Is(err, tpm2.TPMRCFailure) {
				t.Fatalf("we: %v", err)
			}
			if diff := cmp.Diff(want, *last); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A command whose object has no known name cannot be authorized: nobody would vouch for what is meant.
func TestCommandWithoutName(t *testing.T) {
	s, last := answering(t, respond(tpm2.TPMRCSuccess, nil))
	if _, err := s.execute(nvWriteLock(owner(), tpm2.AuthHandle{Handle: identityFirst})); err == nil || *last != nil {
		t.Errorf("error %v, sent %x", err, *last)
	}
}

// Of whatever a TPM answers, what we take the library takes as well, and reads the same; it also takes some that is cut off.
func FuzzResponse(f *testing.F) {
	data := []byte{0, 3, 7, 8, 9}
	password := []byte{0, 0, 1, 0, 0} // of a response: no nonce, continueSession, no HMAC
	for _, tail := range [][]byte{password, nil, password[:4], append(bytes.Clone(password), 0), {0, 0, 0, 0, 0}, {0, 1, 9, 1, 0, 0}} {
		f.Add(append(append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...), tail...))
	}
	f.Add(append([]byte{0xFF, 0xFF, 0xFF, 0xFF}, data...))
	f.Add(append(append([]byte{0, 0, 0, 5, 0, 4}, data[2:]...), password...))
	object := tpm2.AuthHandle{Handle: identityFirst, Name: tpm2.TPM2BName{Buffer: []byte{1}}}
	f.Fuzz(func(t *testing.T, body []byte) {
		s, _ := answering(t, respond(tpm2.TPMRCSuccess, body))
		want, refused := tpm2.NVRead{AuthHandle: owner(), Size: 3,
			NVIndex: tpm2.NamedHandle{Handle: object.Handle, Name: object.Name}}.Execute(s)
		var got []byte
		rsp, err := s.execute(nvRead(owner(), object, 3, 0))
		if err == nil {
			got, err = rsp.sized()
		}
		switch {
		case err == nil && refused != nil:
			t.Errorf("the library refuses what was taken: %v", refused)
		case err != nil && refused == nil && bytes.HasSuffix(body, password) && len(want.Data.Buffer) > 0:
			t.Errorf("the library takes what was refused: %v", err)
		case err == nil && !bytes.Equal(got, want.Data.Buffer):
			t.Errorf("read %x, the library %x", got, want.Data.Buffer)
		}
	})
}
