package http1

import (
	"errors"
	"fmt"
	"net/textproto"
	"strconv"
	"strings"
)

// answer is what comes before the body of a reply.
type answer struct {
	status  int
	header  Header
	length  int64 // that the header gives the body; -1 when it gives none
	chunked bool
	last    bool // the server closes the connection behind this reply
}

// readHead reads a status line and a header (RFC 9112 §4, §5). As net/textproto has it, and the RFC allows, lines may end
// without CR, and lines that begin with white space go on with the one before; spaces around values are not part of them.
// Neither a name with spaces nor a control character in a value is tolerated.
func readHead(text *textproto.Reader) (a answer, err error) {
	line, err := text.ReadLine()
	if err != nil {
		return a, unexpected(err)
	}
	var old bool
	if a.status, old, err = parseStatusLine(line); err != nil {
		return a, err
	}
	a.header, err = text.ReadMIMEHeader()
	var syntax textproto.ProtocolError
	switch {
	case errors.As(err, &syntax):
		return a, fmt.Errorf("%w: %.200q", ErrMalformed, string(syntax))
	case err != nil:
		return a, unexpected(err)
	}
	for name := range a.header {
		if !isToken(name) { // "Content-Length :" is a length for some and not for others
			return a, fmt.Errorf("%w: header field %.60q", ErrMalformed, name)
		}
	}
	options := a.header["Connection"]
	a.last = hasToken(options, "close") || old && !hasToken(options, "keep-alive")
	return a, a.frame(old)
}

// parseStatusLine reads "HTTP/1.1 200 OK", with or without a reason. old says that it is HTTP/1.0.
func parseStatusLine(line string) (status int, old bool, err error) {
	version, rest, _ := strings.Cut(line, " ")
	code, _, _ := strings.Cut(rest, " ")
	if version != "HTTP/1.1" && version != "HTTP/1.0" || len(code) != 3 || !isNumber(code) || code[0] == '0' {
		return 0, false, fmt.Errorf("%w: status line %.60q", ErrMalformed, line)
	}
	status, err = strconv.Atoi(code)
	return status, version == "HTTP/1.0", err
}

// frame finds out what the header says of the end of the body (RFC 9112 §6). What others could understand in another way is
// refused, even where there is no body.
func (a *answer) frame(old bool) (err error) {
	if a.length, err = contentLength(a.header["Content-Length"]); err != nil {
		return err
	}
	codings := a.header["Transfer-Encoding"]
	switch {
	case codings == nil:
		return nil
	case a.length >= 0:
		return fmt.Errorf("%w: a length and a transfer coding", ErrMalformed)
	case old:
		return fmt.Errorf("%w: a transfer coding in HTTP/1.0", ErrMalformed)
	case len(codings) > 1 || !equalFold(codings[0], "chunked"):
		return fmt.Errorf("%w: transfer coding %.60q", ErrUnsupported, codings)
	}
	a.chunked = true
	return nil
}

// contentLength returns -1 when there is none. The same length may be there several times, as fields of their own.
func contentLength(values []string) (int64, error) {
	if len(values) == 0 {
		return -1, nil
	}
	n, err := strconv.ParseInt(values[0], 10, 64)
	for _, v := range values {
		if err != nil || v != values[0] || !isNumber(v) {
			return 0, fmt.Errorf("%w: Content-Length %.60q", ErrMalformed, values)
		}
	}
	return n, nil
}

func isNumber(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// hasToken looks for a token in lists.
func hasToken(lists []string, token string) bool {
	for _, list := range lists {
		for one := range strings.SplitSeq(list, ",") {
			if equalFold(strings.Trim(one, " \t"), token) {
				return true
			}
		}
	}
	return false
}

// equalFold compares with a text in ASCII, of which Unicode has other forms of k and s.
func equalFold(s, ascii string) bool { return len(s) == len(ascii) && strings.EqualFold(s, ascii) }
