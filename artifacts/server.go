package artifacts

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/xpu-sztp/ztp/artifacts/cms"
)

// TrustAnchor is a chain of certificates with a self-signed root, of which the lowest must appear in a server's path
// (RFC 8572 §6.1). A plain configured CA certificate is a chain of one.
type TrustAnchor struct {
	Lowest *x509.Certificate
	Chain  []*x509.Certificate // all certificates, from the lowest to the root
}

// PlainAnchors makes a trust anchor of each certificate, as configuration lists them.
func PlainAnchors(certificates []*x509.Certificate) []TrustAnchor {
	anchors := make([]TrustAnchor, 0, len(certificates))
	for _, c := range certificates {
		anchors = append(anchors, TrustAnchor{Lowest: c, Chain: []*x509.Certificate{c}})
	}
	return anchors
}

// ParseTrustAnchor reads the trust-anchor leaf of redirect information: a degenerate CMS SignedData that holds one chain
// of certificates including its self-signed root, in any order (RFC 8572 §6.3). Errors are *Error.
func ParseTrustAnchor(der []byte) (TrustAnchor, error) {
	anchor, _, err := parseTrustAnchor(der, false)
	if err != nil {
		err.Step = StepTrustAnchor
		return TrustAnchor{}, err
	}
	return anchor, nil
}

// parseTrustAnchor also accepts, if lenient, a SignedData that is needlessly signed; nothing relies on that signature.
func parseTrustAnchor(der []byte, lenient bool) (anchor TrustAnchor, warning string, refusal *Error) {
	const fix = "make it with `openssl crl2pkcs7 -nocrl -certfile CHAIN.pem -outform DER`, from one chain with its root"
	message, err := cms.Parse(der)
	if err != nil {
		return anchor, "", container(CodeAnchorMalformed, err)
	}
	if message.Signed == nil || !message.Signed.Degenerate() && !lenient {
		return anchor, "", refuse(CodeAnchorMalformed, "the trust anchor is not a certificates-only CMS SignedData"+notDegenerate(message.Signed), fix, nil)
	}
	if !message.Signed.Degenerate() {
		warning = "the trust anchor is signed, which has no meaning"
	}
	if refusal := untangled(message.Signed.Certificates); refusal != nil {
		return anchor, "", refusal
	}
	if anchor.Chain, err = singleChain(message.Signed.Certificates); err != nil {
		return anchor, "", refuse(CodeAnchorMalformed, "the trust anchor is not one chain with a self-signed root", fix, err)
	}
	anchor.Lowest = anchor.Chain[0]
	return anchor, warning, nil
}

// CanonicalHost returns the one spelling of a host name or IP address that tells whether two mean the same server: the
// canonical formats of RFC 6991 §4, without an IPv6 address's zone, and a name without the dot of the root at its end.
func CanonicalHost(host string) string {
	if address, err := netip.ParseAddr(host); err == nil {
		return address.WithZone("").Unmap().String()
	}
	return strings.TrimSuffix(strings.ToLower(host), ".")
}

// singleChain puts certs in order, from the lowest to the root, by who signed whom.
func singleChain(certs []*x509.Certificate) ([]*x509.Certificate, error) {
	if len(certs) == 0 {
		return nil, errors.New("there are no certificates")
	}
	parents := make(map[*x509.Certificate]*x509.Certificate)
	isParent := make(map[*x509.Certificate]bool)
	for i, child := range certs {
		if slices.ContainsFunc(certs[:i], child.Equal) {
			return nil, fmt.Errorf("certificate of %s appears twice", subject(child))
		}
		for _, parent := range certs {
			if parent == child || !issued(parent, child) {
				continue
			}
			if parents[child] != nil {
				return nil, fmt.Errorf("certificate of %s has two issuers", subject(child))
			}
			parents[child], isParent[parent] = parent, true
		}
	}
	lowest := slices.DeleteFunc(slices.Clone(certs), func(c *x509.Certificate) bool { return isParent[c] })
	if len(lowest) != 1 {
		return nil, fmt.Errorf("%d certificates issued no other, exactly one is the lowest", len(lowest))
	}
	var chain []*x509.Certificate
	for c := lowest[0]; c != nil && len(chain) < len(certs); c = parents[c] {
		chain = append(chain, c)
	}
	root := chain[len(chain)-1]
	if len(chain) != len(certs) {
		return nil, fmt.Errorf("the issuer of the certificate of %s is missing", subject(root))
	}
	if !selfSigned(root) {
		return nil, fmt.Errorf("certificate of %s, the highest, is not self-signed", subject(root))
	}
	return chain, nil
}

// ServerEvidence says that a TLS server was authenticated to a trust anchor. Only AuthenticateServer makes one; the zero
// value is no evidence.
type ServerEvidence struct {
	anchor *x509.Certificate
	leaf   *x509.Certificate
	chain  []*x509.Certificate
	host   string
}

// Valid reports whether e came out of AuthenticateServer.
func (e *ServerEvidence) Valid() bool { return e != nil && e.leaf != nil }

// Anchor returns the certificate the server's path was anchored in, the lowest of its trust anchor.
func (e *ServerEvidence) Anchor() *x509.Certificate { return e.anchor }

// Proof returns what another process of this device can authenticate the server by again, as far as e tells: Port and
// Redirect are left to the caller.
func (e *ServerEvidence) Proof() *ServerProof {
	proof := &ServerProof{Host: e.host}
	for _, c := range e.chain {
		proof.Chain = append(proof.Chain, c.Raw)
	}
	return proof
}

// AuthenticateServer checks the certificate chain a TLS server presented (leaf first) against anchors: path validation
// with the server-authentication key usage, the name or IP check of RFC 6125 for host, and the clock rules of RFC 8572 §9.1
// (without an accurate clock certificates do not expire). Errors are *Error.
func AuthenticateServer(chain []*x509.Certificate, host string, anchors []TrustAnchor, clock Clock) (*ServerEvidence, error) {
	if len(chain) == 0 {
		return nil, &Error{Code: CodeServerUntrusted, Step: StepServerCertificate, Msg: "the server presented no certificate"}
	}
	anchor, err := anchored(chain, anchors, clock)
	if err != nil {
		return nil, err
	}
	if err := matchUsage(chain[0]); err != nil {
		return nil, err
	}
	if err := matchName(chain[0], host); err != nil {
		return nil, err
	}
	return &ServerEvidence{anchor: anchor, leaf: chain[0], chain: chain, host: host}, nil
}

// anchored finds an anchor whose lowest certificate lies on a path from the server to the anchor's root.
func anchored(chain []*x509.Certificate, anchors []TrustAnchor, clock Clock) (*x509.Certificate, error) {
	refusal := &Error{
		Code: CodeServerUntrusted,
		Step: StepServerCertificate,
		Msg:  fmt.Sprintf("certificate of %s, issued by %s, is not trusted", subject(chain[0]), cms.NameOf(chain[0].RawIssuer)),
		Fix:  "have the server send its intermediate certificates, and hand out or configure the CA that issued them as trust anchor",
		Err:  errors.New("there is no trust anchor"),
	}
	for _, a := range anchors {
		if a.Lowest == nil || len(a.Chain) == 0 {
			continue
		}
		paths, err := pathQuery{
			leaf:   chain[0],
			roots:  a.Chain[len(a.Chain)-1:],
			others: slices.Concat(chain[1:], a.Chain),
			usage:  x509.ExtKeyUsageServerAuth,
		}.verify(clock)
		for _, path := range paths {
			if slices.ContainsFunc(path, a.Lowest.Equal) {
				return a.Lowest, nil
			}
			err = fmt.Errorf("the path does not go through the trust anchor's lowest certificate, %s", subject(a.Lowest))
		}
		if errors.Is(err, ErrPeriod) {
			refusal.Code = CodeServerExpired
			refusal.Fix = "renew the certificate, or correct the device's clock"
			refusal.Err = err
			continue
		}
		if refusal.Code != CodeServerExpired {
			refusal.Err = err
		}
	}
	return nil, refusal
}

// matchUsage refuses a key that is for none of what TLS servers do with theirs (RFC 5280 §4.2.1.12).
func matchUsage(leaf *x509.Certificate) error {
	const usages = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement
	if leaf.KeyUsage == 0 || leaf.KeyUsage&usages != 0 {
		return nil
	}
	return &Error{
		Code: CodeServerUntrusted,
		Step: StepServerCertificate,
		Msg:  fmt.Sprintf("the key usage of certificate %s is not that of a TLS server", subject(leaf)),
		Fix:  "issue the server's certificate with key usage digitalSignature",
	}
}

// matchName holds the certificate's subject alternative names against host; the common name is not looked at.
func matchName(leaf *x509.Certificate, host string) error {
	name := host
	if address, err := netip.ParseAddr(host); err == nil {
		name = address.WithZone("").String()
	}
	if err := leaf.VerifyHostname(name); err == nil {
		return nil
	}
	names := certificateNames(leaf)
	holds := "no names or addresses"
	if len(names) > 0 {
		holds = cms.Printable(strings.Join(names, ", "))
	}
	return &Error{
		Code: CodeServerName,
		Step: StepServerName,
		Msg:  fmt.Sprintf("the server was contacted as %s, but its certificate is for %s", cms.Printable(host), holds),
		Fix:  "put the name or IP address in the certificate's subject alternative name, or hand out the name that is there",
	}
}

// certificateNames returns the DNS names and IP addresses a certificate is for.
func certificateNames(c *x509.Certificate) []string {
	names := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

// redirect makes redirect information of the list. Trust anchors are read if trusted and else removed (RFC 8572 §5.5).
func (v *validation) redirect(servers []listedServer, trusted bool) (*Redirect, error) {
	r := &Redirect{Trusted: trusted}
	for _, s := range servers {
		entry := BootstrapServer{Address: s.address, Port: s.port}
		if trusted && s.anchor != nil {
			err := v.step(StepTrustAnchor, func() (string, error) {
				anchor, warning, refusal := parseTrustAnchor(s.anchor, v.policy.Lenient)
				if refusal != nil {
					refusal.Msg = fmt.Sprintf("server %s: %s", s.address, refusal.Msg)
					return "", refusal
				}
				if warning != "" {
					v.warn("server %s: %s", s.address, warning)
				}
				entry.Anchors = []TrustAnchor{anchor}
				return fmt.Sprintf("%s: %s", s.address, subject(anchor.Lowest)), nil
			})
			if err != nil {
				return nil, err
			}
		}
		r.Servers = append(r.Servers, entry)
	}
	return r, nil
}
