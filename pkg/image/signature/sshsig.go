package signature

import (
	"bytes"
	"crypto"
	"encoding/pem"
	"fmt"

	"golang.org/x/crypto/cryptobyte"

	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

// sshSignature is what OpenSSH's PROTOCOL.sshsig describes.
type sshSignature struct {
	key       string // blob
	namespace string
	reserved  string
	hash      string // its name
	kind      string // of the signature proper
	value     string
}

const sshMagic = "SSHSIG"

func parseSSHSignature(data []byte) (*sshSignature, error) {
	const armor = "SSH SIGNATURE"
	blob, ok := dearmor(data, armor)
	if !ok {
		return nil, malformed("the signature is not one block of \""+armor+"\"", nil)
	}
	in := cryptobyte.String(blob)
	var magic []byte
	var version uint32
	if !in.ReadBytes(&magic, len(sshMagic)) || string(magic) != sshMagic || !in.ReadUint32(&version) {
		return nil, malformed("the signature does not begin with "+sshMagic, nil)
	}
	if version != 1 {
		return nil, refuse(CodeAlgorithm, fmt.Sprintf("the signature has version %d of OpenSSH's format, version 1 is supported", version),
			"sign with `ssh-keygen -Y sign`", nil)
	}
	var s sshSignature
	var proper string
	for _, field := range []*string{&s.key, &s.namespace, &s.reserved, &s.hash, &proper} {
		if *field, ok = readString(&in); !ok {
			return nil, malformed("the signature is cut off", nil)
		}
	}
	inner := cryptobyte.String(proper)
	if s.kind, ok = readString(&inner); ok {
		s.value, ok = readString(&inner)
	}
	if !ok || !inner.Empty() || !in.Empty() {
		return nil, malformed("the signature has another structure than OpenSSH's", nil)
	}
	return &s, nil
}

// verifySSH knows the key, the namespace and the hash; the signature itself covers the digest, which comes later.
func (p *Policy) verifySSH(data []byte) (*Claim, error) {
	s, err := parseSSHSignature(data)
	if err != nil {
		return nil, err
	}
	if s.namespace != p.Namespace {
		return nil, refuse(CodeNamespace, fmt.Sprintf("the signature is made for namespace %.60q, images are signed for %q",
			cms.Printable(s.namespace), p.Namespace), fmt.Sprintf("sign with `ssh-keygen -Y sign -n %s`, or correct image.signature-namespace",
			p.Namespace), nil)
	}
	claim := &Claim{}
	switch s.hash {
	case "sha256":
		claim.Hash = crypto.SHA256
	case "sha512":
		claim.Hash = crypto.SHA512
	default:
		return nil, refuse(CodeAlgorithm, fmt.Sprintf("the signature is over a digest by %.60q", cms.Printable(s.hash)),
			"sign with `ssh-keygen -Y sign -O hashalg=sha256`", nil)
	}
	signer, err := p.sshSigner(s)
	if err != nil {
		return nil, err
	}
	hash, ok := signer.key.scheme(s.kind)
	if !ok {
		return nil, refuse(CodeAlgorithm, fmt.Sprintf("the signature is of type %.60q with a key of type %q", cms.Printable(s.kind), signer.key.kind),
			"sign with `ssh-keygen -Y sign` of OpenSSH 8.1 or later", nil)
	}
	claim.Signer = fmt.Sprintf("%s, %s key %s", cms.Printable(signer.principals), signer.key.kind, fingerprint(s.key))
	claim.holds = func(digest []byte) bool { return signer.key.verify(hash, s.signed(digest), []byte(s.value)) }
	return claim, nil
}

// signed is what the signature covers.
func (s *sshSignature) signed(digest []byte) []byte {
	var b cryptobyte.Builder
	b.AddBytes([]byte(sshMagic))
	for _, field := range []string{s.namespace, s.reserved, s.hash, string(digest)} {
		b.AddUint32LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(field)) })
	}
	return b.BytesOrPanic()
}

// sshSigner finds the line that believes the key of s. Of several lines with the key one is enough.
func (p *Policy) sshSigner(s *sshSignature) (*sshSigner, error) {
	in := cryptobyte.String(s.key)
	kind, _ := readString(&in)
	if err := refusedKind(cms.Printable(kind)); err != nil {
		return nil, refuse(CodeAlgorithm, "the signature is made with a kind of key that is not accepted",
			"sign with an Ed25519, ECDSA or RSA key", err)
	}
	name := fmt.Sprintf("%s key %s", kind, fingerprint(s.key))
	failure := refuse(CodeUntrusted, "the image is signed with "+name+", which image.signers does not name",
		"have somebody sign it whom image.signers names, or add the key there", nil)
	for i := range p.Signers.ssh {
		signer := &p.Signers.ssh[i]
		if signer.key.blob != s.key {
			continue
		}
		switch {
		case signer.namespaces != "" && !matchesList(s.namespace, signer.namespaces):
			if failure.Code == CodeUntrusted {
				failure.Msg = fmt.Sprintf("the image is signed with %s, which image.signers names for namespaces %q only", name, signer.namespaces)
			}
		case p.Clock.Accurate() && !signer.after.IsZero() && p.Clock.Now.Before(signer.after):
			failure = p.untimely(name, "is believed from "+stamp(signer.after)+" on")
		case p.Clock.Accurate() && !signer.before.IsZero() && p.Clock.Now.After(signer.before):
			failure = p.untimely(name, "was believed until "+stamp(signer.before))
		default:
			return signer, nil
		}
	}
	return nil, failure
}

func (p *Policy) untimely(who, when string) *reason.Error {
	return refuse(CodeExpired, fmt.Sprintf("the image is signed with %s, which %s; the clock says %s", who, when, stamp(p.Clock.Now)),
		"have somebody sign it who is believed now, or correct the device's clock", nil)
}

// dearmor decodes data if it is one PEM block of one of these types, without anything before, inside or behind it.
func dearmor(data []byte, types ...string) ([]byte, bool) {
	block, rest := pem.Decode(data)
	if block == nil || len(block.Headers) > 0 || len(bytes.TrimSpace(rest)) > 0 {
		return nil, false
	}
	for _, t := range types {
		if block.Type == t && bytes.HasPrefix(data, []byte("-----BEGIN "+t+"-----")) {
			return block.Bytes, true
		}
	}
	return nil, false
}
