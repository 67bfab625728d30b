package inspect

import (
	"bytes"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"strings"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/artifacts/strictjson"
	"github.com/xpu-sztp/ztp/dhcp"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

// Reason codes of what is no artifact.
const (
	CodeNotArtifact artifacts.Code = "not-an-artifact" // in any encoding
	CodePrivateKey  artifacts.Code = "private-key"     // it must not leave the machine that uses it
)

const notArtifactHint = "give a CMS in DER, PEM or base64, as `openssl cms -outform DER` writes it, or what a bootstrap server answered"

// decode recognises and decodes one artifact.
func (p *piece) decode(o *Options) *Artifact {
	a := &Artifact{Name: p.name, Kind: KindUnknown, Encoding: p.encoding, Bytes: len(p.data)}
	if p.content == privateKey || p.content == binary && isPrivateKey(p.data) {
		a.Kind, a.Bytes = KindPrivateKey, 0
		a.fail(CodePrivateKey, "this is a private key, of which nothing is shown",
			"keep it away from servers and devices that it is not for; to decrypt with it, name it with --decrypt-key")
		return a
	}
	if p.err != nil {
		a.fail(CodeNotArtifact, p.err.Error(), notArtifactHint)
		return a
	}
	sum := sha256.Sum256(p.data)
	a.SHA256 = hex.EncodeToString(sum[:])
	switch p.content {
	case option:
		a.decodeList(p.data, o.Lenient)
	case document:
		a.Form = FormBare
		a.decodeDocument(cms.TypeData, p.data, o.Lenient)
		a.warn("devices only read it in a CMS")
	case certificates:
		a.decodeCertificates(p.data, o)
	case binary:
		message, err := cms.Parse(p.data)
		if err == nil {
			a.der = p.data
			a.decodeMessage(message, o)
		} else if a.decodeCertificates(p.data, o); a.Problem != nil {
			a.failContainer(err)
		}
	}
	return a
}

func (a *Artifact) failContainer(err error) {
	switch {
	case errors.Is(err, cms.ErrLimit):
		a.fail(artifacts.CodeTooLarge, err.Error(), "leave out what the artifact does not need")
	case errors.Is(err, cms.ErrUnsupported):
		a.fail(artifacts.CodeAlgorithmRefused, err.Error(),
			"use the content types of RFC 8572 §3, and SHA-256 or better with ECDSA, Ed25519 or RSA")
	default:
		a.fail(CodeNotArtifact, "neither a CMS nor a certificate: "+err.Error(), notArtifactHint)
	}
}

func (a *Artifact) decodeMessage(m *cms.Message, o *Options) {
	a.ContentType = typeName(m.Type)
	switch {
	case m.Enveloped != nil:
		a.decodeEncrypted(m.Enveloped, o)
	case m.Signed == nil:
		a.Form = FormUnsigned
		a.decodeDocument(m.Type, m.Data, o.Lenient)
	default:
		a.decodeSigned(m.Signed, o.Lenient)
	}
}

// decodeEncrypted looks inside with the device's keys, and else says whom it is for.
func (a *Artifact) decodeEncrypted(e *cms.EnvelopedData, o *Options) {
	a.Kind, a.Form, a.enveloped = KindEncrypted, FormEncrypted, e
	a.Recipients = e.Recipients()
	if o.Device.Decrypter == nil && o.Device.KeyAgreement == nil {
		a.warn("what is inside can be read with the recipient's key only: --decrypt-key, or --identity on the device")
		return
	}
	m, err := o.Device.Open(e)
	if err != nil {
		a.Problem = problemOf(err)
		return
	}
	a.enveloped = nil
	a.decodeMessage(m, o) // which has no encryption inside
	a.Form, a.Inside = FormEncrypted, a.Form
}

func (a *Artifact) decodeSigned(s *cms.SignedData, lenient bool) {
	for i := range s.Signers {
		a.Signers = append(a.Signers, Signer{ID: s.Signers[i].String(), Algorithm: s.Signers[i].Algorithm()})
	}
	a.setCertificates(s.Certificates)
	for _, der := range s.CRLs {
		a.Revocations = append(a.Revocations, revocationOf(der))
	}
	for _, der := range s.OCSP {
		a.OCSP = append(a.OCSP, answersOf(der)...)
	}
	if len(s.Content) == 0 && len(s.Certificates) > 0 {
		a.decodeCarrier(s, lenient)
		return
	}
	if a.Form = FormUnsigned; len(s.Signers) > 0 {
		a.Form = FormSigned
	}
	a.ContentType = typeName(s.ContentType)
	if s.Content == nil && !s.Degenerate() {
		a.fail(CodeNotArtifact, "a signature without the content that it is over", "sign with -nodetach")
		return
	}
	a.decodeDocument(s.ContentType, s.Content, lenient)
}

// decodeDocument decodes conveyed information or a voucher, told apart by type or else by what is inside.
func (a *Artifact) decodeDocument(kind asn1.ObjectIdentifier, data []byte, lenient bool) {
	sniffed := kind.Equal(cms.TypeData)
	conveys := kind.Equal(cms.TypeConveyedJSON) || kind.Equal(cms.TypeConveyedXML) ||
		sniffed && mentions(data, "ietf-sztp-conveyed-info")
	var warnings []string
	var err error
	switch {
	case kind.Equal(cms.TypeVoucherJSON), sniffed && mentions(data, "ietf-voucher"):
		a.Kind = KindVoucher
		a.Voucher, warnings, err = artifacts.ViewVoucher(data, lenient)
	case !conveys:
		a.fail(CodeNotArtifact, "the content is neither conveyed information nor a voucher", notArtifactHint)
	default:
		a.Kind = KindConveyed
		if a.Conveyed, warnings, err = artifacts.ViewConveyedInformation(kind, data, lenient); err == nil {
			err = anchorError(a.Conveyed.Redirect)
		}
	}
	a.Warnings = append(a.Warnings, warnings...)
	if err != nil {
		a.Problem = problemOf(err)
	}
}

// anchorError returns what is wrong with the first trust anchor that is malformed.
func anchorError(servers []artifacts.ServerView) error {
	for i := range servers {
		if servers[i].AnchorErr != nil {
			return servers[i].AnchorErr
		}
	}
	return nil
}

func (a *Artifact) warn(text string) { a.Warnings = append(a.Warnings, text) }

func (a *Artifact) fail(code artifacts.Code, msg, hint string) { a.Problem = problem(code, msg, hint) }

// problem makes a Problem; msg is what was wrong.
func problem(code artifacts.Code, msg, hint string) *Problem {
	return &Problem{Code: string(code), Message: msg, Hint: hint}
}

// problemOf explains an error of a package that decodes.
func problemOf(err error) *Problem {
	var e reason.Explained
	if errors.As(err, &e) {
		hint := e.Hint()
		if strings.Contains(hint, "ztp inspect") { // which is what is being done
			hint = notArtifactHint
		}
		return &Problem{Code: e.Reason(), Message: e.Error(), Hint: hint}
	}
	return problem(CodeNotArtifact, err.Error(), notArtifactHint)
}

// mentions reports whether data is a document of a YANG module: JSON with a top-level name of it, or XML that names it.
func mentions(data []byte, module string) bool {
	if bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("<")) {
		return bytes.Contains(data, []byte(module))
	}
	root, _ := strictjson.Parse(data)
	for i := range root.Members {
		if strings.HasPrefix(root.Members[i].Name, module+":") {
			return true
		}
	}
	return false
}

// decodeList decodes the value of DHCP option 143 or 136 (RFC 8572 §8.3).
func (a *Artifact) decodeList(data []byte, lenient bool) {
	a.Kind = KindServerList
	parse := dhcp.ParseServerList
	if lenient {
		parse = dhcp.ParseServerListLeniently
	}
	servers, findings, err := parse(data)
	for i := range servers {
		a.Servers = append(a.Servers, servers[i].String())
	}
	for i := range findings {
		a.warn(findings[i].String())
	}
	if err != nil {
		a.Problem = problemOf(err)
	}
}

// typeName is a content type by its name, where SZTP knows one.
func typeName(id asn1.ObjectIdentifier) string {
	names := [...]string{"id-data", "id-signedData", "id-envelopedData", "id-ct-authEnvelopedData", "id-ct-animaJSONVoucher",
		"id-ct-sztpConveyedInfoXML", "id-ct-sztpConveyedInfoJSON"}
	for i, known := range []asn1.ObjectIdentifier{cms.TypeData, cms.TypeSigned, cms.TypeEnveloped, cms.TypeAuthEnveloped,
		cms.TypeVoucherJSON, cms.TypeConveyedXML, cms.TypeConveyedJSON} {
		if id.Equal(known) {
			return names[i]
		}
	}
	return id.String()
}
