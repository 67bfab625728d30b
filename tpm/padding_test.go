//lint:file-ignore SA1019 RSAES-PKCS1-v1_5 is in use in the field and has to be tested

package tpm

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"math/big"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

// What crypto/rsa makes of a ciphertext, ours makes of the block inside, whether it is padded well or badly.
func TestPadding(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, size := &key.PublicKey, key.Size()
	raw := func(ciphertext []byte) []byte {
		c := new(big.Int).SetBytes(ciphertext)
		return c.Exp(c, key.D, key.N).FillBytes(make([]byte, size))
	}
	hashes := []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512}
	var accepted, refused atomic.Int64
	rapid.Check(t, func(t *rapid.T) {
		message := rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(t, "message")
		var opts crypto.DecrypterOpts
		var ciphertext []byte
		var err error
		if rapid.Bool().Draw(t, "oaep") {
			o := &rsa.OAEPOptions{
				Hash:    rapid.SampledFrom(hashes).Draw(t, "hash"),
				MGFHash: rapid.SampledFrom(append([]crypto.Hash{0}, hashes...)).Draw(t, "mgf"),
				Label:   rapid.SliceOfN(rapid.Byte(), 0, 5).Draw(t, "label"),
			}
			opts = o
			ciphertext, err = rsa.EncryptOAEPWithOptions(rand.Reader, public, message, o)
		} else {
			ciphertext, err = rsa.EncryptPKCS1v15(rand.Reader, public, message)
		}
		if err != nil {
			t.Fatal(err)
		}
		block := raw(ciphertext)
		for range rapid.IntRange(0, 2).Draw(t, "changes") {
			// Where it matters: the first octets, the end of the padding, anywhere.
			at := rapid.OneOf(rapid.IntRange(0, 12), rapid.IntRange(size-70, size-1), rapid.IntRange(0, size-1)).Draw(t, "at")
			block[at] = rapid.OneOf(rapid.SampledFrom([]byte{0, 1, 2}), rapid.Byte()).Draw(t, "octet")
		}
		m := new(big.Int).SetBytes(block)
		if m.Cmp(key.N) >= 0 {
			return
		}
		ciphertext = m.Exp(m, big.NewInt(int64(key.E)), key.N).FillBytes(make([]byte, size))
		want, wantErr := key.Decrypt(rand.Reader, ciphertext, opts)
		unpad, err := unpadder(opts)
		if err != nil {
			t.Fatal(err)
		}
		got, err := unpad(bytes.Clone(block))
		if (err == nil) != (wantErr == nil) || !bytes.Equal(got, want) {
			t.Fatalf("got %x, %v; crypto/rsa has %x, %v", got, err, want, wantErr)
		}
		if err == nil {
			accepted.Add(1)
		} else {
			refused.Add(1)
		}
		if err != nil && err != rsa.ErrDecryption {
			t.Fatalf("the error %v is not the one for every padding", err)
		}
		if opts == nil { // and with the length of a key there is never an error
			length := rapid.IntRange(1, 64).Draw(t, "length")
			key, err := unpadPKCS1(bytes.Clone(block), length)
			if err != nil || len(key) != length {
				t.Fatalf("%d bytes, %v", len(key), err)
			}
			if good := wantErr == nil && len(want) == length; good && !bytes.Equal(key, want) {
				t.Fatalf("got %x, want %x", key, want)
			} else if !good && length > 8 && bytes.Equal(key, block[size-length:]) {
				t.Fatal("badly padded, and a part of the block came out")
			}
		}
	})
	if accepted.Load() == 0 || refused.Load() == 0 {
		t.Errorf("%d blocks accepted, %d refused: this proves nothing", accepted.Load(), refused.Load())
	}
}

// Each octet of the padding counts, at every place where it could be wrong.
func TestEachOctetOfPadding(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	size, message := key.Size(), []byte("content encryption key")
	check := func(at int, octet byte, block []byte, opts crypto.DecrypterOpts) {
		t.Helper()
		m := new(big.Int).SetBytes(block)
		if m.Cmp(key.N) >= 0 {
			return
		}
		want, wantErr := key.Decrypt(nil, m.Exp(m, big.NewInt(int64(key.E)), key.N).FillBytes(make([]byte, size)), opts)
		unpad, err := unpadder(opts)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := unpad(block); (err == nil) != (wantErr == nil) || !bytes.Equal(got, want) {
			t.Errorf("octet %d is %d, %T: got %x, %v; crypto/rsa has %x, %v", at, octet, opts, got, err, want, wantErr)
		}
	}
	for at := range size {
		for _, octet := range []byte{0, 1, 2} {
			block := bytes.Repeat([]byte{7}, size)
			copy(block, []byte{0, 2})
			copy(block[size-len(message)-1:], append([]byte{0}, message...))
			block[at] = octet
			check(at, octet, block, nil)

			empty := sha256.Sum256(nil)
			block = make([]byte, size)
			copy(block[1:], bytes.Repeat([]byte{7}, len(empty))) // the seed
			copy(block[1+len(empty):], empty[:])
			copy(block[size-len(message)-1:], append([]byte{1}, message...))
			block[at] = octet
			seed, data := block[1:1+len(empty)], block[1+len(empty):]
			mask(data, seed, crypto.SHA256)
			mask(seed, data, crypto.SHA256)
			check(at, octet, block, &rsa.OAEPOptions{Hash: crypto.SHA256})
		}
	}
}

// Blocks that are too short for their padding are refused, and do not cause a panic.
func TestPaddingOfShortBlocks(t *testing.T) {
	for size := range 70 {
		block := make([]byte, size)
		if size > 1 {
			block[1] = 2
		}
		if plain, err := unpadPKCS1(block, 0); err == nil {
			t.Errorf("%d bytes gave %x", size, plain)
		}
		if plain, err := unpadOAEP(block, crypto.SHA256, crypto.SHA1, nil); err == nil {
			t.Errorf("%d bytes gave %x", size, plain)
		}
		if _, err := unpadPKCS1(block, 60); size < 71 && err == nil {
			t.Errorf("%d bytes gave a key of 60", size)
		}
	}
	if _, err := unpadder(&rsa.OAEPOptions{Hash: crypto.RIPEMD160}); err == nil {
		t.Error("a hash that is not linked in was accepted")
	}
}
