package artifacts

import "crypto/x509"

// TrustAnchor is a chain of certificates with a self-signed root, of which the lowest must appear in a server's path
// (RFC 8572 §6.1). A plain configured CA certificate is a chain of one.
type TrustAnchor struct {
	Lowest *x509.Certificate
	Chain  []*x509.Certificate // all certificates, root included
}

// ServerEvidence says that a TLS server was authenticated to a trust anchor. Only AuthenticateServer makes one; the zero
// value is no evidence.
type ServerEvidence struct {
	host   string
	anchor *x509.Certificate
	leaf   *x509.Certificate
}

// Valid reports whether e came out of AuthenticateServer.
func (e *ServerEvidence) Valid() bool { return e != nil && e.leaf != nil }

// Anchor returns the certificate the server's path was anchored in.
func (e *ServerEvidence) Anchor() *x509.Certificate { return e.anchor }

// AuthenticateServer checks the certificate chain a TLS server presented (leaf first) against anchors: path validation
// with the server-authentication key usage, the name or IP check of RFC 6125 for host, and the clock rules of RFC 8572 §9.1
// (without an accurate clock certificates do not expire). Errors are *Error.
func AuthenticateServer(chain []*x509.Certificate, host string, anchors []TrustAnchor, clock Clock) (*ServerEvidence, error) {
	panic("seam")
}
