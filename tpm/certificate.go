package tpm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

const (
	maxCertificates = 64 // taken from all places together
	maxChain        = 10 // certificates that are sent
)

// shelf collects certificates from where they may lie, and remembers what was not one.
type shelf struct {
	found  []located
	notes  []string
	broken []string // notes on what lies where the chain belongs
}

type located struct {
	*x509.Certificate
	where string
}

// findCertificate sets p.chain and p.certificate from the certificates at location that belong to p.key.
func (p *pair) findCertificate(ctx context.Context, location string) error {
	handle, isIndex := parseHandle(location)
	automatic := location == "" || location == "auto"
	if (automatic || isIndex) && p.conn == nil {
		return &Error{Code: CodeCertificateMissing, Msg: "there is no TPM to look for the certificate in",
			Fix: "set identity.certificate to a PEM or DER file"}
	}
	var leaves, issuers shelf
	var err error
	switch {
	case automatic:
		location = "the TPM's NV indices 0x01C90000–0x01C9FFFF"
		err = leaves.scan(ctx, p.conn, identityFirst, identityLast)
	case isIndex:
		location = "NV index " + location
		if err = leaves.addIndex(ctx, p.conn, handle, location); err == nil {
			err = issuers.scan(ctx, p.conn, chainFirst, chainLast)
		}
	default:
		err = leaves.addFile(location)
	}
	if err != nil {
		return err
	}
	leaf, err := leaves.match(p.key.Public(), location, p.where, automatic)
	if err != nil {
		return err
	}
	p.certificate = leaf.where
	p.chain = buildChain(leaf.Certificate, append(leaves.found, issuers.found...))
	for _, note := range append(leaves.broken, issuers.broken...) {
		p.warnings = append(p.warnings, "the certificate chain in the TPM is damaged, servers may not know the maker without it: "+
			note+"; `ztp identity install --force` repairs it")
	}
	return nil
}

func (s *shelf) addFile(path string) error {
	content, err := readFile(path)
	if err != nil {
		return &Error{Code: CodeCertificateMissing, Msg: "cannot read the certificate", Err: err,
			Fix: fixFile(err, `correct identity.certificate: "auto", an NV index such as 0x01C90000, or a file`)}
	}
	s.add(path, content)
	return nil
}

func (s *shelf) addIndex(ctx context.Context, c *conn, handle tpm2.TPMHandle, where string) error {
	if handle < nvFirst || handle > nvLast {
		return &Error{Code: CodeCertificateMissing, Msg: where + " is not an NV index",
			Fix: `identity.certificate must be "auto", an NV index in 0x01000000–0x01FFFFFF, or a file`}
	}
	content, err := c.readNV(ctx, handle, true)
	switch {
	case errors.Is(err, tpm2.TPMRCHandle):
		return &Error{Code: CodeCertificateMissing, Msg: "the TPM has no " + where, Err: err,
			Fix: `set identity.certificate to "auto" to search the usual indices, or to where the maker put it`}
	case err != nil:
		return err
	}
	s.add(where, content)
	return nil
}

// scan adds what lies in the NV indices between first and last. An index that cannot be read is noted, not an error,
// unless the TPM itself does not work.
func (s *shelf) scan(ctx context.Context, c *conn, first, last tpm2.TPMHandle) error {
	var indices []tpm2.TPMHandle
	err := c.do(ctx, commandTimeout, "listing NV indices", func(t *session) (err error) {
		indices, err = handles(t, first, last, maxIndices)
		return err
	})
	if err != nil {
		return err
	}
	total, chained := 0, 0
	var chain []byte
	var broken []string
	for _, h := range indices {
		inChain := h >= chainFirst && h <= chainLast
		where := fmt.Sprintf("NV index 0x%08X", uint32(h))
		if isPolicyIndex(h) {
			continue
		}
		if total > maxNVBytes {
			s.notes = append(s.notes, where+" and those after it were not read, there is too much data")
			break
		}
		content, err := c.readNV(ctx, h, false)
		if err != nil {
			if errors.Is(err, tpm2.TPMRCFailure) || !isRefusal(err) {
				return err
			}
			s.notes = append(s.notes, err.Error())
			if inChain {
				s.broken = append(s.broken, err.Error())
			}
			continue
		}
		total += len(content)
		err = s.add(where, content)
		if inChain {
			chain = append(chain, content...)
			chained++
			if err != nil {
				broken = append(broken, where+": "+err.Error())
			}
		}
	}
	if chained > 1 && s.add("NV indices from 0x01C90100 on", chain) == nil { // a certificate may continue in the next index
		return nil
	}
	s.broken = append(s.broken, broken...)
	return nil
}

// isRefusal reports whether the TPM works but did not give what was asked for.
func isRefusal(err error) bool {
	var known *Error
	var rc tpm2.TPMRC
	return errors.As(err, &known) && known.Code == CodeCertificateMissing || errors.As(err, &rc) && !rc.IsWarning()
}

// add returns why content does not end where the certificates in it do.
func (s *shelf) add(where string, content []byte) error {
	certs, err := parseCertificates(content)
	if err != nil {
		s.notes = append(s.notes, where+": "+err.Error())
	}
	for _, cert := range certs {
		known := slices.ContainsFunc(s.found, func(l located) bool { return l.Equal(cert) })
		if !known && len(s.found) < maxCertificates {
			s.found = append(s.found, located{cert, where})
		}
	}
	return err
}

// parseCertificates reads PEM, or concatenated DER followed by padding or anything else. The error says why reading
// stopped before the end of what looked like certificates; certificates before that are returned nevertheless.
func parseCertificates(content []byte) (certs []*x509.Certificate, err error) {
	if bytes.Contains(content, []byte("-----BEGIN ")) {
		for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
			if block.Type != "CERTIFICATE" {
				continue
			}
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return certs, err
			}
			certs = append(certs, cert)
		}
		return certs, nil
	}
	for rest := cryptobyte.String(content); rest.PeekASN1Tag(asn1.SEQUENCE) && len(certs) < maxCertificates; {
		var der cryptobyte.String
		if !rest.ReadASN1Element(&der, asn1.SEQUENCE) {
			return certs, errors.New("it ends in the middle of a certificate")
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return certs, err
		}
		certs = append(certs, cert)
	}
	switch {
	case len(certs) > 0 || len(content) == 0:
		return certs, nil
	case content[0] == 0xFF || content[0] == 0: // what memory holds before it is written
		return nil, errors.New("its beginning was never written, perhaps because the power failed")
	}
	return nil, errors.New("it does not hold a certificate")
}

// match returns the certificate for a public key. Of several it prefers one that a CA issued, then the youngest.
func (s *shelf) match(public crypto.PublicKey, location, key string, automatic bool) (located, error) {
	var best *located
	var others []string
	for i, l := range s.found {
		if !samePublicKey(public, l.PublicKey) {
			if !automatic || !l.IsCA {
				others = append(others, fmt.Sprintf("%s in %s is for public key %s",
					quote(l.Subject.String()), l.where, fingerprint(l.PublicKey)))
			}
			continue
		}
		if best == nil || betterLeaf(l.Certificate, best.Certificate) {
			best = &s.found[i]
		}
	}
	switch {
	case best != nil:
		return *best, nil
	case len(others) > 0:
		if len(others) > 3 {
			others = append(others[:3], fmt.Sprintf("and %d more", len(others)-3))
		}
		return located{}, &Error{Code: CodeMismatch,
			Msg: "no certificate is for the key in " + key + ", whose public key is " + fingerprint(public) +
				", but " + strings.Join(others, "; "),
			Fix: "point identity.key and identity.certificate at a pair that belongs together, or install the right certificate"}
	}
	msg := "there is no certificate for the key in " + key + " in " + location
	if len(s.notes) > 0 {
		msg += " (" + strings.Join(s.notes[:min(len(s.notes), 5)], "; ") + ")"
	}
	return located{}, &Error{Code: CodeCertificateMissing, Msg: msg,
		Fix: "install the device's certificate (ztp identity install, with --force over one that is damaged), or set " +
			"identity.certificate to where it is"}
}

func betterLeaf(a, b *x509.Certificate) bool {
	if selfA, selfB := selfIssued(a), selfIssued(b); selfA != selfB {
		return selfB
	}
	return a.NotBefore.After(b.NotBefore)
}

func selfIssued(c *x509.Certificate) bool { return bytes.Equal(c.RawIssuer, c.RawSubject) }

// buildChain orders certificates from leaf upwards, each the issuer of the one before, as far as they go.
func buildChain(leaf *x509.Certificate, pool []located) []*x509.Certificate {
	chain := []*x509.Certificate{leaf}
	for len(chain) < maxChain {
		last := chain[len(chain)-1]
		i := slices.IndexFunc(pool, func(l located) bool {
			return bytes.Equal(l.RawSubject, last.RawIssuer) && !slices.ContainsFunc(chain, l.Equal) &&
				l.CheckSignature(last.SignatureAlgorithm, last.RawTBSCertificate, last.Signature) == nil
		})
		if i < 0 || selfIssued(last) {
			break
		}
		chain = append(chain, pool[i].Certificate)
	}
	return chain
}

func samePublicKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// fingerprint names a public key by the SHA-256 of its SubjectPublicKeyInfo.
func fingerprint(public crypto.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return fmt.Sprintf("of unsupported kind %T", public)
	}
	sum := sha256.Sum256(der)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Algorithm names the kind of a public key for people, such as "ECDSA P-256" or "RSA 2048".
func Algorithm(public crypto.PublicKey) string {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		return "ECDSA " + key.Curve.Params().Name
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", key.N.BitLen())
	}
	return fmt.Sprintf("%T", public)
}
