package signature

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/xpu-sztp/ztp/artifacts/cms"
)

const (
	untrustedComment = "untrusted comment: "
	trustedComment   = "trusted comment: "
	minisignIDSize   = 8
)

// minisignKey is a public key of minisign.
type minisignKey struct{ id, key []byte }

// minisignName shows the identifier of a key as minisign does.
func minisignName(id []byte) string {
	return fmt.Sprintf("minisign key %016X", binary.LittleEndian.Uint64(id))
}

// addMinisign reads a .pub file.
func (s *Signers) addMinisign(file string) error {
	lines := minisignLines(file)
	if len(lines) == 2 {
		if algorithm, id, key := decodeMinisign(lines[1], ed25519.PublicKeySize); algorithm == "Ed" {
			s.minisign = append(s.minisign, minisignKey{id, key})
			return nil
		}
	}
	return errors.New("is not a public key of minisign")
}

func minisignLines(file string) []string {
	return strings.Split(strings.TrimRight(strings.ReplaceAll(file, "\r\n", "\n"), "\n"), "\n")
}

// decodeMinisign takes apart a line of an algorithm, the identifier of a key, and so many bytes. The algorithm is "" for
// anything else.
func decodeMinisign(line string, size int) (algorithm string, id, value []byte) {
	raw, err := base64.StdEncoding.Strict().DecodeString(line)
	if err != nil || len(raw) != 2+minisignIDSize+size {
		return "", nil, nil
	}
	return string(raw[:2]), raw[2 : 2+minisignIDSize], raw[2+minisignIDSize:]
}

// verifyMinisign verifies the signature over the trusted comment, which covers the one over the image: that the signer is
// believed is known before the image comes.
func (p *Policy) verifyMinisign(data []byte) (*Claim, error) {
	lines := minisignLines(string(data))
	if len(lines) != 4 {
		lines = make([]string, 4)
	}
	kind, id, value := decodeMinisign(lines[1], ed25519.SignatureSize)
	comment, ok := strings.CutPrefix(lines[2], trustedComment)
	global, _ := base64.StdEncoding.Strict().DecodeString(lines[3])
	switch {
	case kind == "" || !ok || len(global) != ed25519.SignatureSize || !strings.HasPrefix(lines[0], untrustedComment),
		strings.Contains(comment, "\r") || bytes.IndexByte(data, 0) >= 0: // where minisign would end a comment
		return nil, refuse(malformed, "it is not a signature of minisign", nil)
	case kind != "ED":
		return nil, refuse(algorithm, "the minisign signature is not over a digest of the image, and cannot be verified while that is written", nil)
	}
	name := minisignName(id)
	failure := untrustedSigner(name, "which image.signers does not name")
	for _, k := range p.Signers.minisign {
		if !bytes.Equal(k.id, id) {
			continue
		}
		if ed25519.Verify(k.key, []byte(string(value)+comment), global) {
			return &Claim{
				Signer: name + ", " + cms.Printable(strings.ReplaceAll(comment, "\t", " ")),
				Hash:   crypto.BLAKE2b_512,
				holds:  func(digest []byte) bool { return ed25519.Verify(k.key, digest, value) },
			}, nil
		}
		failure = refuse(mismatch, name+" did not sign the trusted comment of the signature", nil)
	}
	return nil, failure
}
