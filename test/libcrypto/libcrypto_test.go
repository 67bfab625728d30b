package libcrypto_test

import (
	"bytes"
	"crypto/x509"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/test/lab/artifact"
	"github.com/xpu-sztp/ztp/test/lab/pki"
	"github.com/xpu-sztp/ztp/test/libcrypto"
)

func TestVerify(t *testing.T) {
	root, err := pki.Root(pki.Profile{CommonName: "root"})
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := pki.Root(pki.Profile{CommonName: "stranger"})
	if err != nil {
		t.Fatal(err)
	}
	signer, err := root.Issue(pki.Profile{CommonName: "signer"})
	if err != nil {
		t.Fatal(err)
	}
	document := []byte("{}")
	der, err := artifact.Signed(document, signer)
	if err != nil {
		t.Fatal(err)
	}
	owner, err := artifact.OwnerCertificate(signer, root.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	certs := func(list ...*x509.Certificate) []*x509.Certificate { return list }
	changed := bytes.Clone(der)
	changed[len(changed)-1] ^= 1
	for name, test := range map[string]struct {
		options    libcrypto.Options
		der, other []byte
		good       bool
	}{
		"signature":               {libcrypto.Options{Certificates: certs(signer.Certificate)}, der, nil, true},
		"signature-changed":       {libcrypto.Options{Certificates: certs(signer.Certificate)}, changed, nil, false},
		"path":                    {libcrypto.Options{Anchors: certs(root.Certificate), Certificates: certs(signer.Certificate), Time: now}, der, nil, true},
		"path-of-other":           {libcrypto.Options{Anchors: certs(root.Certificate), Time: now}, der, owner, true},
		"path-to-a-stranger":      {libcrypto.Options{Anchors: certs(stranger.Certificate), Time: now}, der, owner, false},
		"path-at-another-time":    {libcrypto.Options{Anchors: certs(root.Certificate), Time: time.Unix(0, 0)}, der, owner, false},
		"no-certificate":          {libcrypto.Options{Anchors: certs(root.Certificate), Time: now}, der, nil, false},
		"other-is-no-certificate": {libcrypto.Options{}, der, []byte{5, 0}, false},
		"nothing":                 {libcrypto.Options{}, nil, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := libcrypto.New(test.options)
			if err != nil {
				t.Fatal(err)
			}
			defer v.Close()
			got, err := v.Verify(test.der, test.other)
			if (err == nil) != test.good || test.good && !bytes.Equal(got, document) {
				t.Errorf("content %q, %v", got, err)
			}
		})
	}
}
