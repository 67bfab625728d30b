package tpm

import (
	"cmp"
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"time"
)

// Examination is what there is to know about an identity, as far as it was found.
type Examination struct {
	TPM          string             `json:"tpm,omitempty"` // its path; "" for none
	Kind         Kind               `json:"kind"`
	SerialNumber string             `json:"serial_number,omitempty"`
	Key          *KeyFacts          `json:"key,omitempty"`
	Certificate  string             `json:"certificate,omitempty"` // where it was found
	Chain        []CertificateFacts `json:"chain,omitempty"`       // leaf first
	// DecryptKey is what reads encrypted artifacts: nil when nothing does, or the same as Key.
	DecryptKey         *KeyFacts         `json:"decrypt_key,omitempty"`
	DecryptCertificate *CertificateFacts `json:"decrypt_certificate,omitempty"` // what others encrypt for
	Locked             bool              `json:"locked,omitempty"`              // the TPM uses no protected key for a while
	Warnings           []string          `json:"warnings,omitempty"`

	Certificates []*x509.Certificate `json:"-"` // those of Chain
}

// KeyFacts describes a key.
type KeyFacts struct {
	Where     string   `json:"where"`
	Algorithm string   `json:"algorithm"`          // such as "ECDSA P-256"
	Template  Template `json:"template,omitempty"` // the TCG's template it was made from; "" for none of the known
	PublicKey string   `json:"public_key"`         // SHA-256 of its SubjectPublicKeyInfo
	Sign      bool     `json:"sign"`
	PSS       bool     `json:"pss"`           // RSA PSS as TLS 1.3 wants it
	Decrypt   bool     `json:"decrypt"`       // RSA decryption, or agreement on a secret by ECDH
	TLS       string   `json:"tls,omitempty"` // the highest version it can authenticate a client in
}

// CertificateFacts describes a certificate. Times are UTC.
type CertificateFacts struct {
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	Number    string    `json:"number"` // serial number of the certificate, hexadecimal
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	SHA256    string    `json:"sha256"` // of its DER
}

// Examine looks for the identity as Open does and tells what it found, also when something is wrong: then the error is
// Open's, and the rest is what was found until then. now is the time to compare validity periods with. It may make the one
// signature of Probes.
func Examine(ctx context.Context, o Options, now time.Time) (*Examination, error) {
	id, x, err := OpenExamined(ctx, o, now)
	if id != nil {
		_ = id.Close()
	}
	return x, err
}

// OpenExamined is Open and Examine in one, for whom the TPM works only once. There is no identity when there is an error.
func OpenExamined(ctx context.Context, o Options, now time.Time) (*Identity, *Examination, error) {
	id, err := open(ctx, o)
	x, err := id.examine(ctx, o, now, err)
	if err != nil {
		_ = id.Close()
		return nil, x, err
	}
	return id, x, nil
}

// examine tells what there is of an identity whose opening ended with err.
func (id *Identity) examine(ctx context.Context, o Options, now time.Time, err error) (*Examination, error) {
	x := &Examination{Kind: id.Kind, SerialNumber: id.SerialNumber, Certificate: id.Certificate, Warnings: id.Warnings,
		Certificates: id.Chain}
	if id.Kind == KindTPM {
		x.TPM = o.TPM
	}
	if id.identity.key == nil {
		return x, err
	}
	x.Key = id.identity.facts()
	can, failed := id.identity.key.capabilities(ctx)
	if failed == nil {
		x.Key.Sign, x.Key.TLS = true, tls.VersionName(can.maxVersion)
		_, isRSA := id.identity.key.Public().(*rsa.PublicKey)
		x.Key.PSS = isRSA && can.maxVersion == tls.VersionTLS13
	}
	for _, cert := range id.Chain {
		x.Chain = append(x.Chain, *certificateFacts(cert))
	}
	x.Warnings = append(slices.Clone(x.Warnings), id.Doubts(now)...)
	if inTPM, ok := id.identity.key.(*tpmKey); ok && !inTPM.area.ObjectAttributes.NoDA && id.conn.locked(ctx) {
		x.Locked = true
		x.Warnings = append(x.Warnings, "the TPM is locked because of too many wrong passwords, and does not sign: "+endLockout)
	}
	if id.Recipient != nil {
		if _, err := id.DecryptionKey(); err == nil {
			x.DecryptKey, x.DecryptCertificate = x.Key, &x.Chain[0]
			if id.decryption.key != id.identity.key {
				x.DecryptKey, x.DecryptCertificate = id.decryption.facts(), certificateFacts(id.Recipient)
			}
		}
	}
	return x, cmp.Or(err, failed)
}

func (p *pair) facts() *KeyFacts {
	f := &KeyFacts{Where: p.where, Algorithm: Algorithm(p.key.Public()), PublicKey: fingerprint(p.key.Public())}
	if inTPM, ok := p.key.(*tpmKey); ok {
		f.Template = recognise(inTPM.area)
	}
	_, err := p.key.decrypter()
	f.Decrypt = err == nil || p.key.mayAgree() == nil
	return f
}

func certificateFacts(cert *x509.Certificate) *CertificateFacts {
	sum := sha256.Sum256(cert.Raw)
	return &CertificateFacts{
		Subject: cert.Subject.String(), Issuer: cert.Issuer.String(), Number: fmt.Sprintf("%x", cert.SerialNumber),
		NotBefore: cert.NotBefore.UTC(), NotAfter: cert.NotAfter.UTC(), SHA256: hex.EncodeToString(sum[:]),
	}
}

// Doubts says what servers may dislike about the device's certificate and those above it (RFC 5280, IEEE 802.1AR).
func (id *Identity) Doubts(now time.Time) (found []string) {
	if len(id.Chain) == 0 {
		return nil
	}
	for i, cert := range id.Chain {
		name := "the certificate"
		if i > 0 {
			name = "the issuer's certificate for " + quote(cert.Subject.String())
		}
		if now.Before(cert.NotBefore) {
			found = append(found, "by this device's clock "+name+" is not valid yet")
		}
		if now.After(cert.NotAfter) {
			found = append(found, name+" has expired; servers that check will refuse the device")
		}
	}
	leaf := id.Chain[0]
	if leaf.IsCA {
		found = append(found, "the certificate is one of a certification authority, not of a device")
	}
	if leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		found = append(found, "the certificate's key usage does not allow signatures, which TLS needs")
	}
	return found
}
