package image

import (
	"crypto"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"errors"
	"hash"

	"github.com/xpu-sztp/ztp/pkg/image/signature"
)

// digests is SHA-256, and in the same pass the hashes that signatures are over. Its state is that of all of them, so that a
// checkpoint is of no use to a download that computes others.
type digests struct {
	hash.Hash // SHA-256
	others    []digest
}

type digest struct {
	kind crypto.Hash
	hash.Hash
}

func newDigests(claims []*signature.Claim) *digests {
	d := &digests{Hash: sha256.New()}
	for _, c := range byHash(claims) {
		d.others = append(d.others, digest{c.Hash, c.New()})
	}
	return d
}

// sum returns the digest of another hash than SHA-256.
func (d *digests) sum(kind crypto.Hash) []byte {
	for _, o := range d.others {
		if o.kind == kind {
			return o.Sum(nil)
		}
	}
	return nil
}

func (d *digests) Write(p []byte) (int, error) {
	for _, o := range d.others {
		o.Write(p)
	}
	return d.Hash.Write(p)
}

func (d *digests) Reset() {
	for _, o := range d.others {
		o.Reset()
	}
	d.Hash.Reset()
}

// all lists the hashes with their kinds.
func (d *digests) all() []digest { return append([]digest{{crypto.SHA256, d.Hash}}, d.others...) }

// MarshalBinary returns the kind, the length of the state and the state of each hash.
func (d *digests) MarshalBinary() (all []byte, err error) {
	for _, o := range d.all() {
		state, err := o.Hash.(encoding.BinaryMarshaler).MarshalBinary()
		if err != nil {
			return nil, err
		}
		all = binary.BigEndian.AppendUint16(all, uint16(o.kind))
		all = binary.BigEndian.AppendUint16(all, uint16(len(state)))
		all = append(all, state...)
	}
	return all, nil
}

// UnmarshalBinary goes on where MarshalBinary was called, if the hashes are the same.
func (d *digests) UnmarshalBinary(from []byte) error {
	errOther := errors.New("the image was hashed in other ways")
	for _, o := range d.all() {
		if len(from) < 4 || binary.BigEndian.Uint16(from) != uint16(o.kind) {
			return errOther
		}
		size := int(binary.BigEndian.Uint16(from[2:]))
		if from = from[4:]; size > len(from) {
			return errOther
		}
		if err := o.Hash.(encoding.BinaryUnmarshaler).UnmarshalBinary(from[:size]); err != nil {
			return err
		}
		from = from[size:]
	}
	if len(from) > 0 {
		return errOther
	}
	return nil
}
