package artifacts_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/test/hostile"
)

// kin makes authorities on a curve. Each line says subject, issuer and how many there are; the first of a name issues.
type kin struct {
	curve elliptic.Curve
	keys  map[string]*ecdsa.PrivateKey
}

func (k kin) certificates(lines ...[2]string) (list []*x509.Certificate) {
	for i, line := range lines {
		key, err := ecdsa.GenerateKey(k.curve, rand.Reader)
		if err != nil {
			panic(err)
		}
		if k.keys[line[0]] == nil {
			k.keys[line[0]] = key
		}
		issuer := k.keys[line[1]]
		if issuer == nil {
			k.keys[line[1]] = key
			issuer = key
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: line[0]}, IsCA: true,
			BasicConstraintsValid: true, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0)}
		parent := &x509.Certificate{Subject: pkix.Name{CommonName: line[1]}}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), issuer)
		if err != nil {
			panic(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			panic(err)
		}
		list = append(list, c)
	}
	return list
}

func newKin(curve elliptic.Curve) kin { return kin{curve, map[string]*ecdsa.PrivateKey{}} }

// chain is a chain with its root.
func (k kin) chain(n int) []*x509.Certificate {
	lines := [][2]string{{"a", "a"}}
	for i := 1; i < n; i++ {
		lines = append(lines, [2]string{string(rune('a' + i)), string(rune('a' + i - 1))})
	}
	return k.certificates(lines...)
}

// siblings all have one name, so that each could have issued each.
func (k kin) siblings(n int) []*x509.Certificate {
	var lines [][2]string
	for range n {
		lines = append(lines, [2]string{"a", "a"})
	}
	return k.certificates(lines...)
}

// voucherOf makes a voucher that the last of certs signed.
func voucherOf(certs []*x509.Certificate, key crypto.Signer) []byte {
	s, err := pkcs7.NewSignedData([]byte("{}"))
	if err != nil {
		panic(err)
	}
	s.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	if err := s.AddSigner(certs[len(certs)-1], key, pkcs7.SignerInfoConfig{}); err != nil {
		panic(err)
	}
	for _, c := range certs[:len(certs)-1] {
		s.AddCertificate(c)
	}
	der, err := s.Finish()
	if err != nil {
		panic(err)
	}
	return der
}

// TestKinship bounds how often certificates may name one another as issuers: eight times, as nine in a chain do.
func TestKinship(t *testing.T) {
	w := shared()
	k := newKin(elliptic.P256())
	for name, test := range map[string]struct {
		certs []*x509.Certificate
		large bool
	}{
		"chain-of-9":    {k.chain(9), false},
		"chain-of-10":   {k.chain(10), true},
		"3-of-one-name": {k.siblings(3), false},
		"4-of-one-name": {k.siblings(4), true},
	} {
		t.Run(name, func(t *testing.T) {
			der := degenerate(test.certs)
			check := func(what string, err error) {
				t.Helper()
				var refusal *artifacts.Error
				if errors.As(err, &refusal); test.large != (refusal != nil && refusal.Code == artifacts.CodeTooLarge) {
					t.Errorf("%s: %v", what, err)
				}
			}
			_, err := artifacts.ParseTrustAnchor(der)
			check("trust anchor", err)
			voucher := voucherOf(test.certs, k.keys[test.certs[len(test.certs)-1].Subject.CommonName])
			for what, change := range map[string]func(*artifacts.Bundle){
				"owner certificate":    func(b *artifacts.Bundle) { b.OwnerCertificate = der },
				"voucher":              func(b *artifacts.Bundle) { b.OwnershipVoucher = voucher },
				"conveyed information": func(b *artifacts.Bundle) { b.ConveyedInformation = voucher },
			} {
				b, d, p := signedCase{w: w, bundle: change}.build()
				_, _, err := artifacts.Validate(b, nil, d, p)
				check(what, err)
			}
		})
	}
}

// BenchmarkHostileCertificates has the slowest curve sign whatever names suggest. They are less than a megabyte, since there
// may be no more.
func BenchmarkHostileCertificates(b *testing.B) {
	k := newKin(elliptic.P521())
	shapes := map[string][]*x509.Certificate{
		"siblings-many": k.siblings(32),
		"siblings":      newKin(elliptic.P521()).siblings(3),
		"chain":         newKin(elliptic.P521()).chain(9),
		"layers": newKin(elliptic.P521()).certificates([2]string{"r", "r"}, [2]string{"a", "r"}, [2]string{"a", "r"}, [2]string{"b", "a"},
			[2]string{"b", "a"}, [2]string{"c", "b"}),
	}
	inputs := map[string][]byte{}
	for name, certs := range shapes {
		inputs[name] = degenerate(certs)
	}
	b.Run("anchor", func(b *testing.B) {
		hostile.Benchmark(b, inputs, func(der []byte) { _, _ = artifacts.ParseTrustAnchor(der) })
	})
	bundle, device, policy := signedCase{w: shared()}.build()
	b.Run("owner", func(b *testing.B) {
		hostile.Benchmark(b, inputs, func(der []byte) {
			_, _, _ = artifacts.Validate(artifacts.Bundle{ConveyedInformation: bundle.ConveyedInformation, OwnerCertificate: der,
				OwnershipVoucher: bundle.OwnershipVoucher}, nil, device, policy)
		})
	})
	for name, certs := range shapes {
		inputs[name] = voucherOf(certs, k.keys["a"]) // signed with whichever key: the path comes first
	}
	b.Run("voucher", func(b *testing.B) {
		hostile.Benchmark(b, inputs, func(der []byte) {
			_, _, _ = artifacts.Validate(artifacts.Bundle{ConveyedInformation: bundle.ConveyedInformation, OwnerCertificate: bundle.OwnerCertificate,
				OwnershipVoucher: der}, nil, device, policy)
		})
	})
}
