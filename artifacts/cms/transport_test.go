package cms_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"math/big"
	"slices"
	"testing"

	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
)

// transported makes an EnvelopedData or AuthEnvelopedData by RSA key transport with faults of every part.
type transported struct {
	device    *opensslpki.Entity
	algorithm []byte // of the key transport; default: PKCS #1 v1.5
	wrapped   []byte // the encrypted key; default: key, encrypted with PKCS #1 v1.5
	key       []byte // of the content encryption
	cipher    string
	params    []byte
	encrypted []byte
	typ       string // default: id-data
	attrs     []byte // authenticated attributes
	tag       []byte // nil makes an EnvelopedData
	version   byte
	unread    []byte // unprotected attributes
	sender    []byte // originator information

	recipients int // the same, so often; default: 1
}

func (e transported) build(t testing.TB) []byte {
	t.Helper()
	if e.typ == "" {
		e.typ = typeData
	}
	public := e.device.Certificate.PublicKey.(*rsa.PublicKey)
	if e.wrapped == nil {
		var err error
		//lint:ignore SA1019 what others encrypted this way must be read
		if e.wrapped, err = rsa.EncryptPKCS1v15(rand.Reader, public, e.key); err != nil {
			t.Fatal(err)
		}
	}
	if e.algorithm == nil {
		e.algorithm = element(asn1.SEQUENCE, oidDER("1.2.840.113549.1.1.1"), []byte{5, 0})
	}
	recipient := element(asn1.SEQUENCE, []byte{2, 1, 0}, element(asn1.SEQUENCE, e.device.Certificate.RawIssuer, integer(e.device.Certificate)),
		e.algorithm, octets(e.wrapped))
	recipient = bytes.Repeat(recipient, max(1, e.recipients))
	parts := [][]byte{{2, 1, e.version}, e.sender, element(asn1.SET, recipient), element(asn1.SEQUENCE, oidDER(e.typ),
		element(asn1.SEQUENCE, oidDER(e.cipher), e.params), element(asn1.Tag(0).ContextSpecific(), e.encrypted))}
	if e.tag == nil {
		return opensslpki.ContentInfo("1.2.840.113549.1.7.3", addBytes(element(asn1.SEQUENCE, append(parts, e.unread)...)))
	}
	if e.attrs != nil {
		parts = append(parts, element(asn1.Tag(1).ContextSpecific().Constructed(), e.attrs))
	}
	parts = append(parts, octets(e.tag), e.unread)
	return opensslpki.ContentInfo("1.2.840.113549.1.9.16.1.23", addBytes(element(asn1.SEQUENCE, parts...)))
}

const (
	aes128CBC = "2.16.840.1.101.3.4.1.2"
	aes128GCM = "2.16.840.1.101.3.4.1.6"
)

// TestNoPaddingOracle has the wrapped key, its length, the padding of the content, or the content wrong: who sent it
// learns from the error only that it did not decrypt.
func TestNoPaddingOracle(t *testing.T) {
	w := shared()
	device := w.IssueKey([]string{"rsa:2048"}, w.root, "/CN=RSA device")
	public := device.Certificate.PublicKey.(*rsa.PublicKey)
	key, iv := make([]byte, 16), make([]byte, 16)
	rand.Read(key)
	// Plaintext of this label begins with a certain structure, which a random key's never does, though one in 256 ends with
	// what looks like padding.
	const label = "1.2.840.113549.1.7.2"
	good := encryptCBC(t, key, iv, opensslpki.Data(typeJSON, content))
	wrap := func(key []byte) []byte {
		//lint:ignore SA1019 what others encrypted this way must be read
		wrapped, err := rsa.EncryptPKCS1v15(rand.Reader, public, key)
		if err != nil {
			t.Fatal(err)
		}
		return wrapped
	}
	raw := func(padded ...byte) []byte { // a block that is not what PKCS #1 makes, as an attacker varies it
		return encryptRaw(public, append(padded, bytes.Repeat([]byte{1}, public.Size()-len(padded))...))
	}
	wrongPadding := func(last ...byte) []byte {
		block, err := aes.NewCipher(key)
		if err != nil {
			t.Fatal(err)
		}
		plaintext := append(bytes.Repeat([]byte{'x'}, 16-len(last)), last...)
		cipher.NewCBCEncrypter(block, iv).CryptBlocks(plaintext, plaintext)
		return plaintext
	}
	for name, e := range map[string]transported{
		"other-key":            {wrapped: wrap(iv), encrypted: good},
		"key-shorter":          {wrapped: wrap(key[:15]), encrypted: good},
		"key-longer":           {wrapped: wrap(append(bytes.Clone(key), 0)), encrypted: good},
		"key-of-aes256":        {wrapped: wrap(make([]byte, 32)), encrypted: good},
		"no-key":               {wrapped: wrap(nil), encrypted: good},
		"block-type-1":         {wrapped: raw(0, 1), encrypted: good},
		"block-type-2":         {wrapped: raw(0, 2), encrypted: good},
		"block-not-zero":       {wrapped: raw(1, 2), encrypted: good},
		"block-padding-short":  {wrapped: raw(0, 2, 1, 1, 0), encrypted: good},
		"wrapped-empty":        {wrapped: []byte{}, encrypted: good},
		"wrapped-short":        {wrapped: make([]byte, 255), encrypted: good},
		"wrapped-long":         {wrapped: make([]byte, 257), encrypted: good},
		"wrapped-over-modulus": {wrapped: bytes.Repeat([]byte{0xff}, 256), encrypted: good},
		"padding-zero":         {key: key, encrypted: wrongPadding(0)},
		"padding-17":           {key: key, encrypted: wrongPadding(17)},
		"padding-uneven":       {key: key, encrypted: wrongPadding(3, 2, 3)},
		"not-a-block":          {key: key, encrypted: good[:len(good)-1]},
		"no-content":           {key: key, encrypted: []byte{}},
		"sequence-of-nothing":  {key: key, encrypted: encryptCBC(t, key, iv, []byte{0x30, 0})},
		"sequence-too-long":    {key: key, encrypted: encryptCBC(t, key, iv, []byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff})},
	} {
		t.Run(name, func(t *testing.T) {
			e.device, e.typ, e.cipher, e.params = device, label, aes128CBC, octets(iv)
			if m, err := open(t, e.build(t), recipient(t, device)); err != cms.ErrDecrypt || m != nil {
				t.Errorf("Open: %+v, %v, want exactly %v", m, err, cms.ErrDecrypt)
			}
		})
	}
	e := transported{device: device, typ: label, cipher: aes128CBC, params: octets(iv), key: key, encrypted: good}
	if m, err := open(t, e.build(t), recipient(t, device)); err != nil || !bytes.Equal(m.Data, content) {
		t.Errorf("without a fault: %v", err)
	}
}

func TestContentEncryption(t *testing.T) {
	w := shared()
	device := w.IssueKey([]string{"rsa:2048"}, w.root, "/CN=RSA device")
	key, nonce := make([]byte, 16), make([]byte, 12)
	rand.Read(key)
	contentType := func(oid string) []byte { return attribute("1.2.840.113549.1.9.3", oidDER(oid)) }
	sequence := func(parts ...[]byte) []byte { return element(asn1.SEQUENCE, parts...) }
	size := func(n byte) []byte { return []byte{2, 1, n} }
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	// sealed encrypts with a tag of n bytes and attrs authenticated.
	sealed := func(n int, params, attrs []byte) transported {
		aead, err := cipher.NewGCMWithTagSize(block, n)
		if err != nil {
			t.Fatal(err)
		}
		var aad []byte
		if attrs != nil {
			aad = element(asn1.SET, attrs)
		}
		both := aead.Seal(nil, nonce, content, aad)
		return transported{cipher: aes128GCM, params: params, encrypted: both[:len(content)], tag: both[len(content):], attrs: attrs}
	}
	with := func(e transported, change func(*transported)) transported {
		change(&e)
		return e
	}
	params := sequence(octets(nonce), size(16))
	fine := sealed(16, params, nil)
	cbc := transported{cipher: aes128CBC, params: octets(make([]byte, 16)), encrypted: encryptCBC(t, key, make([]byte, 16), content)}
	for name, test := range map[string]struct {
		transported
		want error
	}{
		"gcm":                     {fine, nil},
		"gcm-tag-12-by-default":   {sealed(12, sequence(octets(nonce)), nil), nil},
		"gcm-tag-12-written":      {sealed(12, sequence(octets(nonce), size(12)), nil), nil},
		"gcm-tag-14":              {sealed(14, sequence(octets(nonce), size(14)), nil), nil},
		"gcm-tag-11":              {with(fine, func(e *transported) { e.params, e.tag = sequence(octets(nonce), size(11)), e.tag[:11] }), cms.ErrUnsupported},
		"gcm-tag-17":              {with(fine, func(e *transported) { e.params, e.tag = sequence(octets(nonce), size(17)), make([]byte, 17) }), cms.ErrUnsupported},
		"gcm-tag-empty":           {with(fine, func(e *transported) { e.params, e.tag = sequence(octets(nonce), size(0)), []byte{} }), cms.ErrUnsupported},
		"gcm-tag-cut":             {with(fine, func(e *transported) { e.tag = e.tag[:15] }), cms.ErrUnsupported},
		"gcm-tag-cut-and-said":    {with(fine, func(e *transported) { e.params, e.tag = sequence(octets(nonce), size(12)), e.tag[:12] }), nil},
		"gcm-tag-negative":        {with(fine, func(e *transported) { e.params = sequence(octets(nonce), size(0xf0)) }), cms.ErrUnsupported},
		"gcm-tag-wrong":           {with(fine, func(e *transported) { e.tag = make([]byte, 16) }), cms.ErrDecrypt},
		"gcm-nonce-short":         {with(fine, func(e *transported) { e.params = sequence(octets(nonce[:8]), size(16)) }), cms.ErrUnsupported},
		"gcm-nonce-long":          {with(fine, func(e *transported) { e.params = sequence(octets(make([]byte, 16)), size(16)) }), cms.ErrUnsupported},
		"gcm-nonce-empty":         {with(fine, func(e *transported) { e.params = sequence(octets(nil), size(16)) }), cms.ErrUnsupported},
		"gcm-no-parameters":       {with(fine, func(e *transported) { e.params = nil }), cms.ErrMalformed},
		"gcm-more-parameters":     {with(fine, func(e *transported) { e.params = sequence(octets(nonce), size(16), size(16)) }), cms.ErrMalformed},
		"gcm-in-enveloped-data":   {with(fine, func(e *transported) { e.tag = nil }), cms.ErrUnsupported},
		"gcm-attributes":          {sealed(16, params, contentType(typeData)), nil},
		"gcm-attributes-removed":  {with(sealed(16, params, contentType(typeData)), func(e *transported) { e.attrs = nil }), cms.ErrDecrypt},
		"gcm-attributes-added":    {with(fine, func(e *transported) { e.attrs = contentType(typeData) }), cms.ErrDecrypt},
		"gcm-other-content-type":  {sealed(16, params, contentType(typeJSON)), cms.ErrMalformed},
		"gcm-attribute-twice":     {sealed(16, params, bytes.Repeat(contentType(typeData), 2)), cms.ErrMalformed},
		"gcm-attribute-malformed": {sealed(16, params, octets(nil)), cms.ErrMalformed},
		"gcm-attributes-many":     {sealed(16, params, bytes.Repeat(contentType(typeData), 33)), cms.ErrLimit},
		"gcm-typed":               {with(sealed(16, params, contentType(typeJSON)), func(e *transported) { e.typ = typeJSON }), nil},
		"gcm-typed-no-attributes": {with(fine, func(e *transported) { e.typ = typeJSON }), nil},
		"gcm-other-attributes":    {sealed(16, params, attribute(typeVoucher, octets(nil))), nil},
		"cbc-authenticated":       {with(cbc, func(e *transported) { e.tag = make([]byte, 16) }), cms.ErrUnsupported},
		"cbc":                     {cbc, nil},
		"cbc-version-4":           {with(cbc, func(e *transported) { e.version = 4 }), nil},
		"cbc-version-5":           {with(cbc, func(e *transported) { e.version = 5 }), cms.ErrUnsupported},
		"cbc-version-negative":    {with(cbc, func(e *transported) { e.version = 0xff }), cms.ErrUnsupported},
		"cbc-sender-certified":    {with(cbc, func(e *transported) { e.sender = element(0xa0, element(0xa0)) }), nil},
		"cbc-sender-unknown":      {with(cbc, func(e *transported) { e.sender = element(0xa1) }), cms.ErrMalformed},
		"cbc-no-content":          {with(cbc, func(e *transported) { e.encrypted = []byte{} }), cms.ErrDecrypt},
		"cbc-half-a-block":        {with(cbc, func(e *transported) { e.encrypted = e.encrypted[:24] }), cms.ErrDecrypt},
		"cbc-recipients-256":      {with(cbc, func(e *transported) { e.recipients = 256 }), nil},
		"cbc-recipients-257":      {with(cbc, func(e *transported) { e.recipients = 257 }), cms.ErrLimit},
		"cbc-unprotected":         {with(cbc, func(e *transported) { e.unread = element(0xa1, contentType(typeJSON)) }), nil},
		"cbc-unprotected-of-gcm":  {with(cbc, func(e *transported) { e.unread = element(0xa2, contentType(typeJSON)) }), cms.ErrMalformed},
		"gcm-unprotected":         {with(fine, func(e *transported) { e.unread = element(0xa2, contentType(typeJSON)) }), nil},
		"gcm-unprotected-of-cbc":  {with(fine, func(e *transported) { e.unread = element(0xa1, contentType(typeJSON)) }), cms.ErrMalformed},
		"gcm-no-nonce":            {with(fine, func(e *transported) { e.params = sequence(size(16)) }), cms.ErrMalformed},
		"gcm-192-with-key-of-128": {with(fine, func(e *transported) { e.cipher = "2.16.840.1.101.3.4.1.26" }), cms.ErrDecrypt},
		"gcm-256-with-key-of-128": {with(fine, func(e *transported) { e.cipher = "2.16.840.1.101.3.4.1.46" }), cms.ErrDecrypt},
		"unknown-key-transport":   {with(cbc, func(e *transported) { e.algorithm = element(asn1.SEQUENCE, oidDER(typeVoucher)) }), cms.ErrUnsupported},
		"cbc-short-vector":        {transported{cipher: aes128CBC, params: octets(make([]byte, 15)), encrypted: make([]byte, 16)}, cms.ErrMalformed},
		"cbc-no-vector":           {transported{cipher: aes128CBC, encrypted: make([]byte, 16)}, cms.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			test.device, test.key = device, key
			m, err := cms.Parse(test.build(t))
			if err == nil {
				m, err = m.Enveloped.Open(recipient(t, device))
			}
			if !errors.Is(err, test.want) || err == nil && !slices.Equal(m.Data, content) {
				t.Errorf("Open: %v, want %v", err, test.want)
			}
		})
	}
}

// TestContentPadding has each octet of the padding wrong in turn, in a document that could otherwise be anything.
func TestContentPadding(t *testing.T) {
	w := shared()
	device := w.IssueKey([]string{"rsa:2048"}, w.root, "/CN=RSA device")
	key, iv := make([]byte, 16), make([]byte, 16)
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	check := func(last []byte, want int) { // bytes of the document, or -1
		t.Helper()
		encrypted := make([]byte, 32)
		cipher.NewCBCEncrypter(block, iv).CryptBlocks(encrypted, append(make([]byte, 32-len(last)), last...))
		e := transported{device: device, key: key, cipher: aes128CBC, params: octets(iv), encrypted: encrypted}
		m, err := open(t, e.build(t), recipient(t, device))
		if want < 0 && err != cms.ErrDecrypt || want >= 0 && (err != nil || len(m.Data) != want) {
			t.Errorf("padding %x: %+v, %v", last, m, err)
		}
	}
	for n := 1; n <= 16; n++ {
		check(bytes.Repeat([]byte{byte(n)}, n), 32-n)
		for i := range n - 1 {
			last := bytes.Repeat([]byte{byte(n)}, n)
			last[i] ^= 0x80
			check(last, -1)
		}
	}
	for _, n := range []byte{0, 17, 32, 33, 0xff} {
		check(bytes.Repeat([]byte{n}, 32), -1)
	}
}

// encryptRaw is RSA without any padding (RFC 8017 §5.1.1).
func encryptRaw(public *rsa.PublicKey, block []byte) []byte {
	n := new(big.Int).SetBytes(block)
	return n.Exp(n, big.NewInt(int64(public.E)), public.N).FillBytes(make([]byte, public.Size()))
}
