package tpm_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/tpm"
)

// TestCertificateFile has all kinds of things in the file beside the certificate, before and after it.
func TestCertificateFile(t *testing.T) {
	key, ca := newP256(t), newAuthority(t)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	keyFile := writeFile(t, pemOf("PRIVATE KEY", keyDER))
	leaf, issuer, root := ca.device(key.Public(), "SN1").Raw, ca.issuer.Raw, ca.root.Raw
	stranger := ca.device(newP256(t).Public(), "SN2").Raw
	var strangers [][]byte
	for range 64 { // which differ by their serial numbers
		strangers = append(strangers, ca.device(ca.key.Public(), "SN3").Raw)
	}
	cat := func(parts ...[]byte) []byte { return slices.Concat(parts...) }
	// A certificate of the right issuer's name, whose key is another.
	impostor := ca.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "Maker Device CA"}, IsCA: true, BasicConstraintsValid: true},
		ca.root, newP256(t).Public(), ca.rootKey).Raw
	for name, test := range map[string]struct {
		content  []byte
		chain    int // certificates, or 0 when the device's own is not found
		code     tpm.Code
		mentions []string
	}{
		"pem":                      {pemOf("CERTIFICATE", leaf, issuer, root), 3, "", nil},
		"pem-in-other-order":       {pemOf("CERTIFICATE", root, leaf, issuer), 3, "", nil},
		"pem-after-other-things":   {cat([]byte("subject=x\n"), pemOf("EC PARAMETERS", []byte{6, 1, 0x2a}), pemOf("CERTIFICATE", leaf)), 1, "", nil},
		"pem-between-other-things": {cat(pemOf("CERTIFICATE", leaf), pemOf("X509 CRL", leaf), pemOf("CERTIFICATE", issuer)), 2, "", nil},
		"pem-of-other-things":      {pemOf("X509 CRL", leaf), 0, tpm.CodeCertificateMissing, nil},
		"pem-damaged-before":       {pemOf("CERTIFICATE", []byte{0x30, 0}, leaf), 0, tpm.CodeCertificateMissing, []string{"malformed"}},
		"pem-damaged-after":        {pemOf("CERTIFICATE", leaf, []byte{0x30, 0}), 1, "", nil},
		"der":                      {leaf, 1, "", nil},
		"der-and-chain":            {cat(leaf, issuer, root), 3, "", nil},
		"der-and-garbage":          {cat(leaf, []byte("garbage")), 1, "", nil},
		"der-cut-after":            {cat(leaf, issuer[:100]), 1, "", nil},
		"der-cut":                  {leaf[:100], 0, tpm.CodeCertificateMissing, []string{"ends in the middle"}},
		"der-damaged":              {[]byte{0x30, 0}, 0, tpm.CodeCertificateMissing, []string{"malformed"}},
		"the-same-twice":           {cat(leaf, issuer, leaf, issuer), 2, "", nil},
		"issuer-missing":           {cat(leaf, root), 1, "", nil},
		"issuer-of-another-key":    {cat(leaf, impostor, root), 1, "", nil},
		"impostor-before-issuer":   {cat(leaf, impostor, issuer, root), 3, "", nil},
		"empty":                    {nil, 0, tpm.CodeCertificateMissing, nil},
		"text":                     {[]byte("no certificate"), 0, tpm.CodeCertificateMissing, []string{"does not hold a certificate"}},
		"never-written":            {bytes.Repeat([]byte{0xff}, 100), 0, tpm.CodeCertificateMissing, []string{"never written"}},
		"zeros":                    {make([]byte, 100), 0, tpm.CodeCertificateMissing, []string{"never written"}},
		"63-strangers-first":       {cat(cat(strangers[:63]...), leaf), 1, "", nil},
		"64-strangers-first":       {cat(cat(strangers...), leaf), 0, tpm.CodeMismatch, []string{"and 61 more"}},
		"63-strangers-first-pem":   {pemOf("CERTIFICATE", append(slices.Clone(strangers[:63]), leaf)...), 1, "", nil},
		"64-strangers-first-pem":   {pemOf("CERTIFICATE", append(slices.Clone(strangers), leaf)...), 0, tpm.CodeMismatch, []string{"and 61 more"}},
		"stranger":                 {stranger, 0, tpm.CodeMismatch, []string{"Model X"}},
		"four-strangers":           {cat(strangers[:4]...), 0, tpm.CodeMismatch, []string{"and 1 more"}},
		"only-the-chain":           {cat(issuer, root), 0, tpm.CodeMismatch, []string{"Maker Device CA", "Maker Root CA"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := writeFile(t, test.content)
			id, err := tpm.Open(t.Context(), tpm.Options{Key: keyFile, Certificate: file})
			if test.chain == 0 {
				wantCode(t, err, test.code, append(test.mentions, file)...)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := []string{"Model X", "Maker Device CA", "Maker Root CA"}[:test.chain]
			if diff := cmp.Diff(want, names(id.Chain)); diff != "" || id.SerialNumber != "SN1" {
				t.Errorf("serial number %s, chain (-want +got):\n%s", id.SerialNumber, diff)
			}
		})
	}
}

// TestLongChains sends as many certificates as servers read, and ends where an authority issued itself.
func TestLongChains(t *testing.T) {
	key, ca := newP256(t), newAuthority(t)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	issuer, issuerKey := ca.root, ca.rootKey
	all := [][]byte{issuer.Raw}
	for i := range 9 {
		next := newP256(t)
		issuer = ca.sign(&x509.Certificate{Subject: pkix.Name{CommonName: string(rune('A' + i))}, IsCA: true, BasicConstraintsValid: true},
			issuer, next.Public(), issuerKey)
		issuerKey = next
		all = append(all, issuer.Raw)
		leaf := ca.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "Model X", SerialNumber: "SN1"}, NotBefore: time.Unix(0, 0)}, issuer,
			key.Public(), issuerKey)
		id, err := tpm.Open(t.Context(), tpm.Options{Key: writeFile(t, pemOf("PRIVATE KEY", keyDER)),
			Certificate: writeFile(t, slices.Concat(leaf.Raw, slices.Concat(all...)))})
		if err != nil {
			t.Fatal(err)
		}
		if want := min(len(all)+1, 10); len(id.Chain) != want {
			t.Errorf("%d certificates above the device's: sends %d, want %d", len(all), len(id.Chain), want)
		}
	}
}

// TestCertificateIndexBounds tells NV indices from other handles.
func TestCertificateIndexBounds(t *testing.T) {
	sim := startSimulator(t)
	if _, err := (tpm.Factory{TPM: sim.path}).CreateIDevID(t.Context(), tpm.P256, tpm.IDevIDHandle); err != nil {
		t.Fatal(err)
	}
	for index, why := range map[string]string{
		"0x00FFFFFF": "is not an NV index", "0x01000000": "the TPM has no NV index 0x01000000",
		"0x01FFFFFF": "the TPM has no NV index 0x01FFFFFF", "0x02000000": "is not an NV index",
	} {
		_, err := tpm.Open(t.Context(), tpm.Options{TPM: sim.path, Certificate: index})
		wantCode(t, err, tpm.CodeCertificateMissing, index, why)
	}
}
