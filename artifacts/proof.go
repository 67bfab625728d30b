package artifacts

import (
	"crypto/x509"
	"fmt"
)

// Proof is what a validation started from, apart from what the device knows itself: with it another process of the device
// can validate again instead of believing the one that says it has. It proves nothing by itself, and may be anything.
type Proof struct {
	Bundle Bundle       `json:"bundle"`
	Nonce  []byte       `json:"nonce,omitempty"`  // Policy.Nonce; of whoever asked the server
	Server *ServerProof `json:"server,omitempty"` // nil when Bundle did not come from an authenticated server
}

// ServerProof is why a server may be taken for an authenticated one. That a handshake took place with whoever has the key of
// the certificate cannot be proved to others: that remains the word of the process that made it.
type ServerProof struct {
	Chain    [][]byte `json:"chain"` // DER, leaf first, as the server presented it
	Host     string   `json:"host"`
	Port     uint16   `json:"port"`
	Redirect *Proof   `json:"redirect,omitempty"` // where host, port and trust anchor came from; nil when they are configured
}

// maxProofs bounds how many redirects a proof may consist of; package agent follows ten.
const maxProofs = 12

// Judge does again what led to p: authentication of the servers, validation of each redirect on the way, and of the data in
// the end. configured has the servers that are trusted without a redirect, with their trust anchors. Errors are *Error.
func (p *Proof) Judge(configured []BootstrapServer, d Device, policy Policy) (*Conveyed, error) {
	return p.judge(configured, d, policy, maxProofs)
}

func (p *Proof) judge(servers []BootstrapServer, d Device, policy Policy, left int) (*Conveyed, error) {
	var evidence *ServerEvidence
	if p.Server != nil {
		if left == 0 {
			return nil, unproven(p.Server, fmt.Sprintf("more than %d redirects led to it", maxProofs-1))
		}
		if p.Server.Redirect != nil {
			redirect, err := p.Server.Redirect.judge(servers, d, policy, left-1)
			if err != nil {
				return nil, err
			}
			if redirect.Redirect == nil || !redirect.Redirect.Trusted {
				return nil, unproven(p.Server, "what led to it is no redirect information that can be trusted")
			}
			servers = redirect.Redirect.Servers
		}
		var err error
		if evidence, err = p.Server.authenticate(servers, policy.Clock); err != nil {
			return nil, err
		}
	}
	policy.Nonce = p.Nonce
	conveyed, _, err := Validate(p.Bundle, evidence, d, policy)
	return conveyed, err
}

// authenticate finds the server among those that may be trusted.
func (s *ServerProof) authenticate(servers []BootstrapServer, clock Clock) (*ServerEvidence, error) {
	var chain []*x509.Certificate
	for _, der := range s.Chain[:min(len(s.Chain), maxPresented)] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, unproven(s, "its certificate cannot be read")
		}
		chain = append(chain, c)
	}
	if refusal := untangled(chain); refusal != nil {
		return nil, refusal
	}
	for _, known := range servers {
		if CanonicalHost(known.Address) == CanonicalHost(s.Host) && known.Port == s.Port {
			return AuthenticateServer(chain, s.Host, known.Anchors, clock)
		}
	}
	return nil, unproven(s, "nobody who is trusted has named it")
}

// maxPresented is how many certificates of a server are looked at.
const maxPresented = 16

func unproven(s *ServerProof, why string) *Error {
	return &Error{Code: CodeServerUntrusted, Step: StepServerCertificate, Fix: "see in the log what led to this server",
		Msg: fmt.Sprintf("%q was not authenticated: %s", s.Host, why)}
}
