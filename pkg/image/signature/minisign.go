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
)

// minisignKey is a public key of minisign.
type minisignKey struct {
	id  [8]byte
	key ed25519.PublicKey
}

// minisignName shows the key's identifier as minisign does.
func minisignName(id [8]byte) string {
	return fmt.Sprintf("minisign key %016X", binary.LittleEndian.Uint64(id[:]))
}

// parseMinisignKey reads a .pub file, or its second line alone.
func parseMinisignKey(file []byte) (minisignKey, error) {
	var k minisignKey
	lines := strings.Split(strings.TrimRight(string(file), "\r\n"), "\n")
	if strings.HasPrefix(lines[0], untrustedComment) {
		lines = lines[1:]
	}
	if len(lines) != 1 {
		return k, errors.New("is not a public key of minisign: it has another number of lines")
	}
	raw, ok := decode(lines[0], 2+len(k.id)+ed25519.PublicKeySize)
	if !ok || string(raw[:2]) != "Ed" {
		return k, errors.New("is not a public key of minisign")
	}
	copy(k.id[:], raw[2:])
	k.key = raw[2+len(k.id):]
	return k, nil
}

// decode decodes a line of base64 that must give n bytes.
func decode(line string, n int) ([]byte, bool) {
	raw, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSuffix(line, "\r"))
	return raw, err == nil && len(raw) == n
}

// minisignature is a .minisig file.
type minisignature struct {
	algorithm string
	id        [8]byte
	value     []byte // over the digest of the image
	comment   string
	global    []byte // over value and comment
}

func parseMinisignature(data []byte) (*minisignature, error) {
	lines := strings.Split(strings.TrimRight(string(data), "\r\n"), "\n")
	if len(lines) != 4 || !strings.HasPrefix(lines[0], untrustedComment) || !strings.HasPrefix(lines[2], trustedComment) {
		return nil, malformed("the signature is not the four lines of minisign's", nil)
	}
	s := &minisignature{comment: strings.TrimSuffix(strings.TrimPrefix(lines[2], trustedComment), "\r")}
	raw, ok1 := decode(lines[1], 2+len(s.id)+ed25519.SignatureSize)
	global, ok2 := decode(lines[3], ed25519.SignatureSize)
	if !ok1 || !ok2 {
		return nil, malformed("a line of the minisign signature is damaged", nil)
	}
	if strings.ContainsRune(s.comment, '\r') || bytes.ContainsRune(data, 0) { // where minisign would end them
		return nil, malformed("a comment of the minisign signature is damaged", nil)
	}
	s.algorithm, s.global = string(raw[:2]), global
	copy(s.id[:], raw[2:])
	s.value = raw[2+len(s.id):]
	return s, nil
}

// verifyMinisign verifies the signature over the trusted comment, which covers the one over the image: that the signer is
// believed is known before the image comes.
func (p *Policy) verifyMinisign(data []byte) (*Claim, error) {
	s, err := parseMinisignature(data)
	if err != nil {
		return nil, err
	}
	switch s.algorithm {
	case "ED":
	case "Ed":
		return nil, refuse(CodeAlgorithm, "the minisign signature is of the legacy kind \"Ed\", which covers the whole image instead of "+
			"its digest and cannot be verified while the image is written", "sign with minisign 0.10 or later, or with `minisign -S -H`", nil)
	default:
		return nil, refuse(CodeAlgorithm, fmt.Sprintf("the minisign signature is of the unknown kind %q", s.algorithm), "sign with minisign", nil)
	}
	known := false
	for _, k := range p.Signers.minisign {
		if k.id != s.id {
			continue
		}
		known = true
		if ed25519.Verify(k.key, append(s.value[:len(s.value):len(s.value)], s.comment...), s.global) {
			return &Claim{
				Signer: minisignName(k.id) + ", " + cms.Printable(strings.ReplaceAll(s.comment, "\t", " ")),
				Hash:   crypto.BLAKE2b_512,
				holds:  func(digest []byte) bool { return ed25519.Verify(k.key, digest, s.value) },
			}, nil
		}
	}
	if known {
		return nil, refuse(CodeMismatch, fmt.Sprintf("%s did not sign the trusted comment of the signature", minisignName(s.id)),
			"publish the .minisig file as minisign wrote it", nil)
	}
	return nil, refuse(CodeUntrusted, fmt.Sprintf("the image is signed with %s, which image.signers does not name", minisignName(s.id)),
		"have somebody sign it whom image.signers names, or add the key there", nil)
}
