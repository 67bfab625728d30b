// Package opensslpki makes certificates, revocation lists and CMS messages for tests with the OpenSSL command line, so that
// what this project reads was not also written by it. Failures panic: there is no test without the fixtures.
package opensslpki

import (
	"crypto/x509"
	encodingasn1 "encoding/asn1"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Workspace is a folder that holds keys, certificates and intermediate files.
type Workspace struct {
	dir   string
	files int
}

// Entity is a certificate with its key.
type Entity struct {
	Certificate *x509.Certificate
	CertFile    string // PEM
	KeyFile     string // PEM
}

// New returns a workspace in dir, which must exist.
func New(dir string) *Workspace {
	w := &Workspace{dir: dir}
	must(os.WriteFile(w.path("req.cnf"), []byte("[req]\ndistinguished_name=dn\n[dn]\n"), 0o600))
	return w
}

func (w *Workspace) path(name string) string { return filepath.Join(w.dir, name) }

// temp returns the path of a new file.
func (w *Workspace) temp(suffix string) string {
	w.files++
	return w.path(fmt.Sprintf("%d%s", w.files, suffix))
}

// Write puts data into a new file and returns its path.
func (w *Workspace) Write(data []byte) string {
	f := w.temp(".bin")
	must(os.WriteFile(f, data, 0o600))
	return f
}

// Run runs openssl and returns its standard output.
func (w *Workspace) Run(args ...string) []byte {
	out, err := w.Try(args...)
	must(err)
	return out
}

// Try is Run for what openssl may refuse.
func (w *Workspace) Try(args ...string) ([]byte, error) {
	cmd := exec.Command("openssl", args...)
	cmd.Dir = w.dir
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("openssl %s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return out, nil
}

// Extensions of the common kinds of certificates.
var (
	Authority = []string{"basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"}
	Signer    = []string{"basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature"}
)

// Issue makes a P-256 key and a certificate for subject such as "/CN=x", signed by issuer or, when that is nil, by itself.
func (w *Workspace) Issue(issuer *Entity, subject string, extensions ...string) *Entity {
	return w.IssueKey([]string{"ec", "-pkeyopt", "ec_paramgen_curve:P-256"}, issuer, subject, extensions...)
}

// IssueKey is Issue with the argument of -newkey, and what follows it, in key.
func (w *Workspace) IssueKey(key []string, issuer *Entity, subject string, extensions ...string) *Entity {
	keyFile := w.temp(".key")
	return w.issue(keyFile, append([]string{"-keyout", keyFile, "-newkey"}, key...), issuer, subject, extensions)
}

// Recertify is Issue for the key of e, which gets another certificate.
func (w *Workspace) Recertify(e, issuer *Entity, subject string, extensions ...string) *Entity {
	return w.issue(e.KeyFile, []string{"-key", e.KeyFile}, issuer, subject, extensions)
}

// issue adds key identifiers unless extensions say what they are.
func (w *Workspace) issue(keyFile string, key []string, issuer *Entity, subject string, extensions []string) *Entity {
	e := &Entity{CertFile: w.temp(".pem"), KeyFile: keyFile}
	args := append([]string{"req", "-x509", "-config", w.path("req.cnf"), "-nodes", "-days", "3650", "-sha256",
		"-subj", subject, "-out", e.CertFile}, key...)
	if issuer != nil {
		args = append(args, "-CA", issuer.CertFile, "-CAkey", issuer.KeyFile)
	}
	for _, x := range []string{"subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid"} {
		name, _, _ := strings.Cut(x, "=")
		if !slices.ContainsFunc(extensions, func(other string) bool { return strings.HasPrefix(other, name+"=") }) {
			args = append(args, "-addext", x)
		}
	}
	for _, x := range extensions {
		args = append(args, "-addext", x)
	}
	w.Run(args...)
	var err error
	e.Certificate, err = x509.ParseCertificate(readPEM(e.CertFile).Bytes)
	must(err)
	return e
}

// PEM puts the certificates of entities into one file and returns its path.
func (w *Workspace) PEM(entities ...*Entity) string {
	var all []byte
	for _, e := range entities {
		text, err := os.ReadFile(e.CertFile)
		must(err)
		all = append(all, text...)
	}
	return w.Write(all)
}

// Sign makes a SignedData over content, in DER, with the certificate inside unless args say "-nocerts".
func (w *Workspace) Sign(signer *Entity, content []byte, args ...string) []byte {
	der, err := w.TrySign(signer, content, args...)
	must(err)
	return der
}

// TrySign is Sign for what openssl may refuse.
func (w *Workspace) TrySign(signer *Entity, content []byte, args ...string) ([]byte, error) {
	return w.Try(append([]string{"cms", "-sign", "-binary", "-nodetach", "-nosmimecap", "-in", w.Write(content),
		"-signer", signer.CertFile, "-inkey", signer.KeyFile, "-outform", "DER"}, args...)...)
}

// Encrypt makes an EnvelopedData in DER.
func (w *Workspace) Encrypt(recipient *Entity, content []byte, args ...string) []byte {
	args = append([]string{"cms", "-encrypt", "-binary", "-in", w.Write(content), "-outform", "DER"}, args...)
	return w.Run(append(args, recipient.CertFile)...)
}

// Certificates makes a degenerate SignedData with the certificates of entities and the revocation lists and OCSP responses in crlFiles.
func (w *Workspace) Certificates(entities []*Entity, crlFiles ...string) []byte {
	if len(crlFiles) == 0 {
		return w.Run("crl2pkcs7", "-certfile", w.PEM(entities...), "-outform", "DER", "-nocrl")
	}
	return Degenerate(entities, crlFiles...) // crl2pkcs7 puts in one list at most
}

// Degenerate is Certificates without the help of OpenSSL.
func Degenerate(entities []*Entity, crlFiles ...string) []byte {
	return ContentInfo("1.2.840.113549.1.7.2", func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1Int64(1)
			b.AddASN1(asn1.SET, func(*cryptobyte.Builder) {})
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oid("1.2.840.113549.1.7.1")) })
			b.AddASN1(asn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
				for _, e := range entities {
					b.AddBytes(e.Certificate.Raw)
				}
			})
			if len(crlFiles) > 0 {
				addCRLs(b, crlFiles)
			}
			b.AddASN1(asn1.SET, func(*cryptobyte.Builder) {})
		})
	})
}

// AddCRLs puts revocation lists and OCSP responses into a SignedData that has certificates and no lists yet; no signature
// covers them.
func AddCRLs(der []byte, crlFiles ...string) []byte {
	set := asn1.Tag(0).ContextSpecific().Constructed()
	in := cryptobyte.String(der)
	var info, content, signed, version, digests, encap, certs cryptobyte.String
	if !in.ReadASN1(&info, asn1.SEQUENCE) || !info.SkipASN1(asn1.OBJECT_IDENTIFIER) || !info.ReadASN1(&content, set) ||
		!content.ReadASN1(&signed, asn1.SEQUENCE) || !signed.ReadASN1Element(&version, asn1.INTEGER) ||
		!signed.ReadASN1Element(&digests, asn1.SET) || !signed.ReadASN1Element(&encap, asn1.SEQUENCE) ||
		!signed.ReadASN1Element(&certs, set) {
		panic("not a SignedData with certificates")
	}
	return ContentInfo("1.2.840.113549.1.7.2", func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddBytes(slices.Concat(version, digests, encap, certs))
			addCRLs(b, crlFiles)
			b.AddBytes(signed)
		})
	})
}

func addCRLs(b *cryptobyte.Builder, files []string) {
	b.AddASN1(asn1.Tag(1).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
		for _, f := range files {
			block := readPEM(f)
			if block.Type != typeOCSP {
				b.AddBytes(block.Bytes)
				continue
			}
			b.AddASN1(asn1.Tag(1).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { // RFC 5940 §2.1
				b.AddASN1ObjectIdentifier(oid("1.3.6.1.5.5.7.16.2"))
				b.AddBytes(block.Bytes)
			})
		}
	})
}

// ContentInfo makes a ContentInfo whose content add writes.
func ContentInfo(contentType string, add func(*cryptobyte.Builder)) []byte {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid(contentType))
		b.AddASN1(asn1.Tag(0).ContextSpecific().Constructed(), add)
	})
	return b.BytesOrPanic()
}

// Data makes a ContentInfo of an OCTET STRING.
func Data(contentType string, content []byte) []byte {
	return ContentInfo(contentType, func(b *cryptobyte.Builder) { b.AddASN1OctetString(content) })
}

func oid(text string) encodingasn1.ObjectIdentifier {
	var parsed encodingasn1.ObjectIdentifier
	for _, arc := range strings.Split(text, ".") {
		n, err := strconv.Atoi(arc)
		must(err)
		parsed = append(parsed, n)
	}
	return parsed
}

func readPEM(file string) *pem.Block {
	text, err := os.ReadFile(file)
	must(err)
	block, _ := pem.Decode(text)
	return block
}

// CRL makes a revocation list of issuer that is valid from start to end and names the revoked, and returns its PEM file.
func (w *Workspace) CRL(issuer *Entity, start, end time.Time, revoked ...*Entity) string {
	return w.CRLWith("authorityKeyIdentifier=keyid", issuer, start, end, revoked...)
}

// CRLWith is CRL with extensions in the language of OpenSSL's configuration files.
func (w *Workspace) CRLWith(extensions string, issuer *Entity, start, end time.Time, revoked ...*Entity) string {
	database := w.Write([]byte(index(nil, revoked)))
	config := w.Write([]byte("[ca]\ndefault_ca=d\n[d]\ndatabase=" + database + "\ndefault_md=sha256\ncrl_extensions=x\n[x]\n" + extensions + "\n"))
	out := w.temp(".crl")
	const format = "20060102150405Z"
	w.Run("ca", "-gencrl", "-config", config, "-cert", issuer.CertFile, "-keyfile", issuer.KeyFile, "-out", out,
		"-crl_lastupdate", start.UTC().Format(format), "-crl_nextupdate", end.UTC().Format(format))
	return out
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
