// Package pki makes the certificate hierarchies of a provisioning network: the device maker's (IDevIDs and vouchers), the
// owner's (owner certificates) and those of TLS servers. Keys live in memory or in plain PEM files; it is for laboratories.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"net"
	"time"
)

// Forever is the notAfter of certificates that do not expire (RFC 5280 §4.1.2.5, IEEE 802.1AR).
var Forever = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// oidMASAURL is id-pe-masa-url (RFC 8995 §2.3.2).
var oidMASAURL = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 32}

// Entity is a certificate with its private key and the entity that issued it.
type Entity struct {
	Certificate *x509.Certificate
	Key         crypto.Signer // nil when the key is elsewhere, such as in a TPM
	Issuer      *Entity       // nil for a root
}

// Profile says what a certificate is for. Zero values: a key on P-256, valid from an hour ago for ten years, no names.
type Profile struct {
	CommonName   string
	Organization string
	SerialNumber string // the subject attribute 2.5.4.5
	CA           bool
	KeyUsage     x509.KeyUsage // zero: keyCertSign and cRLSign for a CA, else digitalSignature
	ExtKeyUsage  []x509.ExtKeyUsage
	DNSNames     []string
	IPs          []net.IP
	NotBefore    time.Time
	NotAfter     time.Time
	MASAURL      string   // id-pe-masa-url, for IDevIDs
	CRLs         []string // URLs of the issuer's revocation list
	OCSP         []string // URLs of the issuer's OCSP responders
	Key          KeyType
}

// KeyType is an algorithm with its size.
type KeyType string

// The key types. The empty one is P256.
const (
	P256    KeyType = "p256"
	P384    KeyType = "p384"
	RSA2048 KeyType = "rsa2048"
	RSA3072 KeyType = "rsa3072"
)

// NewKey makes a private key.
func NewKey(t KeyType) (crypto.Signer, error) {
	switch t {
	case P256, "":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case P384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	}
	return nil, fmt.Errorf("unknown key type %q: use p256, p384, rsa2048 or rsa3072", t)
}

// Root makes a self-signed CA.
func Root(p Profile) (*Entity, error) {
	p.CA = true
	return issue(nil, p)
}

// SelfSigned makes a self-signed end-entity certificate.
func SelfSigned(p Profile) (*Entity, error) { return issue(nil, p) }

// Issue makes a key and a certificate for it, signed by e.
func (e *Entity) Issue(p Profile) (*Entity, error) { return issue(e, p) }

func issue(issuer *Entity, p Profile) (*Entity, error) {
	key, err := NewKey(p.Key)
	if err != nil {
		return nil, err
	}
	self := &Entity{Key: key, Issuer: issuer}
	template, err := p.template()
	if err != nil {
		return nil, err
	}
	if issuer == nil {
		self.Certificate, err = create(template, template, key.Public(), key)
	} else {
		self.Certificate, err = create(template, issuer.Certificate, key.Public(), issuer.Key)
	}
	return self, err
}

// Certify signs a certificate for a public key whose private half is elsewhere.
func (e *Entity) Certify(p Profile, pub crypto.PublicKey) (*Entity, error) {
	template, err := p.template()
	if err != nil {
		return nil, err
	}
	cert, err := create(template, e.Certificate, pub, e.Key)
	return &Entity{Certificate: cert, Issuer: e}, err
}

func create(template, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		return nil, fmt.Errorf("certificate for %s: %w", template.Subject, err)
	}
	return x509.ParseCertificate(der)
}

func (p Profile) template() (*x509.Certificate, error) {
	number, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber:          number.Add(number, big.NewInt(1)),
		Subject:               pkix.Name{CommonName: p.CommonName, SerialNumber: p.SerialNumber},
		NotBefore:             p.NotBefore,
		NotAfter:              p.NotAfter,
		KeyUsage:              p.KeyUsage,
		ExtKeyUsage:           p.ExtKeyUsage,
		DNSNames:              p.DNSNames,
		IPAddresses:           p.IPs,
		BasicConstraintsValid: true,
		IsCA:                  p.CA,
		CRLDistributionPoints: p.CRLs,
		OCSPServer:            p.OCSP,
	}
	if p.Organization != "" {
		t.Subject.Organization = []string{p.Organization}
	}
	if t.NotBefore.IsZero() {
		t.NotBefore = time.Now().Add(-time.Hour)
	}
	if t.NotAfter.IsZero() {
		t.NotAfter = t.NotBefore.AddDate(10, 0, 0)
	}
	if t.KeyUsage == 0 {
		t.KeyUsage = x509.KeyUsageDigitalSignature
		if p.CA {
			t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
		}
	}
	if p.MASAURL != "" {
		value, err := asn1.MarshalWithParams(p.MASAURL, "ia5")
		if err != nil {
			return nil, fmt.Errorf("MASA URL %q: %w", p.MASAURL, err)
		}
		t.ExtraExtensions = []pkix.Extension{{Id: oidMASAURL, Value: value}}
	}
	return t, nil
}

// Chain returns the certificates from e up to its root.
func (e *Entity) Chain() []*x509.Certificate {
	var chain []*x509.Certificate
	for ; e != nil; e = e.Issuer {
		chain = append(chain, e.Certificate)
	}
	return chain
}

// Path returns the chain without its root, as TLS servers and clients send it; a root alone is returned itself.
func (e *Entity) Path() []*x509.Certificate {
	chain := e.Chain()
	return chain[:max(1, len(chain)-1)]
}

// TLS returns e as a certificate for crypto/tls, with its intermediates.
func (e *Entity) TLS() tls.Certificate {
	t := tls.Certificate{PrivateKey: e.Key, Leaf: e.Certificate}
	for _, c := range e.Path() {
		t.Certificate = append(t.Certificate, c.Raw)
	}
	return t
}

// Pool returns e's certificate as a pool of trust anchors.
func (e *Entity) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(e.Certificate)
	return pool
}

// MASAURL returns the MASA URL in an IDevID certificate, or "" when there is none.
func MASAURL(c *x509.Certificate) string {
	for _, e := range c.Extensions {
		if !e.Id.Equal(oidMASAURL) {
			continue
		}
		var url string
		if rest, err := asn1.UnmarshalWithParams(e.Value, &url, "ia5"); err == nil && len(rest) == 0 {
			return url
		}
	}
	return ""
}
