package main

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"time"

	"github.com/smallstep/pkcs7"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/test/lab/artifact"
	"github.com/xpu-sztp/ztp/test/lab/pki"
	"github.com/xpu-sztp/ztp/test/libcrypto"
)

const (
	verifications = 300
	maxAllocs     = 1000 // of one verification; it does not depend on the machine
)

// verifyCost measures how long it takes to validate signed data, from bytes to onboarding information: three CMS
// messages, the voucher's signature and path, the owner's path and signature. Beside it stands what smallstep/pkcs7 and
// OpenSSL's library take for the cryptographic part of the same, on the same bytes, also in process. All of them
// read the messages and certificates from DER each time, have their trust anchors ready, and verify the same five
// signatures. Only ours reads the voucher and the conveyed information, and takes the pinned certificate from the former.
func verifyCost() ([]figure, error) {
	var figures []figure
	for _, key := range []pki.KeyType{pki.P256, pki.RSA2048} {
		s, err := newSignedBundle(key)
		if err != nil {
			return figures, err
		}
		ours, err := measure(s.validate)
		if err != nil {
			return figures, fmt.Errorf("validate: %w", err)
		}
		theirs, err := measure(s.verifyWithPKCS7)
		if err != nil {
			return figures, fmt.Errorf("verify with smallstep/pkcs7: %w", err)
		}
		openssl, err := s.openssl()
		if err != nil {
			return figures, err
		}
		defer openssl.close()
		library, err := measure(openssl.verify)
		if err != nil {
			return figures, fmt.Errorf("verify with OpenSSL: %w", err)
		}
		name := "verify-bundle-" + string(key)
		figures = append(figures, figure{name, ours.microseconds, "microseconds", noLimit},
			figure{name + "-pkcs7", theirs.microseconds, "microseconds", noLimit},
			figure{name + "-openssl", library.microseconds, "microseconds", noLimit},
			figure{name + "-to-openssl", hundredths(ours.microseconds / library.microseconds), "times", noLimit})
		if key == pki.P256 {
			figures = append(figures, figure{"verify-bundle-allocs", ours.allocs, "allocations", maxAllocs},
				figure{"verify-bundle-allocs-pkcs7", theirs.allocs, "allocations", noLimit})
		}
	}
	return figures, nil
}

// cost is what running something once costs.
type cost struct {
	microseconds float64 // the median
	allocs       float64 // the mean
}

func measure(f func() error) (cost, error) {
	if err := f(); err != nil {
		return cost{}, err
	}
	times := make([]time.Duration, verifications)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range times {
		start := time.Now()
		if err := f(); err != nil {
			return cost{}, err
		}
		times[i] = time.Since(start)
	}
	runtime.ReadMemStats(&after)
	slices.Sort(times)
	return cost{
		microseconds: float64(times[verifications/2].Nanoseconds()/100) / 10,
		allocs:       float64((after.Mallocs - before.Mallocs) / verifications),
	}, nil
}

// signedBundle is signed onboarding information with all that is needed to believe it.
type signedBundle struct {
	artifacts.Bundle
	maker, pinned *x509.Certificate
	now           time.Time
}

const benchSerial = "BENCH-1"

// newSignedBundle makes a bundle with keys of one kind: a voucher of a signer under the maker's root, and an owner two
// certificates below the pinned one.
func newSignedBundle(key pki.KeyType) (*signedBundle, error) {
	maker, err := pki.Root(pki.Profile{CommonName: "Bench Silicon Root CA", Key: key})
	if err != nil {
		return nil, err
	}
	masa, err := maker.Issue(pki.Profile{CommonName: "Bench Silicon MASA", Key: key})
	if err != nil {
		return nil, err
	}
	root, err := pki.Root(pki.Profile{CommonName: "Bench Owner Root CA", Key: key})
	if err != nil {
		return nil, err
	}
	issuing, err := root.Issue(pki.Profile{CommonName: "Bench Owner Issuing CA", CA: true, Key: key})
	if err != nil {
		return nil, err
	}
	owner, err := issuing.Issue(pki.Profile{CommonName: "Bench Owner", Key: key})
	if err != nil {
		return nil, err
	}
	s := &signedBundle{maker: maker.Certificate, pinned: root.Certificate, now: time.Now()}
	document, err := artifact.Onboarding{Handling: "merge", Configuration: bytes.Repeat([]byte("set\n"), 1024)}.JSON()
	if err != nil {
		return nil, err
	}
	if s.ConveyedInformation, err = artifact.Signed(document, owner); err != nil {
		return nil, err
	}
	if s.OwnerCertificate, err = artifact.OwnerCertificate(owner, root.Certificate); err != nil {
		return nil, err
	}
	s.OwnershipVoucher, err = artifact.Voucher{CreatedOn: s.now.Add(-time.Minute), ExpiresOn: s.now.Add(time.Hour),
		Assertion: "verified", SerialNumber: benchSerial, Pinned: root.Certificate}.Sign(masa)
	return s, err
}

func (s *signedBundle) validate() error {
	conveyed, _, err := artifacts.Validate(s.Bundle, nil, artifacts.Device{SerialNumber: benchSerial}, artifacts.Policy{
		VoucherAnchors: []*x509.Certificate{s.maker},
		Clock:          artifacts.Clock{Now: s.now, Confidence: artifacts.ClockRTC},
	})
	if err == nil && !conveyed.Signed {
		err = errors.New("not signed")
	}
	return err
}

// verifyWithPKCS7 verifies the two signatures and their paths. It reads neither the voucher nor the conveyed information,
// and is told what the voucher pins.
func (s *signedBundle) verifyWithPKCS7() error {
	voucher, err := pkcs7.Parse(s.OwnershipVoucher)
	if err != nil {
		return err
	}
	if err := voucher.VerifyWithChainAtTime(pool(s.maker), s.now); err != nil {
		return err
	}
	owner, err := pkcs7.Parse(s.OwnerCertificate)
	if err != nil {
		return err
	}
	conveyed, err := pkcs7.Parse(s.ConveyedInformation)
	if err != nil {
		return err
	}
	conveyed.Certificates = owner.Certificates
	return conveyed.VerifyWithChainAtTime(pool(s.pinned), s.now)
}

// opensslBundle is a bundle that OpenSSL verifies, with its trust anchors.
type opensslBundle struct {
	*signedBundle
	maker, owner *libcrypto.Verifier
}

func (s *signedBundle) openssl() (*opensslBundle, error) {
	maker, err := libcrypto.New(libcrypto.Options{Anchors: []*x509.Certificate{s.maker}, Time: s.now})
	if err != nil {
		return nil, err
	}
	owner, err := libcrypto.New(libcrypto.Options{Anchors: []*x509.Certificate{s.pinned}, Time: s.now})
	if err != nil {
		maker.Close()
		return nil, err
	}
	return &opensslBundle{signedBundle: s, maker: maker, owner: owner}, nil
}

// verify does what verifyWithPKCS7 does.
func (o *opensslBundle) verify() error {
	if _, err := o.maker.Verify(o.OwnershipVoucher, nil); err != nil {
		return err
	}
	_, err := o.owner.Verify(o.ConveyedInformation, o.OwnerCertificate)
	return err
}

func (o *opensslBundle) close() {
	o.maker.Close()
	o.owner.Close()
}

func hundredths(x float64) float64 { return math.Round(x*100) / 100 }

func pool(root *x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(root)
	return p
}
