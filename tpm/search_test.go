package tpm_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-tpm/tpm2"

	"github.com/xpu-sztp/ztp/tpm"
)

var readable = tpm2.TPMANV{OwnerWrite: true, OwnerRead: true, AuthRead: true, NoDA: true}

// writeNV stores content in an NV index with any attributes and password.
func (s *softTPM) writeNV(t *testing.T, index uint32, attrs tpm2.TPMANV, password string, content []byte) {
	t.Helper()
	owner := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
	_, err := tpm2.NVDefineSpace{
		AuthHandle: owner,
		Auth:       tpm2.TPM2BAuth{Buffer: []byte(password)},
		PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{NVIndex: tpm2.TPMHandle(index), NameAlg: tpm2.TPMAlgSHA256,
			Attributes: attrs, DataSize: uint16(len(content))}),
	}.Execute(s)
	if err != nil {
		t.Fatal(err)
	}
	for offset := 0; offset < len(content); offset += 512 {
		pub, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(index)}.Execute(s)
		if err != nil {
			t.Fatal(err)
		}
		_, err = tpm2.NVWrite{
			AuthHandle: owner, NVIndex: tpm2.NamedHandle{Handle: tpm2.TPMHandle(index), Name: pub.NVName},
			Data:   tpm2.TPM2BMaxNVBuffer{Buffer: content[offset:min(offset+512, len(content))]},
			Offset: uint16(offset),
		}.Execute(s)
		if err != nil {
			t.Fatal(err)
		}
	}
}

// undefine removes an NV index.
func (s *softTPM) undefine(t *testing.T, index uint32) {
	t.Helper()
	pub, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(index)}.Execute(s)
	if err != nil {
		t.Fatal(err)
	}
	_, err = tpm2.NVUndefineSpace{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		NVIndex:    tpm2.NamedHandle{Handle: tpm2.TPMHandle(index), Name: pub.NVName}}.Execute(s)
	if err != nil {
		t.Fatal(err)
	}
}

// T-03, T-04, T-05: makers disagree on where the certificate is and what lies beside it.
func TestCertificateSearch(t *testing.T) {
	ca := newAuthority(t)
	stranger := ca.device(newP256(t).Public(), "OTHER").Raw
	padding := func(b byte) []byte { return bytes.Repeat([]byte{b}, 700) }
	cat := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

	// A certificate of more than one NV buffer, cut in two.
	big := ca.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "Maker Device CA"}, IsCA: true, BasicConstraintsValid: true,
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999}, Value: padding(1)}}},
		ca.issuer, ca.key.Public(), ca.key).Raw

	type place struct {
		index   uint32
		attrs   tpm2.TPMANV
		content []byte
	}
	for name, test := range map[string]struct {
		places      func(leaf []byte) []place
		certificate string
		where       string
		chain       int
	}{
		"usual-places": {places: func(leaf []byte) []place {
			return []place{{0x01C90000, readable, leaf}, {0x01C90100, readable, ca.issuer.Raw}}
		}, where: "0x01C90000", chain: 2},
		"vendor-index": {places: func(leaf []byte) []place {
			return []place{{0x01C9A5A5, readable, leaf}}
		}, where: "0x01C9A5A5", chain: 1},
		"wrong-pubkey-is-skipped": {places: func(leaf []byte) []place {
			return []place{{0x01C90000, readable, stranger}, {0x01C90001, readable, leaf}}
		}, where: "0x01C90001", chain: 1},
		"padding-ff": {places: func(leaf []byte) []place {
			return []place{{0x01C90000, readable, cat(leaf, padding(0xFF))}, {0x01C90100, readable, cat(ca.issuer.Raw, padding(0xFF))}}
		}, where: "0x01C90000", chain: 2},
		"padding-00": {places: func(leaf []byte) []place {
			return []place{{0x01C90000, readable, cat(leaf, padding(0))}}
		}, where: "0x01C90000", chain: 1},
		"chain-after-leaf": {places: func(leaf []byte) []place {
			return []place{{0x01C90000, readable, cat(leaf, ca.issuer.Raw, ca.root.Raw)}}
		}, where: "0x01C90000", chain: 3},
		"chain-out-of-order": {places: func(leaf []byte) []place {
			return []place{{0x01C90000, readable, cat(ca.root.Raw, ca.issuer.Raw, leaf)}}
		}, where: "0x01C90000", chain: 3},
		"chain-cut-in-two": {places: func(leaf []byte) []place {
			both := cat(big, ca.issuer.Raw)
			return []place{{0x01C90000, readable, leaf}, {0x01C90100, readable, both[:1000]}, {0x01C90101, readable, both[1000:]}}
		}, where: "0x01C90000", chain: 2},
		"PEM": {places: func(leaf []byte) []place {
			return []place{{0x01C90000, readable, pemOf("CERTIFICATE", leaf, ca.issuer.Raw)}}
		}, where: "0x01C90000", chain: 2},
		"among-other-data": {places: func(leaf []byte) []place {
			return []place{
				{0x01C90000, readable, padding(0xFF)},
				{0x01C90001, readable, leaf[:100]},
				{0x01C90002, readable, []byte{0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF}},
				{0x01C90003, readable, []byte{0x30, 0}},
				{0x01C90020, readable, leaf}}
		}, where: "0x01C90020", chain: 1},
		"policy-indices-are-skipped": {places: func(leaf []byte) []place {
			return []place{{0x01C90010, readable, leaf}, {0x01C90018, readable, leaf}, {0x01C90020, readable, leaf}}
		}, where: "0x01C90020", chain: 1},
		"owner-may-read": {places: func(leaf []byte) []place {
			return []place{{0x01C90000, tpm2.TPMANV{OwnerWrite: true, OwnerRead: true}, leaf}}
		}, where: "0x01C90000", chain: 1},
		"everybody-may-read": {places: func(leaf []byte) []place {
			return []place{{0x01C90000, tpm2.TPMANV{OwnerWrite: true, AuthRead: true, NoDA: true}, leaf}}
		}, where: "0x01C90000", chain: 1},
		"named-index": {places: func(leaf []byte) []place {
			return []place{{0x01800001, readable, leaf}, {0x01C90100, readable, ca.issuer.Raw}}
		}, certificate: "0x01800001", where: "0x01800001", chain: 2},
		"named-index-guarded-by-lockout": {places: func(leaf []byte) []place {
			return []place{{0x01800001, tpm2.TPMANV{OwnerWrite: true, AuthRead: true}, leaf}}
		}, certificate: "0x01800001", where: "0x01800001", chain: 1},
	} {
		t.Run(name, func(t *testing.T) {
			sim := startSimulator(t)
			pub, err := tpm.Factory{TPM: sim.path}.CreateIDevID(t.Context(), tpm.P256, tpm.IDevIDHandle)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range test.places(ca.device(pub, "SN1").Raw) {
				sim.writeNV(t, p.index, p.attrs, "", p.content)
			}
			id := mustOpen(t, tpm.Options{TPM: sim.path, Certificate: test.certificate})
			if !strings.Contains(id.Certificate, test.where) {
				t.Errorf("found in %s, want %s", id.Certificate, test.where)
			}
			want := []string{"Model X", "Maker Device CA", "Maker Root CA"}[:test.chain]
			if diff := cmp.Diff(want, names(id.Chain)); diff != "" {
				t.Errorf("chain (-want +got):\n%s", diff)
			}
		})
	}
}

// A re-issued certificate replaces the older one, and both replace what the factory signed with the key itself.
func TestCertificateChoice(t *testing.T) {
	sim, ca := startSimulator(t), newAuthority(t)
	pub, err := tpm.Factory{TPM: sim.path}.CreateIDevID(t.Context(), tpm.P256, tpm.IDevIDHandle)
	if err != nil {
		t.Fatal(err)
	}
	issue := func(year int, issuer *x509.Certificate, serial string) []byte {
		return ca.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "Model X", SerialNumber: serial},
			NotBefore: time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)}, issuer, pub, ca.key).Raw
	}
	selfIssued := &x509.Certificate{Subject: pkix.Name{CommonName: "Model X", SerialNumber: "SELF"}}
	sim.writeNV(t, 0x01C90000, readable, "", issue(2030, selfIssued, "SELF"))
	sim.writeNV(t, 0x01C90001, readable, "", issue(2021, ca.issuer, "OLD"))
	sim.writeNV(t, 0x01C90002, readable, "", issue(2022, ca.issuer, "NEW"))
	sim.writeNV(t, 0x01C90003, readable, "", issue(2020, ca.issuer, "OLDEST"))
	if id := mustOpen(t, tpm.Options{TPM: sim.path}); id.SerialNumber != "NEW" {
		t.Errorf("chose the certificate of %s", id.SerialNumber)
	}
}

func TestCertificateMissing(t *testing.T) {
	sim, ca := startSimulator(t), newAuthority(t)
	pub, err := tpm.Factory{TPM: sim.path}.CreateIDevID(t.Context(), tpm.P256, tpm.IDevIDHandle)
	if err != nil {
		t.Fatal(err)
	}
	leaf := ca.device(pub, "SN1").Raw
	_, err = tpm.Open(t.Context(), tpm.Options{TPM: sim.path})
	wantCode(t, err, tpm.CodeCertificateMissing, "0x81020000", "0x01C90000")

	guarded := tpm2.TPMANV{OwnerWrite: true, AuthRead: true}
	sim.writeNV(t, 0x01C90004, guarded, "secret", leaf)
	sim.writeNV(t, 0x01C90005, tpm2.TPMANV{OwnerWrite: true, AuthRead: true, NoDA: true}, "secret", leaf)
	sim.writeNV(t, 0x01C90006, tpm2.TPMANV{OwnerWrite: true, PolicyRead: true}, "", leaf)
	sim.writeNV(t, 0x01C90007, readable, "", nil)
	sim.writeNV(t, 0x01C90100, readable, "", ca.issuer.Raw)
	reads := sim.count(tpm2.TPMCCNVRead)
	_, err = tpm.Open(t.Context(), tpm.Options{TPM: sim.path})
	wantCode(t, err, tpm.CodeCertificateMissing, "0x01C90004", "0x01C90005", "0x01C90006", "0x01C90007 cannot be read")
	if n := sim.count(tpm2.TPMCCNVRead) - reads; n != 2 {
		t.Errorf("%d reads; want one of the index with a harmless password, one of the CA certificate, "+
			"none that could lock the TPM", n)
	}
	for _, index := range []string{"0x01C90006", "0x01C9FFFF", "0x81020000"} {
		_, err := tpm.Open(t.Context(), tpm.Options{TPM: sim.path, Certificate: index})
		wantCode(t, err, tpm.CodeCertificateMissing, index)
	}
}

func TestKeyMissing(t *testing.T) {
	sim := startSimulator(t)
	_, err := tpm.Open(t.Context(), tpm.Options{TPM: sim.path})
	wantCode(t, err, tpm.CodeKeyMissing, "0x81020000", "no persistent keys")
	if _, err := (tpm.Factory{TPM: sim.path}).CreateIDevID(t.Context(), tpm.P256, 0x81020007); err != nil {
		t.Fatal(err)
	}
	_, err = tpm.Open(t.Context(), tpm.Options{TPM: sim.path})
	wantCode(t, err, tpm.CodeKeyMissing, "0x81020007")
	_, err = tpm.Open(t.Context(), tpm.Options{TPM: sim.path, Key: "0x01C90000"})
	wantCode(t, err, tpm.CodeKeyMissing, "not a persistent handle")
}

func TestSerialNumber(t *testing.T) {
	key := newP256(t)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	keyFile, ca := writeFile(t, pemOf("PRIVATE KEY", keyDER)), newAuthority(t)
	open := func(t *testing.T, o tpm.Options, subject pkix.Name) (*tpm.Identity, error) {
		cert := ca.sign(&x509.Certificate{Subject: subject}, ca.issuer, crypto.PublicKey(key.Public()), ca.key)
		o.Key, o.Certificate = keyFile, writeFile(t, cert.Raw)
		return tpm.Open(t.Context(), o)
	}
	for attribute, want := range map[string]string{
		"JADA123456789":               "JADA123456789",
		" JADA 12 ":                   "JADA 12",
		"PID:N9K-C93180 SN:FDO1234":   "FDO1234",
		"PID:A B SN:X SN:FDO1234":     "FDO1234",
		"PID:N9K":                     "PID:N9K",
		"SN:FDO1234":                  "SN:FDO1234",
		"PID:N9K SN:":                 "",
		strings.Repeat("x", 257):      "",
		"line\nbreak":                 "",
		"Gerät-7":                     "Gerät-7",
		"urn:dev:ops:32473-Model-123": "urn:dev:ops:32473-Model-123",
	} {
		t.Run(attribute[:min(len(attribute), 20)], func(t *testing.T) {
			id, err := open(t, tpm.Options{}, pkix.Name{SerialNumber: attribute})
			if want == "" {
				wantCode(t, err, tpm.CodeNoSerial)
			} else if err != nil || id.SerialNumber != want {
				t.Errorf("got %+v, %v, want %q", id, err, want)
			}
		})
	}
	pattern, err := tpm.ParseSerialPattern("MODEL-*/(*)")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("pattern", func(t *testing.T) {
		id, err := open(t, tpm.Options{SerialPattern: pattern, SerialNumber: "S1"}, pkix.Name{SerialNumber: "MODEL-A/S1"})
		if err != nil || id.SerialNumber != "S1" {
			t.Errorf("got %+v, %v", id, err)
		}
		_, err = open(t, tpm.Options{SerialPattern: pattern}, pkix.Name{SerialNumber: "S1"})
		wantCode(t, err, tpm.CodeNoSerial, "S1", "pattern")
	})
	t.Run("absent", func(t *testing.T) {
		_, err := open(t, tpm.Options{}, pkix.Name{CommonName: "S1"})
		wantCode(t, err, tpm.CodeNoSerial, "2.5.4.5")
	})
	t.Run("ambiguous", func(t *testing.T) {
		oid := asn1.ObjectIdentifier{2, 5, 4, 5}
		_, err := open(t, tpm.Options{}, pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{
			{Type: oid, Value: "S1"}, {Type: oid, Value: "S2"}}})
		wantCode(t, err, tpm.CodeNoSerial, "S1", "S2")
	})
	t.Run("not-this-device", func(t *testing.T) {
		_, err := open(t, tpm.Options{SerialNumber: "S2"}, pkix.Name{SerialNumber: "S1"})
		wantCode(t, err, tpm.CodeSerialMismatch, "S1", "S2")
	})
}
