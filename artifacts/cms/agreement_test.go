package cms_test

import (
	"bytes"
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math/big"
	"slices"
	"testing"

	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
)

// agreed makes an EnvelopedData, by key agreement with X9.63 and SHA-256, AES-128 key wrap and AES-128 in CBC mode, with
// what the openssl command does not write. The zero values are right.
type agreed struct {
	device     *opensslpki.Entity
	ukm        []byte
	originator []byte // default: the ephemeral key
	point      []byte // default: that of the ephemeral key
	curve      []byte // parameters of the ephemeral key's algorithm
	keyType    string // default: id-ecPublicKey
	recipient  []byte // default: issuer and serial number
	extra      []byte // recipients that come first
	scheme     string // default: dhSinglePass-stdDH-sha256kdf-scheme
	wrapped    []byte // the encrypted key; default: that of the content, wrapped
	wrap       []byte // algorithm of the key wrap; default: that for AES-128
	check      byte   // what the key wrap begins with, eight times; default: 0xa6
	size       int    // of the content's key; default: 16, for AES-128
	secret     []byte // default: what the keys agree on
	copies     []int  // of the recipient in each of several agreements; default: one in one
}

func (a agreed) build(t testing.TB) []byte {
	t.Helper()
	ephemeral, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := a.device.Certificate.PublicKey.(*ecdsa.PublicKey).ECDH()
	if err != nil {
		t.Fatal(err)
	}
	secret, err := ephemeral.ECDH(public)
	if err != nil {
		t.Fatal(err)
	}
	if a.secret != nil {
		secret = a.secret
	}
	context := func(n asn1.Tag, parts ...[]byte) []byte { return element(n.ContextSpecific().Constructed(), parts...) }
	if a.wrap == nil {
		a.wrap = element(asn1.SEQUENCE, oidDER("2.16.840.1.101.3.4.1.5"))
	}
	var ukm []byte
	if a.ukm != nil {
		ukm = octets(a.ukm)
	}
	info := slices.Concat(secret, []byte{0, 0, 0, 1})
	if ukm != nil {
		info = append(info, element(asn1.SEQUENCE, a.wrap, context(0, ukm), context(2, octets([]byte{0, 0, 0, 128})))...)
		ukm = context(1, ukm)
	} else {
		info = append(info, element(asn1.SEQUENCE, a.wrap, context(2, octets([]byte{0, 0, 0, 128})))...)
	}
	kek := sha256.Sum256(info)
	if a.point == nil {
		a.point = ephemeral.PublicKey().Bytes()
	}
	if a.keyType == "" {
		a.keyType = "1.2.840.10045.2.1"
	}
	if a.originator == nil {
		a.originator = context(1, element(asn1.SEQUENCE, oidDER(a.keyType), a.curve), element(asn1.BIT_STRING, []byte{0}, a.point))
	}
	if a.recipient == nil {
		a.recipient = element(asn1.SEQUENCE, a.device.Certificate.RawIssuer, integer(a.device.Certificate))
	}
	if a.scheme == "" {
		a.scheme = "1.3.132.1.11.1"
	}
	key, iv := make([]byte, cmp.Or(a.size, 16)), make([]byte, 16)
	rand.Read(key)
	rand.Read(iv)
	if a.wrapped == nil {
		a.wrapped = wrapAES(t, cmp.Or(a.check, 0xa6), kek[:16], key)
	}
	if a.copies == nil {
		a.copies = []int{1}
	}
	agreements := a.extra
	for _, n := range a.copies {
		agreements = append(agreements, context(1, []byte{2, 1, 3}, context(0, a.originator), ukm, element(asn1.SEQUENCE, oidDER(a.scheme), a.wrap),
			element(asn1.SEQUENCE, bytes.Repeat(element(asn1.SEQUENCE, a.recipient, octets(a.wrapped)), n)))...)
	}
	inner := element(asn1.SEQUENCE, []byte{2, 1, 2}, element(asn1.SET, agreements),
		element(asn1.SEQUENCE, oidDER(typeData), element(asn1.SEQUENCE, oidDER("2.16.840.1.101.3.4.1.2"), octets(iv)),
			element(asn1.Tag(0).ContextSpecific(), encryptCBC(t, key, iv, content))))
	return opensslpki.ContentInfo("1.2.840.113549.1.7.3", addBytes(inner))
}

func encryptCBC(t testing.TB, key, iv, plaintext []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	n := aes.BlockSize - len(plaintext)%aes.BlockSize
	padded := append(bytes.Clone(plaintext), bytes.Repeat([]byte{byte(n)}, n)...)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(padded, padded)
	return padded
}

// wrapAES is RFC 3394 §2.2.1 as its index-based description has it.
func wrapAES(t testing.TB, check byte, kek, key []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(kek)
	if err != nil {
		t.Fatal(err)
	}
	n := len(key) / 8
	out := append(bytes.Repeat([]byte{check}, 8), key...)
	for j := range 6 {
		for i := 1; i <= n; i++ {
			b := slices.Concat(out[:8], out[8*i:8*i+8])
			block.Encrypt(b, b)
			binary.BigEndian.PutUint64(out, binary.BigEndian.Uint64(b)^uint64(n*j+i))
			copy(out[8*i:], b[8:])
		}
	}
	return out
}

func TestKeyAgreementForms(t *testing.T) {
	w := shared()
	device := w.curve("P-256")
	id := device.Certificate.SubjectKeyId
	tagged := func(n asn1.Tag, parts ...[]byte) []byte { return element(n.ContextSpecific().Constructed(), parts...) }
	sender := element(asn1.SEQUENCE, w.signer.Certificate.RawIssuer, integer(w.signer.Certificate))
	time := element(asn1.GeneralizedTime, []byte("20250101000000Z"))
	other := element(asn1.SEQUENCE, oidDER(typeVoucher))
	p256, p384 := oidDER("1.2.840.10045.3.1.7"), oidDER("1.3.132.0.34")
	params := elliptic.P256().Params()
	offCurve := slices.Concat([]byte{4}, params.Gx.FillBytes(make([]byte, 32)), new(big.Int).Add(params.Gy, big.NewInt(1)).FillBytes(make([]byte, 32)))
	for name, test := range map[string]struct {
		agreed
		want    error
		openssl bool // reads it as well
	}{
		"plain":                 {agreed{}, nil, true},
		"keying-material":       {agreed{ukm: []byte("user keying material")}, nil, true},
		"no-keying-material":    {agreed{ukm: []byte{}}, nil, true},
		"curve-named":           {agreed{curve: p256}, nil, true},
		"curve-null":            {agreed{curve: []byte{5, 0}}, nil, true},
		"other-curve-named":     {agreed{curve: p384}, cms.ErrUnsupported, false},
		"key-of-another-type":   {agreed{keyType: "1.2.840.113549.1.1.1"}, cms.ErrUnsupported, false},
		"sender-by-serial":      {agreed{originator: sender}, cms.ErrUnsupported, false},
		"sender-by-key":         {agreed{originator: element(asn1.Tag(0).ContextSpecific(), id)}, cms.ErrUnsupported, false},
		"sender-by-two":         {agreed{originator: slices.Concat(sender, sender)}, cms.ErrMalformed, false},
		"sender-by-nothing":     {agreed{originator: []byte{5, 0}}, cms.ErrMalformed, false},
		"key-identifier":        {agreed{recipient: tagged(0, octets(id))}, nil, true},
		"key-identifier-dated":  {agreed{recipient: tagged(0, octets(id), time, other)}, nil, true},
		"key-identifier-more":   {agreed{recipient: tagged(0, octets(id), octets(id))}, cms.ErrMalformed, false},
		"key-identifier-empty":  {agreed{recipient: tagged(0)}, cms.ErrMalformed, false},
		"other-key-identifier":  {agreed{recipient: tagged(0, octets(id[1:]))}, cms.ErrNotRecipient, false},
		"scheme-of-other-hash":  {agreed{scheme: "1.3.132.1.11.2"}, cms.ErrDecrypt, false},
		"unknown-scheme":        {agreed{scheme: "1.3.132.1.15.1"}, cms.ErrUnsupported, false},
		"wrapped-nothing":       {agreed{wrapped: []byte{}}, cms.ErrDecrypt, false},
		"wrapped-7-bytes":       {agreed{wrapped: make([]byte, 7)}, cms.ErrDecrypt, false},
		"wrapped-8-bytes":       {agreed{wrapped: make([]byte, 8)}, cms.ErrDecrypt, false},
		"wrapped-16-bytes":      {agreed{wrapped: make([]byte, 16)}, cms.ErrDecrypt, false},
		"wrapped-24-bytes":      {agreed{wrapped: make([]byte, 24)}, cms.ErrDecrypt, false},
		"wrapped-25-bytes":      {agreed{wrapped: make([]byte, 25)}, cms.ErrDecrypt, false},
		"wrapped-a-megabyte":    {agreed{wrapped: make([]byte, 1<<20)}, cms.ErrDecrypt, false},
		"wrapped-otherwise":     {agreed{check: 0xa5}, cms.ErrDecrypt, false},
		"wrapped-key-of-aes256": {agreed{size: 32}, cms.ErrDecrypt, false},
		"wrapped-key-of-aes192": {agreed{size: 24}, cms.ErrDecrypt, false},
		"wrap-unknown":          {agreed{wrap: element(asn1.SEQUENCE, oidDER(typeVoucher))}, cms.ErrUnsupported, false},
		"wrap-null":             {agreed{wrap: element(asn1.SEQUENCE, oidDER("2.16.840.1.101.3.4.1.5"), []byte{5, 0})}, nil, false},
		"wrap-other-parameter":  {agreed{wrap: element(asn1.SEQUENCE, oidDER("2.16.840.1.101.3.4.1.5"), octets(nil))}, cms.ErrMalformed, false},
		"wrap-twice":            {agreed{wrap: bytes.Repeat(element(asn1.SEQUENCE, oidDER("2.16.840.1.101.3.4.1.5")), 2)}, cms.ErrMalformed, false},
		"wrap-not-algorithm":    {agreed{wrap: octets(nil)}, cms.ErrMalformed, false},
		"wrap-larger-key":       {agreed{wrap: element(asn1.SEQUENCE, oidDER("2.16.840.1.101.3.4.1.45"))}, cms.ErrDecrypt, false},
		"recipient-not-keyed":   {agreed{recipient: octets(id)}, cms.ErrMalformed, false},
		"second-agreement":      {agreed{copies: []int{0, 1}}, nil, true},
		"other-kinds":           {agreed{extra: slices.Concat(tagged(2), tagged(3), tagged(4))}, nil, false},
		"no-known-kind":         {agreed{extra: tagged(5)}, cms.ErrMalformed, false},

		// An invalid point would make the device compute with its key on a curve of the sender's choice.
		"off-the-curve":     {agreed{point: offCurve}, cms.ErrDecrypt, false},
		"infinity":          {agreed{point: []byte{0}}, cms.ErrDecrypt, false},
		"infinity-in-full":  {agreed{point: make([]byte, 65)}, cms.ErrDecrypt, false},
		"zero":              {agreed{point: append([]byte{4}, make([]byte, 64)...)}, cms.ErrDecrypt, false},
		"compressed":        {agreed{point: elliptic.MarshalCompressed(elliptic.P256(), params.Gx, params.Gy)}, cms.ErrDecrypt, false},
		"hybrid":            {agreed{point: slices.Concat([]byte{6}, offCurve[1:])}, cms.ErrDecrypt, false},
		"of-another-curve":  {agreed{point: append([]byte{4}, make([]byte, 96)...)}, cms.ErrDecrypt, false},
		"not-reduced":       {agreed{point: append([]byte{4}, bytes.Repeat([]byte{0xff}, 64)...)}, cms.ErrDecrypt, false},
		"empty-point":       {agreed{point: []byte{}}, cms.ErrDecrypt, false},
		"point-of-megabyte": {agreed{point: make([]byte, 1<<20)}, cms.ErrDecrypt, false},
	} {
		t.Run(name, func(t *testing.T) {
			test.device = device
			der := test.build(t)
			m, err := cms.Parse(der)
			if err == nil {
				m, err = m.Enveloped.Open(recipient(t, device))
			}
			if !errors.Is(err, test.want) || err == nil && !bytes.Equal(m.Data, content) {
				t.Errorf("Open: %v, want %v", err, test.want)
			}
			if test.want == cms.ErrDecrypt && err != cms.ErrDecrypt {
				t.Errorf("%v says more than that decryption failed", err)
			}
			theirs, err := w.Try("cms", "-decrypt", "-binary", "-inform", "DER", "-in", w.Write(der), "-recip", device.CertFile, "-inkey", device.KeyFile)
			if test.openssl && (err != nil || !bytes.Equal(theirs, content)) {
				t.Errorf("OpenSSL does not decrypt it: %v", err)
			}
		})
	}
}

// TestFailedAgreement has a key refuse to agree, and a sender who guessed that: nothing that anybody knows is a secret.
func TestFailedAgreement(t *testing.T) {
	device := shared().curve("P-256")
	der := agreed{device: device, secret: []byte{}}.build(t)
	if m, err := open(t, der, cms.Recipient{Certificate: device.Certificate, KeyAgreement: refusingKey{}}); err != cms.ErrDecrypt {
		t.Errorf("Open: %+v, %v", m, err)
	}
}

type refusingKey struct{}

func (refusingKey) ECDH(*ecdh.PublicKey) ([]byte, error) { return nil, errors.New("refused") }

// TestKeyOfOtherKind has recipients whose key is not one that can do what the sender asks for.
func TestKeyOfOtherKind(t *testing.T) {
	w := shared()
	device := w.curve("P-256")
	agreement := recipient(t, device).KeyAgreement
	rsa := w.IssueKey([]string{"rsa:2048"}, w.root, "/CN=RSA device")
	der := agreed{device: device, recipient: element(asn1.SEQUENCE, rsa.Certificate.RawIssuer, integer(rsa.Certificate))}.build(t)
	if _, err := open(t, der, cms.Recipient{Certificate: rsa.Certificate, KeyAgreement: agreement}); !errors.Is(err, cms.ErrUnsupported) {
		t.Errorf("Open: %v", err)
	}
}
