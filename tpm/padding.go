package tpm

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"encoding/binary"
)

// unpadder returns what takes the padding that opts describe from a block, the result of the bare RSA operation. How long it
// takes and what it touches does not depend on whether and where the padding is wrong, and its error is always
// rsa.ErrDecryption: whoever may send ciphertexts to the device could otherwise read one that was recorded (Bleichenbacher,
// Manger).
func unpadder(opts crypto.DecrypterOpts) (func(block []byte) ([]byte, error), error) {
	switch o := opts.(type) {
	case nil:
		return func(block []byte) ([]byte, error) { return unpadPKCS1(block, 0) }, nil
	//lint:ignore SA1019 CMS from the field still transports keys this way (RFC 3370, 4.2.1)
	case *rsa.PKCS1v15DecryptOptions:
		return func(block []byte) ([]byte, error) { return unpadPKCS1(block, o.SessionKeyLen) }, nil
	case *rsa.OAEPOptions:
		mgf := o.MGFHash
		if mgf == 0 {
			mgf = o.Hash
		}
		if !o.Hash.Available() || !mgf.Available() {
			return nil, unusable("use SHA-256", "hashes %v and %v are not supported for OAEP", o.Hash, mgf)
		}
		return func(block []byte) ([]byte, error) { return unpadOAEP(block, o.Hash, mgf, o.Label) }, nil
	}
	return nil, unusable("", "decryption options %T are not supported", opts)
}

// unpadPKCS1 undoes EME-PKCS1-v1_5 (RFC 8017, 7.2.2). With a length it always succeeds: where the padding is wrong, or
// the message has another length, the result is random, as rsa.DecryptPKCS1v15SessionKey does it.
func unpadPKCS1(block []byte, length int) ([]byte, error) {
	if length < 0 || len(block) < length+11 {
		return nil, rsa.ErrDecryption
	}
	// separator is the index of the first zero after the two octets that begin the block; 0 while none was found.
	separator := 0
	for i := len(block) - 1; i >= 2; i-- {
		separator = subtle.ConstantTimeSelect(subtle.ConstantTimeByteEq(block[i], 0), i, separator)
	}
	good := subtle.ConstantTimeByteEq(block[0], 0) & subtle.ConstantTimeByteEq(block[1], 2) &
		subtle.ConstantTimeLessOrEq(10, separator) // at least eight octets of padding
	if length > 0 {
		good &= subtle.ConstantTimeEq(int32(separator), int32(len(block)-length-1))
		key := make([]byte, length)
		if _, err := rand.Read(key); err != nil {
			return nil, err
		}
		subtle.ConstantTimeCopy(good, key, block[len(block)-length:])
		return key, nil
	}
	if good != 1 {
		return nil, rsa.ErrDecryption
	}
	return block[separator+1:], nil
}

// unpadOAEP undoes EME-OAEP (RFC 8017, 7.1.2).
func unpadOAEP(block []byte, hash, mgf crypto.Hash, label []byte) ([]byte, error) {
	size := hash.Size()
	if len(block) < 2*size+2 {
		return nil, rsa.ErrDecryption
	}
	h := hash.New()
	h.Write(label)
	want := h.Sum(nil)

	seed, data := block[1:1+size], block[1+size:]
	mask(seed, data, mgf)
	mask(data, seed, mgf)

	// After the hash of the label come zeros, one octet 1, and the message.
	rest := data[size:]
	separator, bad := -1, 0
	for i, octet := range rest {
		searching := subtle.ConstantTimeEq(int32(separator), -1)
		one, zero := subtle.ConstantTimeByteEq(octet, 1), subtle.ConstantTimeByteEq(octet, 0)
		separator = subtle.ConstantTimeSelect(searching&one, i, separator)
		bad |= searching & (one ^ 1) & (zero ^ 1)
	}
	good := subtle.ConstantTimeByteEq(block[0], 0) & subtle.ConstantTimeCompare(data[:size], want) &
		(bad ^ 1) & (subtle.ConstantTimeEq(int32(separator), -1) ^ 1)
	if good != 1 {
		return nil, rsa.ErrDecryption
	}
	return rest[separator+1:], nil
}

// mask combines out with MGF1 of seed (RFC 8017, B.2.1).
func mask(out, seed []byte, hash crypto.Hash) {
	h := hash.New()
	for counter := uint32(0); len(out) > 0; counter++ {
		h.Reset()
		h.Write(seed)
		h.Write(binary.BigEndian.AppendUint32(nil, counter))
		out = out[subtle.XORBytes(out, out, h.Sum(nil)):]
	}
}
