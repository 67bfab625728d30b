package restconf

import (
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"syscall"
)

// Alerts with which servers refuse a client's certificate (RFC 8446 §6.2).
var certificateAlerts = []tls.AlertError{
	42,  // bad_certificate
	43,  // unsupported_certificate
	44,  // certificate_revoked
	45,  // certificate_expired
	46,  // certificate_unknown
	48,  // unknown_ca
	49,  // access_denied
	116, // certificate_required
}

const (
	msgCertificateRefused = "the server refused the device's certificate"
	fixCertificateRefused = "check that the server trusts the authority that issued the device's identity and knows the device"
)

// isRemoteAlert reports whether err is an alert that the server sent. crypto/tls marks it so, with an unexported type for
// the alert whose text is that of tls.AlertError.
func isRemoteAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

func explainAlert(err error) *Error {
	var op *net.OpError
	errors.As(err, &op)
	if slices.ContainsFunc(certificateAlerts, func(a tls.AlertError) bool { return a.Error() == op.Err.Error() }) {
		return fail(CodeCertificateRefused, msgCertificateRefused, fixCertificateRefused, err)
	}
	return fail(CodeTLSFailure, "the server ended the TLS connection", "check the server's TLS versions and algorithms", err)
}

// isReset reports whether the peer dropped the connection without a word.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
