package main

import (
	"testing"

	"github.com/xpu-sztp/ztp/test/lab/pki"
)

// TestVerifiersVerify makes sure that what is measured is a verification: all refuse a changed bundle.
func TestVerifiersVerify(t *testing.T) {
	for _, key := range []pki.KeyType{pki.P256, pki.RSA2048} {
		s, err := newSignedBundle(key)
		if err != nil {
			t.Fatal(err)
		}
		openssl, err := s.openssl()
		if err != nil {
			t.Fatal(err)
		}
		defer openssl.close()
		verifiers := map[string]func() error{"ours": s.validate, "pkcs7": s.verifyWithPKCS7, "openssl": openssl.verify}
		for name, verify := range verifiers {
			if err := verify(); err != nil {
				t.Errorf("%s, %s: %v", key, name, err)
			}
		}
		for part, der := range map[string][]byte{"voucher": s.OwnershipVoucher, "conveyed": s.ConveyedInformation} {
			der[len(der)-1] ^= 1
			for name, verify := range verifiers {
				if verify() == nil {
					t.Errorf("%s, %s: accepted a changed %s", key, name, part)
				}
			}
			der[len(der)-1] ^= 1
		}
	}
}

func TestVerifyCost(t *testing.T) {
	figures, err := verifyCost()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range figures {
		t.Logf("%s %v %s", f.name, f.value, f.unit)
		if f.value <= 0 || f.limit != noLimit && f.value > f.limit {
			t.Errorf("%s: %v %s, limit %v", f.name, f.value, f.unit, f.limit)
		}
	}
	if len(figures) != 10 {
		t.Errorf("%d figures", len(figures))
	}
}
