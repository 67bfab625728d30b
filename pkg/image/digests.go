package image

import (
	"crypto"
	"crypto/sha256"
	"encoding"
	"errors"
	"hash"

	"github.com/xpu-sztp/ztp/pkg/image/signature"
)

// digests is SHA-256, and in the same pass another hash that a signature is over.
type digests struct {
	hash.Hash // SHA-256
	other     hash.Hash
	kind      crypto.Hash // of other
}

func newDigests(c *signature.Claim) *digests { return &digests{sha256.New(), c.New(), c.Hash} }

func (d *digests) Write(p []byte) (int, error) {
	d.other.Write(p)
	return d.Hash.Write(p)
}

func (d *digests) Reset() {
	d.other.Reset()
	d.Hash.Reset()
}

// MarshalBinary returns both states, that of SHA-256 first. Each begins with what it is a state of.
func (d *digests) MarshalBinary() ([]byte, error) {
	state, err := d.Hash.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		return nil, err
	}
	other, err := d.other.(encoding.BinaryMarshaler).MarshalBinary()
	return append(state, other...), err
}

// UnmarshalBinary goes on where MarshalBinary was called, if the hashes are the same.
func (d *digests) UnmarshalBinary(from []byte) error {
	const size = 4 + sha256.Size + sha256.BlockSize + 8 // of the state of SHA-256
	if len(from) < size {
		return errors.New("the image was hashed in another way")
	}
	err := d.Hash.(encoding.BinaryUnmarshaler).UnmarshalBinary(from[:size])
	if err != nil {
		return err
	}
	return d.other.(encoding.BinaryUnmarshaler).UnmarshalBinary(from[size:])
}
