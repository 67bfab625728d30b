package tpm

import (
	"context"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/crypto/cryptobyte"
)

const maxEntries = 4096 // of a list that a TPM answers with

// capability returns what the TPM has of something, from first on and at most limit entries of size bytes each, and whether
// there is more after them (TPM 2.0 Part 3, 30.2; Part 2, 10.10).
func (s *session) capability(of tpm2.TPMCap, first, limit uint32, size int) (list cryptobyte.String, more bool, err error) {
	rsp, err := s.execute(getCapability(of, first, limit))
	if err != nil {
		return nil, false, err
	}
	var moreData uint8
	var is, n uint32
	p := rsp.parameters
	if !p.ReadUint8(&moreData) || !p.ReadUint32(&is) || tpm2.TPMCap(is) != of || !p.ReadUint32(&n) || n > maxEntries ||
		!p.ReadBytes((*[]byte)(&list), int(n)*size) {
		return nil, false, errMalformed
	}
	return list, moreData != 0 && n > 0, nil
}

// handles lists the handles between first and last that exist, at most limit of them, in ascending order.
func handles(s *session, first, last tpm2.TPMHandle, limit int) (found []tpm2.TPMHandle, err error) {
	for len(found) < limit {
		page, more, err := s.capability(tpm2.TPMCapHandles, uint32(first), uint32(limit-len(found)), 4)
		if err != nil {
			return nil, err
		}
		for h := tpm2.TPMHandle(0); page.ReadUint32((*uint32)(&h)); first = h + 1 {
			if h > last || h < first {
				return found, nil
			}
			found = append(found, h)
		}
		if !more {
			return found, nil
		}
	}
	return found[:limit], nil
}

// property returns one of the TPM's properties, 0 when it does not have it.
func property(s *session, p tpm2.TPMPT) (uint32, error) {
	properties, _, err := s.capability(tpm2.TPMCapTPMProperties, uint32(p), 1, 8)
	if err != nil {
		return 0, err
	}
	for property, value := uint32(0), uint32(0); properties.ReadUint32(&property) && properties.ReadUint32(&value); {
		if tpm2.TPMPT(property) == p {
			return value, nil
		}
	}
	return 0, nil
}

// locked tells whether the TPM says that it is in lockout (TPM 2.0 Part 1, 19.8): then it uses no key that is protected
// against guessing its password, which IDevID keys are although they have none.
func (c *conn) locked(ctx context.Context) bool {
	const inLockout = 1 << 9 // TPMA_PERMANENT, Part 2, 8.6
	var permanent uint32
	err := c.do(ctx, commandTimeout, "asking for its lockout", func(s *session) (err error) {
		permanent, err = property(s, tpm2.TPMPTPermanent)
		return err
	})
	return err == nil && permanent&inLockout != 0
}

// algorithms lists what the TPM implements.
func algorithms(s *session) (found []tpm2.TPMAlgID, err error) {
	for next := uint32(0); next <= 0xFFFF; {
		page, more, err := s.capability(tpm2.TPMCapAlgs, next, 256, 6)
		if err != nil {
			return nil, err
		}
		var attributes uint32
		for alg := uint16(0); page.ReadUint16(&alg) && page.ReadUint32(&attributes); next = max(next, uint32(alg)+1) {
			found = append(found, tpm2.TPMAlgID(alg))
		}
		if !more {
			break
		}
	}
	return found, nil
}
