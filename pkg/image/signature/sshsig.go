package signature

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"encoding/pem"
	"slices"

	"golang.org/x/crypto/cryptobyte"

	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

const (
	sshArmor = "SSH SIGNATURE"
	sshMagic = "SSHSIG"
)

// sshSignature is what OpenSSH's PROTOCOL.sshsig describes.
type sshSignature struct {
	key, namespace, reserved, hash []byte
	kind, value                    []byte // of the signature proper
}

func parseSSHSignature(data []byte) (*sshSignature, error) {
	in := cryptobyte.String(dearmor(data, sshArmor))
	var s sshSignature
	var magic, proper []byte
	var version uint32
	if in.ReadBytes(&magic, len(sshMagic)) && in.ReadUint32(&version) && string(magic) == sshMagic && version == 1 &&
		readStrings(&in, &s.key, &s.namespace, &s.reserved, &s.hash, &proper) && in.Empty() {
		inner := cryptobyte.String(proper)
		if readStrings(&inner, &s.kind, &s.value) && inner.Empty() {
			return &s, nil
		}
	}
	return nil, refuse(malformed, "it is not one signature of OpenSSH, of version 1 of its format", nil)
}

// verifySSH knows the key, the namespace and the hash; the signature itself covers the digest, which comes later.
func (p *Policy) verifySSH(data []byte) (*Claim, error) {
	s, err := parseSSHSignature(data)
	if err != nil {
		return nil, err
	}
	if string(s.namespace) != p.Namespace {
		return nil, refuse(purpose, "the signature is made for namespace \""+cms.Printable(string(s.namespace))+"\", images are signed for \""+
			p.Namespace+"\"", nil)
	}
	signer, refusal := p.sshSigner(s)
	if refusal != nil {
		return nil, refusal
	}
	scheme := schemeOf(signer.key.kind, string(s.kind))
	claim := &Claim{
		Signer: cms.Printable(signer.principals) + ", " + describeSSH(s.key),
		Hash:   crypto.SHA512,
		holds:  func(digest []byte) bool { return signer.key.verifies(scheme, s.signed(digest), s.value) },
	}
	if string(s.hash) == "sha256" {
		claim.Hash = crypto.SHA256
	} else if string(s.hash) != "sha512" {
		scheme = nil
	}
	if scheme == nil {
		return nil, refuse(algorithm, "the signature is made with "+cms.Printable(string(s.hash)+" and "+string(s.kind)), nil)
	}
	return claim, nil
}

// signed is what the signature covers.
func (s *sshSignature) signed(digest []byte) []byte {
	b := []byte(sshMagic)
	for _, field := range [][]byte{s.namespace, s.reserved, s.hash, digest} {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(field))), field...)
	}
	return b
}

// sshSigner finds the line that believes the key of s. Of several lines with the key one is enough.
func (p *Policy) sshSigner(s *sshSignature) (*sshSigner, *reason.Error) {
	name := describeSSH(s.key)
	failure := untrustedSigner(name, "whom image.signers does not name for this namespace")
	for _, signer := range p.Signers.ssh {
		if !bytes.Equal(signer.key.blob, s.key) || signer.namespaces != nil && !covers(signer.namespaces, p.Namespace) {
			continue
		}
		if failure = p.untimely(name, signer.after, signer.before); failure == nil {
			return signer, nil
		}
	}
	return nil, failure
}

// dearmor decodes data if it is one PEM block of one of these types, without anything before, inside or behind it. Otherwise
// it returns nil.
func dearmor(data []byte, types ...string) []byte {
	block, rest := pem.Decode(data)
	if block == nil || len(block.Headers) > 0 || len(bytes.TrimSpace(rest)) > 0 || !slices.Contains(types, block.Type) ||
		!bytes.HasPrefix(data, []byte("-----BEGIN "+block.Type)) {
		return nil
	}
	return block.Bytes
}
