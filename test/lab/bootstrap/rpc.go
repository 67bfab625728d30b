package bootstrap

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/xpu-sztp/ztp/test/lab/event"
)

// Input is the input of get-bootstrapping-data (RFC 8572 §7.3).
type Input struct {
	SignedDataPreferred Empty  `json:"signed-data-preferred"`
	HWModel             string `json:"hw-model"`
	OSName              string `json:"os-name"`
	OSVersion           string `json:"os-version"`
	Nonce               []byte `json:"nonce"`
}

// Empty is the YANG type empty: present when true (RFC 7951 §6.9).
type Empty bool

// UnmarshalJSON accepts [null] alone.
func (e *Empty) UnmarshalJSON(b []byte) error {
	if !bytes.Equal(bytes.Join(bytes.Fields(b), nil), []byte("[null]")) {
		return fmt.Errorf("a leaf of type empty is [null], not %s", b)
	}
	*e = true
	return nil
}

// ProgressInput is the input of report-progress (RFC 8572 §7.3).
type ProgressInput struct {
	Type             string            `json:"progress-type"`
	Message          string            `json:"message"`
	SSHHostKeys      *sshHostKeys      `json:"ssh-host-keys"`
	TrustAnchorCerts *trustAnchorCerts `json:"trust-anchor-certs"`
}

type sshHostKeys struct {
	Keys []struct {
		Algorithm string `json:"algorithm"`
		KeyData   []byte `json:"key-data"`
	} `json:"ssh-host-key"`
}

type trustAnchorCerts struct {
	Certs [][]byte `json:"trust-anchor-cert"`
}

func (s *Server) getBootstrappingData(w http.ResponseWriter, r *http.Request) {
	if s.refusesJSON(w, r) {
		return
	}
	chain := r.TLS.PeerCertificates
	req := Request{Serial: chain[0].Subject.SerialNumber, Chain: chain, Host: r.Host, Received: time.Now()}
	if err := s.decode(r, &req.Input); err != nil {
		s.refuse(w, req.Serial, GetBootstrappingData, err)
		return
	}
	if err := checkInput(req.Input); err != nil {
		s.refuse(w, req.Serial, GetBootstrappingData, err)
		return
	}
	s.mu.Lock()
	s.requests = append(s.requests, req)
	s.mu.Unlock()
	trust := "trusted"
	if req.Input.SignedDataPreferred {
		trust = "untrusted"
	}
	answer, err := s.options.Answer(req)
	if err != nil {
		s.note(req.Serial, trust, http.StatusNotFound, "nothing for %s: %v", req.Serial, err)
		s.write(w, http.StatusNotFound, "ietf-restconf:errors", restconfErrors("application", "invalid-value", err.Error()))
		return
	}
	s.note(req.Serial, trust, http.StatusOK, "%s", describe(req, answer))
	s.write(w, http.StatusOK, "ietf-sztp-bootstrap-server:output", struct {
		Level string `json:"reporting-level,omitempty"`
		CI    []byte `json:"conveyed-information"`
		OC    []byte `json:"owner-certificate,omitempty"`
		OV    []byte `json:"ownership-voucher,omitempty"`
	}{answer.ReportingLevel, answer.ConveyedInformation, answer.OwnerCertificate, answer.OwnershipVoucher})
}

func (s *Server) note(serial, trust string, status int, format string, args ...any) {
	attrs := []string{"serial", serial, "operation", GetBootstrappingData, "trust", trust, "status", fmt.Sprint(status)}
	s.options.Log.Add(s.options.Name, event.Request, attrs, format, args...)
}

func describe(r Request, a Answer) string {
	answer := a.Summary
	if answer == "" {
		answer = "bootstrapping data"
	}
	if a.OwnershipVoucher != nil {
		answer += ", with owner certificate and voucher"
	}
	if r.Input.SignedDataPreferred {
		return fmt.Sprintf("device %s does not trust this server and prefers signed data → %s", r.Serial, answer)
	}
	return fmt.Sprintf("device %s trusts this server and tells that it is %q with %s %s → %s",
		r.Serial, r.Input.HWModel, r.Input.OSName, r.Input.OSVersion, answer)
}

// checkInput refuses what a device must not send. R9-06: nothing but the preference and a nonce to an untrusted server.
func checkInput(in Input) error {
	if in.SignedDataPreferred && in.HWModel+in.OSName+in.OSVersion != "" {
		return errors.New("a request with signed-data-preferred tells an untrusted server about the device")
	}
	if n := len(in.Nonce); n != 0 && (n < 16 || n > 32) {
		return fmt.Errorf("a nonce of %d bytes: it is 16 to 32", n)
	}
	return nil
}

func (s *Server) reportProgress(w http.ResponseWriter, r *http.Request) {
	if s.refusesJSON(w, r) {
		return
	}
	rep := Report{Serial: r.TLS.PeerCertificates[0].Subject.SerialNumber, Received: time.Now(), Status: http.StatusNoContent}
	err := s.decode(r, &rep.ProgressInput)
	if err == nil {
		err = checkReport(rep.ProgressInput)
	}
	if err != nil {
		s.refuse(w, rep.Serial, ReportProgress, err)
		return
	}
	s.addReport(rep)
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) addReport(rep Report) {
	s.mu.Lock()
	s.reports = append(s.reports, rep)
	s.mu.Unlock()
	text := rep.Type
	if rep.Message != "" {
		text += ": " + rep.Message
	}
	attrs := []string{"serial", rep.Serial, "progress-type", rep.Type, "status", fmt.Sprint(rep.Status)}
	s.options.Log.Add(s.options.Name, event.Report, attrs, "%s", text)
}

func checkReport(in ProgressInput) error {
	if !progressTypes[in.Type] {
		return fmt.Errorf("unknown progress-type %q", in.Type)
	}
	if in.Type != "bootstrap-complete" && (in.SSHHostKeys != nil || in.TrustAnchorCerts != nil) {
		return fmt.Errorf("a report of type %s carries host keys or trust anchors: only bootstrap-complete may", in.Type)
	}
	return nil
}

// decode reads the RESTCONF input document strictly: media type, one member, no unknown leaves.
func (s *Server) decode(r *http.Request, into any) error {
	want := jsonType
	if s.speaksXML() {
		want = xmlType
	}
	for _, name := range []string{"Content-Type", "Accept"} {
		if name == "Accept" && r.Header.Get(name) == "" {
			continue // anything will do
		}
		if mediaType, _, err := mime.ParseMediaType(r.Header.Get(name)); err != nil || mediaType != want {
			return fmt.Errorf("%s %q: use %s", name, r.Header.Get(name), want)
		}
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err == nil && want == xmlType {
		body, err = jsonOf(body)
	}
	if err != nil {
		return err
	}
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(body, &doc); err != nil {
		return fmt.Errorf("the body is not JSON: %w", err)
	}
	const member = "ietf-sztp-bootstrap-server:input"
	if len(doc) != 1 || doc[member] == nil {
		return fmt.Errorf("the body must be one member %q", member)
	}
	d := json.NewDecoder(bytes.NewReader(doc[member]))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

func (s *Server) refuse(w http.ResponseWriter, serial, operation string, err error) {
	err = s.violation(serial, "%s: %w", operation, err)
	s.options.Log.Add(s.options.Name, event.Request, []string{"serial", serial, "operation", operation, "status", "400"},
		"malformed request of %s refused: %v", serial, err)
	s.write(w, http.StatusBadRequest, "ietf-restconf:errors", restconfErrors("protocol", "malformed-message", err.Error()))
}

// restconfErrors is the error document of RFC 8040 §7.1 with one entry.
func restconfErrors(kind, tag, message string) any {
	return map[string]any{"error": []map[string]string{{"error-type": kind, "error-tag": tag, "error-message": message}}}
}
