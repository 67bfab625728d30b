package artifacts

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"math/big"
	"testing"
	"time"
)

// FuzzVoucher: a voucher that is accepted means the same after it was written anew from what was understood, and has what
// no voucher may lack.
func FuzzVoucher(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	pinned, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		f.Fatal(err)
	}
	full := map[string]any{
		"created-on": "2025-01-01T00:00:00Z", "expires-on": "9999-12-31T23:59:59+02:00", "assertion": "verified",
		"serial-number": "AC-000123", "idevid-issuer": []byte{1, 2, 3}, "pinned-domain-cert": pinned,
		"domain-cert-revocation-checks": "true", "nonce": []byte("01234567"), "last-renewal-date": "x", "est-domain": 1,
	}
	for _, leaf := range []string{"", "expires-on", "nonce", "assertion", "pinned-domain-cert"} {
		delete(full, leaf)
		seed, err := json.Marshal(map[string]any{"ietf-voucher:voucher": full})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed, leaf == "assertion")
	}
	f.Fuzz(func(t *testing.T, data []byte, lenient bool) {
		d := decoder{lenient: lenient}
		v := d.voucher(data)
		if d.err != nil {
			return
		}
		if v.serial == "" || v.pinned == nil || v.createdOn.IsZero() && !bytes.Contains(data, []byte("0001-")) || v.assertion == "" && !lenient {
			t.Fatalf("accepted %+v", v)
		}
		members := map[string]any{"created-on": v.createdOn, "assertion": v.assertion, "serial-number": v.serial, "pinned-domain-cert": v.pinned.Raw}
		if !v.expiresOn.IsZero() {
			members["expires-on"] = v.expiresOn
		}
		if v.issuer != nil {
			members["idevid-issuer"] = v.issuer
		}
		if v.nonce != nil {
			members["nonce"] = v.nonce
		}
		if v.revocation != revocationUnset {
			members["domain-cert-revocation-checks"] = v.revocation == revocationAlways
		}
		written, err := json.Marshal(map[string]any{"ietf-voucher:voucher": members})
		if err != nil {
			t.Fatal(err)
		}
		again := decoder{lenient: lenient}
		w := again.voucher(written)
		if again.err != nil {
			t.Fatalf("written anew: %v", again.err)
		}
		if !w.createdOn.Equal(v.createdOn) || !w.expiresOn.Equal(v.expiresOn) || w.assertion != v.assertion || w.serial != v.serial ||
			!bytes.Equal(w.issuer, v.issuer) || !bytes.Equal(w.nonce, v.nonce) || !w.pinned.Equal(v.pinned) || w.revocation != v.revocation {
			t.Fatalf("%+v\nbecame\n%+v", v, w)
		}
	})
}

// TestPathsOfManyNames gives the search for paths as many look-alikes as a container may hold.
func TestPathsOfManyNames(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var all []*x509.Certificate
	for i := range 32 {
		template := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 1)), IsCA: true, BasicConstraintsValid: true,
			NotAfter: time.Unix(int64(i), 0)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	start := time.Now()
	if _, err := singleChain(all); err == nil {
		t.Error("a crowd of certificates is one chain")
	}
	pinned := &x509.Certificate{Raw: []byte{1}}
	_, _ = pathQuery{leaf: all[0], roots: []*x509.Certificate{pinned}, others: all, usage: x509.ExtKeyUsageAny}.verify(Clock{})
	if elapsed := time.Since(start); elapsed > 3*time.Second {
		t.Errorf("took %v", elapsed)
	}
}
