package inspect

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"math/big"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/artifacts/revinfo"
	"github.com/xpu-sztp/ztp/artifacts/strictjson"
	"github.com/xpu-sztp/ztp/dhcp"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

// CodeNotArtifact is the reason code of what is no artifact in any encoding.
const CodeNotArtifact artifacts.Code = "not-an-artifact"

const notArtifactHint = "give a CMS in DER, PEM or base64, as `openssl cms -outform DER` writes it, or what a bootstrap server answered"

// decode recognises and decodes one artifact.
func (p *piece) decode(lenient bool) *Artifact {
	a := &Artifact{Name: p.name, Kind: KindUnknown, Encoding: p.encoding, Bytes: len(p.data)}
	if p.err != nil {
		a.fail(CodeNotArtifact, p.err.Error(), notArtifactHint)
		return a
	}
	sum := sha256.Sum256(p.data)
	a.SHA256 = hex.EncodeToString(sum[:])
	switch p.content {
	case option:
		a.decodeList(p.data, lenient)
	case document:
		a.Form = FormBare
		a.decodeDocument(cms.TypeData, p.data, lenient)
		a.warn("devices only read it in a CMS")
	case certificates:
		a.decodeCertificates(p.data)
	case binary:
		message, err := cms.Parse(p.data)
		if err == nil {
			a.der = p.data
			a.decodeMessage(message, lenient)
		} else if a.decodeCertificates(p.data); a.Problem != nil {
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

func (a *Artifact) decodeMessage(m *cms.Message, lenient bool) {
	a.ContentType = typeName(m.Type)
	switch {
	case m.Enveloped != nil:
		a.Kind, a.Form = KindEncrypted, FormEncrypted
		a.Recipients, a.enveloped = m.Enveloped.Recipients(), m.Enveloped
		a.warn("what is inside can be read on the device only")
	case m.Signed == nil:
		a.Form = FormUnsigned
		a.decodeDocument(m.Type, m.Data, lenient)
	default:
		a.decodeSigned(m.Signed, lenient)
	}
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
	if s.Content == nil && (s.Degenerate() || lenient) {
		a.Kind, a.Form = certificatesKind(s.Certificates), FormCertificates
		if !s.Degenerate() {
			a.warn("signed, which has no meaning here")
		}
		return
	}
	if a.Form = FormUnsigned; len(s.Signers) > 0 {
		a.Form = FormSigned
	}
	a.ContentType = typeName(s.ContentType)
	if s.Content == nil {
		a.fail(CodeNotArtifact, "a signature without the content that it is over", "sign with -nodetach")
		return
	}
	a.decodeDocument(s.ContentType, s.Content, lenient)
}

// certificatesKind tells trust anchors, which are chains of authorities, from owner certificates. A device knows which one it
// has by where it came from.
func certificatesKind(certs []*x509.Certificate) Kind {
	kind := KindOwner
	for _, c := range certs {
		if !c.IsCA {
			return KindOwner
		}
		kind = KindAnchor
	}
	return kind
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

// decodeCertificates reads certificates that are not in a CMS, in DER one after the other.
func (a *Artifact) decodeCertificates(data []byte) {
	certs, err := parseCertificates(data)
	if err != nil {
		a.fail(CodeNotArtifact, err.Error(), notArtifactHint)
		return
	}
	a.Kind, a.Form = KindCertificates, FormBare
	a.setCertificates(certs)
}

func parseCertificates(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	in := cryptobyte.String(data)
	for !in.Empty() {
		var der cryptobyte.String
		if !in.ReadASN1Element(&der, casn1.SEQUENCE) {
			return nil, errors.New("not a certificate in DER")
		}
		c, err := cms.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		if certs = append(certs, c); len(certs) > maxCertificates {
			return nil, errors.New("too many certificates")
		}
	}
	return certs, nil
}

const maxCertificates = 256 // in one file

// Certificates reads the certificates of a file: PEM, DER or base64, bare or in a CMS. There is at least one.
func Certificates(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for _, p := range unwrap("", data) {
		a := p.decode(false)
		switch {
		case a.Problem != nil:
			return nil, errors.New(a.Problem.Message)
		case a.Form != FormCertificates && a.Kind != KindCertificates, len(a.x509) == 0:
			return nil, errors.New("holds " + string(a.Kind) + " where certificates are expected")
		}
		certs = append(certs, a.x509...)
	}
	return certs, nil
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

func (a *Artifact) setCertificates(certs []*x509.Certificate) {
	a.x509 = certs
	a.Certificates = artifacts.ViewCertificates(certs)
}

func revocationOf(der []byte) Revocation {
	list, err := revinfo.ParseList(der)
	if err != nil {
		return Revocation{Issuer: "an unreadable name", Unreadable: err.Error()}
	}
	return Revocation{Issuer: cms.NameOf(list.Issuer), ThisUpdate: list.ThisUpdate, NextUpdate: list.NextUpdate, Revoked: list.Entries}
}

// answersOf lists what an OCSP response says, each certificate by its serial number.
func answersOf(der []byte) (answers []OCSPAnswer) {
	response, err := revinfo.ParseResponse(der)
	if err == nil && response.Failure != "" {
		err = errors.New("the responder answered " + response.Failure)
	}
	if err != nil {
		return []OCSPAnswer{{SerialNumber: "an unreadable number", Unreadable: err.Error()}}
	}
	for _, a := range response.Answers {
		answers = append(answers, OCSPAnswer{
			SerialNumber: new(big.Int).SetBytes(a.Serial).Text(16), Status: a.Status, ThisUpdate: a.ThisUpdate, NextUpdate: a.NextUpdate,
		})
	}
	return answers
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
