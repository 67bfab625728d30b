package cms_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"testing"

	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
)

// TestOAEPParameters holds the parameters against RFC 4055 §4.1, over a key that was wrapped by what they should say.
func TestOAEPParameters(t *testing.T) {
	w := shared()
	device := w.IssueKey([]string{"rsa:2048"}, w.root, "/CN=RSA device")
	key := make([]byte, 16)
	const mgf1, specified = "1.2.840.113549.1.1.8", "1.2.840.113549.1.1.9"
	sequence := func(parts ...[]byte) []byte { return element(asn1.SEQUENCE, parts...) }
	sha1 := sequence(oidDER("1.3.14.3.2.26"), []byte{5, 0})
	sha256 := hashOID(crypto.SHA256, nil)
	hash := func(algorithms ...[]byte) []byte { return element(0xa0, algorithms...) }
	mgf := func(oid string, hash ...[]byte) []byte {
		return element(0xa1, sequence(append([][]byte{oidDER(oid)}, hash...)...))
	}
	label := func(oid string, parts ...[]byte) []byte {
		return element(0xa2, sequence(append([][]byte{oidDER(oid)}, parts...)...))
	}
	both := rsa.OAEPOptions{Hash: crypto.SHA256, MGFHash: crypto.SHA256}
	labelled := rsa.OAEPOptions{Hash: crypto.SHA1, Label: []byte("abc")}
	for name, test := range map[string]struct {
		options rsa.OAEPOptions
		params  []byte
		want    error
	}{
		"default":              {rsa.OAEPOptions{Hash: crypto.SHA1}, sequence(), nil},
		"no-parameters":        {rsa.OAEPOptions{Hash: crypto.SHA1}, nil, nil},
		"null":                 {rsa.OAEPOptions{Hash: crypto.SHA1}, []byte{5, 0}, cms.ErrMalformed},
		"default-written":      {rsa.OAEPOptions{Hash: crypto.SHA1}, sequence(hash(sha1), mgf(mgf1, sha1), label(specified, octets(nil))), nil},
		"sha1-with-parameters": {rsa.OAEPOptions{Hash: crypto.SHA1}, sequence(hash(sequence(oidDER("1.3.14.3.2.26"), octets(nil)))), cms.ErrMalformed},
		"sha256":               {both, sequence(hash(sha256), mgf(mgf1, sha256)), nil},
		"sha256-hash-only":     {rsa.OAEPOptions{Hash: crypto.SHA256, MGFHash: crypto.SHA1}, sequence(hash(sha256)), nil},
		"sha256-mgf-only":      {rsa.OAEPOptions{Hash: crypto.SHA1, MGFHash: crypto.SHA256}, sequence(mgf(mgf1, sha256)), nil},
		"other-hash":           {both, sequence(hash(hashOID(crypto.SHA384, nil)), mgf(mgf1, sha256)), cms.ErrDecrypt},
		"other-mgf":            {both, sequence(hash(sha256), mgf(mgf1, hashOID(crypto.SHA384, nil))), cms.ErrDecrypt},
		"hash-empty":           {both, sequence(hash(), mgf(mgf1, sha256)), cms.ErrMalformed},
		"hash-twice":           {both, sequence(hash(sha256, sha256), mgf(mgf1, sha256)), cms.ErrMalformed},
		"hash-unknown":         {both, sequence(hash(sequence(oidDER(typeVoucher))), mgf(mgf1, sha256)), cms.ErrUnsupported},
		"mgf-empty":            {both, sequence(hash(sha256), element(0xa1)), cms.ErrMalformed},
		"mgf-unknown":          {both, sequence(hash(sha256), mgf(typeVoucher, sha256)), cms.ErrMalformed},
		"mgf-of-no-hash":       {both, sequence(hash(sha256), mgf(mgf1)), cms.ErrMalformed},
		"mgf-of-unknown-hash":  {both, sequence(hash(sha256), mgf(mgf1, sequence(oidDER(typeVoucher)))), cms.ErrUnsupported},
		"label":                {labelled, sequence(label(specified, octets([]byte("abc")))), nil},
		"label-not-said":       {labelled, sequence(), cms.ErrDecrypt},
		"label-other":          {labelled, sequence(label(specified, octets([]byte("abd")))), cms.ErrDecrypt},
		"label-empty":          {labelled, sequence(element(0xa2)), cms.ErrMalformed},
		"label-not-octets":     {labelled, sequence(label(specified, element(asn1.UTF8String, []byte("abc")))), cms.ErrMalformed},
		"label-of-other-kind":  {labelled, sequence(label(typeVoucher, octets([]byte("abc")))), cms.ErrMalformed},
		"one-field-more":       {both, sequence(hash(sha256), mgf(mgf1, sha256), label(specified, octets(nil)), element(0xa3)), cms.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			wrapped, err := rsa.EncryptOAEPWithOptions(rand.Reader, device.Certificate.PublicKey.(*rsa.PublicKey), key, &test.options)
			if err != nil {
				t.Fatal(err)
			}
			// As in TestNoPaddingOracle, the plaintext is a structure, which a random key's never is.
			e := transported{device: device, algorithm: sequence(oidDER("1.2.840.113549.1.1.7"), test.params), wrapped: wrapped,
				cipher: aes128CBC, params: octets(make([]byte, 16)), typ: "1.2.840.113549.1.7.2",
				encrypted: encryptCBC(t, key, make([]byte, 16), opensslpki.Data(typeJSON, content))}
			m, err := open(t, e.build(t), recipient(t, device))
			if !errors.Is(err, test.want) || err == nil && !bytes.Equal(m.Data, content) {
				t.Errorf("Open: %v, want %v", err, test.want)
			}
		})
	}
}

// decrypter is an RSA key, as other implementations of one are: it may ignore what it is asked for.
type decrypter struct {
	asked crypto.DecrypterOpts
	key   []byte
}

func (*decrypter) Public() crypto.PublicKey { return nil }

func (d *decrypter) Decrypt(_ io.Reader, _ []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	d.asked = opts
	return d.key, nil
}

// TestTransportedKeySize asks keys for no more than a key of the content's cipher, with which a bad padding does not show, and
// takes no other from them.
func TestTransportedKeySize(t *testing.T) {
	w := shared()
	device := w.IssueKey([]string{"rsa:2048"}, w.root, "/CN=RSA device")
	iv := make([]byte, 16)
	for _, key := range [][]byte{make([]byte, 16), make([]byte, 24), make([]byte, 32)} {
		encrypted := encryptCBC(t, key, iv, opensslpki.Data(typeJSON, content))
		for size, cipher := range map[int]string{16: aes128CBC, 24: "2.16.840.1.101.3.4.1.22", 32: "2.16.840.1.101.3.4.1.42"} {
			der := transported{device: device, wrapped: make([]byte, 256), cipher: cipher, params: octets(iv), typ: "1.2.840.113549.1.7.2",
				encrypted: encrypted}.build(t)
			d := &decrypter{key: key}
			m, err := open(t, der, cms.Recipient{Certificate: device.Certificate, Decrypter: d})
			if fits := len(key) == size; fits != (err == nil) || !fits && err != cms.ErrDecrypt {
				t.Errorf("a key of %d bytes for one of %d: %+v, %v", len(key), size, m, err)
			}
			//lint:ignore SA1019 what others encrypted this way must be read
			if o, ok := d.asked.(*rsa.PKCS1v15DecryptOptions); !ok || o.SessionKeyLen != size {
				t.Errorf("asked for %+v", d.asked)
			}
		}
	}
}
