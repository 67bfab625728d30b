package restconf

import (
	"bytes"
	"fmt"
	"net/url"
	"unicode/utf8"

	"github.com/xpu-sztp/ztp/artifacts/strictjson"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

// Bounds on what a refusal may say to a person: entries, and runes per text.
const (
	maxErrorEntries = 8
	maxErrorText    = 256
)

// refusedData explains a reply to get-bootstrapping-data that is not 200 (RFC 8040 §7).
func refusedData(rep *reply) *Error {
	switch {
	case certificateRefused(rep):
		return refusal(rep, CodeCertificateRefused, msgCertificateRefused, fixCertificateRefused)
	case rep.status == 401 || rep.status == 403:
		return refusal(rep, CodeUnauthorized, "the server does not let this device in",
			"check that the device's serial number and issuing authority are registered at the server")
	case rep.status == 404:
		return refusal(rep, CodeNoData, "the server has nothing for this device",
			"add the device to the bootstrap server; if it is there, check that the address is that of a bootstrap server")
	case rep.status >= 500:
		return refusal(rep, CodeServerError, "the server failed", "look at the bootstrap server's log")
	case rep.status >= 400:
		return refusal(rep, CodeRequestRefused, "the server refused the request", "look at the bootstrap server's log")
	case rep.status >= 300:
		return refusal(rep, CodeNotBootstrapServer, "the server redirects to "+destination(rep)+" by HTTP, which is not followed",
			"check the address; a captive portal may be in between. Bootstrap servers redirect by redirect information")
	}
	return refusal(rep, CodeBadReply, "the server answered without bootstrapping data", "correct the bootstrap server")
}

// certificateRefused recognizes nginx, a common front of bootstrap servers, which finishes the handshake with a client
// whose certificate it does not accept and then answers 400 with a page that says so (its internal codes 495 and 496).
func certificateRefused(rep *reply) bool {
	return rep.status == 495 || rep.status == 496 ||
		rep.status == 400 && rep.mediaType == "text/html" && bytes.Contains(rep.body, []byte("SSL certificate"))
}

// destination says where a reply redirects to, without path and query.
func destination(rep *reply) string {
	u, err := url.Parse(rep.header.Get("Location"))
	switch {
	case err != nil:
		return "a malformed URL"
	case u.Host == "":
		return "itself"
	}
	return printable(u.Scheme+"://"+u.Host, 128)
}

// refusal makes an error of a reply: what the device takes it for, the status, and what the server says about it.
func refusal(rep *reply, code reason.Code, msg, fix string) *Error {
	wait := ""
	if after := rep.retryAfter(); after > 0 {
		wait = fmt.Sprintf(", come back in %v", after)
	}
	e := fail(code, fmt.Sprintf("%s (HTTP %d%s)", msg, rep.status, wait), fix, nil)
	e.Status, e.RetryAfter = rep.status, rep.retryAfter()
	encoded, _ := encodingOf(rep.mediaType)
	switch {
	case rep.encoded || len(rep.body) == 0:
	case encoded != "" && rep.mediaType != "":
		e.Replies = decodeErrors(rep.body, encoded)
		if len(e.Replies) > 0 {
			e.Msg += ": " + e.Replies[0].String()
		}
	case rep.mediaType == "text/plain" && utf8.Valid(rep.body):
		e.Msg += ": " + printable(string(rep.body), maxErrorText)
	case rep.mediaType != "":
		e.Msg += ", with " + kindOf(rep.mediaType)
	}
	return e
}

// String returns the reply in one line.
func (r ErrorReply) String() string {
	if r.Message == "" {
		return r.Tag
	}
	return r.Message + " (" + r.Tag + ")"
}

// decodeErrors reads the errors of a RESTCONF errors body (RFC 8040 §7.1). It never fails: a body that cannot be read
// explains nothing, and the status stands for itself.
func decodeErrors(document []byte, e encoding) []ErrorReply {
	root, err := e.parse(document, errorsXML(), func(string, string) {})
	if err != nil {
		return nil
	}
	errs, err := only(root, errorsModule+":errors")
	if err != nil || len(errs) != 1 || errs[0].Name != "error" {
		return nil
	}
	entries := errs[0].Value.Items
	var list []ErrorReply
	for _, entry := range entries[:min(len(entries), maxErrorEntries)] {
		var r ErrorReply
		fields := map[string]*string{"error-type": &r.Type, "error-tag": &r.Tag, "error-app-tag": &r.AppTag,
			"error-path": &r.Path, "error-message": &r.Message}
		for _, leaf := range entry.Members {
			if field := fields[leaf.Name]; field != nil && leaf.Value.Kind == strictjson.String {
				*field = printable(leaf.Value.Text, maxErrorText)
			}
		}
		if r.Tag != "" || r.Message != "" {
			list = append(list, r)
		}
	}
	return list
}

// kindOf says in words what a media type stands for.
func kindOf(mediaType string) string {
	if mediaType == "text/html" || mediaType == "application/xhtml+xml" {
		return "an HTML page"
	}
	return "a body of type " + printable(mediaType, 64)
}
