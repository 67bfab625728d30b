// Package masa is a manufacturer's voucher service and its client. The owner's bootstrap server asks it over HTTPS, at the
// URL in the device's IDevID, with a voucher request signed by the owner (the registrar's request of RFC 8995 §5.5); the
// service looks into its sales ledger and answers with an ownership voucher (RFC 8366) that pins the owner's root.
package masa

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/smallstep/pkcs7"

	"github.com/xpu-sztp/ztp/test/lab/artifact"
	"github.com/xpu-sztp/ztp/test/lab/event"
	"github.com/xpu-sztp/ztp/test/lab/pki"
)

// Path is where voucher requests are posted (RFC 8995 §5).
const Path = "/.well-known/brski/requestvoucher"

// MediaType is the type of voucher requests and vouchers (RFC 8366 §8.3).
const MediaType = "application/voucher-cms+json"

const maxRequest = 1 << 20

// Service is the voucher service. It is an http.Handler.
type Service struct {
	Signer *pki.Entity
	Log    *event.Log

	mu     sync.Mutex
	sales  map[string][sha256.Size]byte // serial number → fingerprint of the owner's root
	modify func(*artifact.Voucher)
}

// Sell notes that the device with the serial number belongs to the owner with the given root.
func (s *Service) Sell(serial string, root *x509.Certificate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sales == nil {
		s.sales = map[string][sha256.Size]byte{}
	}
	s.sales[serial] = sha256.Sum256(root.Raw)
}

// Modify makes every later voucher pass through f before it is signed: a knob for vouchers that a device must refuse. A nil
// f ends that.
func (s *Service) Modify(f func(*artifact.Voucher)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.modify = f
}

// ServeHTTP answers voucher requests.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || r.URL.Path != Path {
		http.NotFound(w, r)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	voucher, v, err := s.issue(body)
	if err != nil {
		s.Log.Add("masa", event.Voucher, []string{"error", err.Error()}, "voucher refused: %v", err)
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	s.Log.Add("masa", event.Voucher, []string{"serial", v.SerialNumber},
		"voucher issued: device %s belongs to %q", v.SerialNumber, v.Pinned.Subject.CommonName)
	w.Header().Set("Content-Type", MediaType)
	w.Write(voucher)
}

func (s *Service) issue(body []byte) ([]byte, *artifact.Voucher, error) {
	request, root, err := verify(body)
	if err != nil {
		return nil, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if sold, ok := s.sales[request.SerialNumber]; !ok || sold != sha256.Sum256(root.Raw) {
		return nil, nil, fmt.Errorf("device %q was not sold to %q", request.SerialNumber, root.Subject.CommonName)
	}
	v := &artifact.Voucher{
		CreatedOn:    time.Now().Add(-time.Minute),
		Assertion:    "verified",
		SerialNumber: request.SerialNumber,
		IDevIDIssuer: request.IDevIDIssuer,
		Pinned:       root,
		Nonce:        request.Nonce,
	}
	if len(v.Nonce) == 0 {
		v.ExpiresOn = v.CreatedOn.AddDate(0, 1, 0)
	}
	if s.modify != nil {
		s.modify(v)
	}
	signed, err := v.Sign(s.Signer)
	return signed, v, err
}

// request is the voucher-request document of RFC 8995 §3.
type request struct {
	CreatedOn    time.Time `json:"created-on"`
	SerialNumber string    `json:"serial-number"`
	IDevIDIssuer []byte    `json:"idevid-issuer,omitempty"`
	Nonce        []byte    `json:"nonce,omitempty"`
	Assertion    string    `json:"assertion,omitempty"`
}

const requestMember = "ietf-voucher-request:voucher"

// verify checks a voucher request's signature and returns its content and the root of the signer's chain, which is the
// domain certificate to pin (RFC 8995 §5.5.2).
func verify(body []byte) (request, *x509.Certificate, error) {
	var none request
	p7, err := pkcs7.Parse(body)
	if err != nil {
		return none, nil, fmt.Errorf("the voucher request is not CMS signed data: %w", err)
	}
	if err := p7.Verify(); err != nil {
		return none, nil, fmt.Errorf("the voucher request's signature does not verify: %w", err)
	}
	signer := p7.GetOnlySigner()
	if signer == nil {
		return none, nil, errors.New("the voucher request needs exactly one signer")
	}
	roots, others := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range p7.Certificates {
		if bytes.Equal(c.RawIssuer, c.RawSubject) {
			roots.AddCert(c)
		} else {
			others.AddCert(c)
		}
	}
	chains, err := signer.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: others, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return none, nil, fmt.Errorf("the voucher request's signer has no path to a root in the request: %w", err)
	}
	var doc map[string]request
	if err := json.Unmarshal(p7.Content, &doc); err != nil {
		return none, nil, fmt.Errorf("the voucher request is not JSON: %w", err)
	}
	r, ok := doc[requestMember]
	if !ok || r.SerialNumber == "" {
		return none, nil, errors.New("the voucher request names no serial-number")
	}
	return r, chains[0][len(chains[0])-1], nil
}
