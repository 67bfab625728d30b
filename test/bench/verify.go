package main

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/smallstep/pkcs7"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/test/lab/artifact"
	"github.com/xpu-sztp/ztp/test/lab/pki"
)

const (
	verifications = 300
	maxAllocs     = 1000 // of one verification; it does not depend on the machine
)

// verifyCost measures how long it takes to validate signed data, from bytes to onboarding information: three CMS
// messages, the voucher's signature and path, the owner's path and signature. Beside it stands what smallstep/pkcs7 takes
// for the cryptographic part of the same, on the same bytes, also in process.
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
		name := "verify-bundle-" + string(key)
		figures = append(figures, figure{name, ours.microseconds, "microseconds", noLimit},
			figure{name + "-pkcs7", theirs.microseconds, "microseconds", noLimit})
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

func pool(root *x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(root)
	return p
}
