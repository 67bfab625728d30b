package restconf

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/xpu-sztp/ztp/pkg/reason"
)

// Reasons why a bootstrap server could not be used. Failures of server authentication keep the codes of artifacts.
const (
	CodeConnectFailed      reason.Code = "connect-failed"             // no TCP connection
	CodeTLSFailure         reason.Code = "tls-failure"                // the handshake failed for a reason of its own
	CodeCertificateRefused reason.Code = "client-certificate-refused" // the server did not accept the device's certificate
	CodeSignatureFailed    reason.Code = "signature-failed"           // the device's key could not sign the handshake
	CodeConnectionLost     reason.Code = "connection-lost"            // the connection ended before the reply did
	CodeServerTimeout      reason.Code = "server-timeout"             // the server did not reply in time
	CodeUnauthorized       reason.Code = "http-unauthorized"          // 401 or 403
	CodeNoData             reason.Code = "no-data-for-device"         // 404
	CodeRequestRefused     reason.Code = "request-refused"            // any other 4xx
	CodeServerError        reason.Code = "server-error"               // 5xx
	CodeNotBootstrapServer reason.Code = "not-a-bootstrap-server"     // HTML, a redirect, a media type of something else
	CodeBadReply           reason.Code = "bad-reply"                  // a bootstrap server's reply that is malformed or too large
	CodeReportRefused      reason.Code = "report-refused"             // a report was not answered with 204 (R5.6-05)
	CodeNotAuthenticated   reason.Code = "server-not-authenticated"   // a report was to go to a provisional server (R5.6-04)
)

// explained lends its fields and methods to Error; embedded under its own name it would hide the method Error.
type explained = reason.Error

// Error says why a bootstrap server could not be used. It has the fields and methods of reason.Error.
type Error struct {
	explained
	Status     int           // HTTP status of the reply; 0 when there was none
	RetryAfter time.Duration // how long the server asked to wait with a 4xx or 5xx (RFC 9110 §10.2.3), at most a day; 0 when it did not
	Replies    []ErrorReply  // the errors of the reply's body, when it had any
}

// ErrorReply is one entry of a RESTCONF errors body (RFC 8040 §7.1), reduced to printable text.
type ErrorReply struct {
	Type, Tag, AppTag, Path, Message string
}

func fail(code reason.Code, msg, fix string, err error) *Error {
	return &Error{explained: explained{Code: code, Msg: msg, Fix: fix, Err: err}}
}

// printable makes text from the network fit for a terminal and a log: valid UTF-8, one line, at most limit runes.
func printable(text string, limit int) string {
	var b strings.Builder
	count, space := 0, false
	for text != "" {
		r, size := utf8.DecodeRuneInString(text)
		text = text[size:]
		if unicode.IsSpace(r) || !unicode.IsPrint(r) {
			space = count > 0
			continue
		}
		if count == limit {
			return b.String() + "…"
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		b.WriteRune(r)
		count++
	}
	return b.String()
}
