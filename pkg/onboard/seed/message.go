package seed

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/textproto"
	"path"
	"slices"
	"strings"
)

// maxParts bounds the parts of a message.
const maxParts = 256

// isMessage tells, as cloud-init does, whether content is a MIME message.
func isMessage(content []byte) bool {
	return bytes.Contains(bytes.ToLower(content[:min(len(content), 4096)]), []byte("mime-version:"))
}

// part is a part of a message, with its body as it was transferred.
type part struct {
	header textproto.MIMEHeader
	body   []byte
}

// split returns the parts of a message, which may have parts in turn. Something else is one part.
func split(content []byte) ([]part, error) {
	if !isMessage(content) {
		return []part{single(content)}, nil
	}
	whole, err := parsePart(content)
	if err != nil {
		return nil, err
	}
	whole.header.Del("Mime-Version")
	kind, parameters, err := mime.ParseMediaType(whole.header.Get("Content-Type"))
	if err != nil {
		return nil, fmt.Errorf("its Content-Type cannot be read: %w", err)
	}
	if !strings.HasPrefix(kind, "multipart/") {
		return []part{whole}, nil
	}
	bodies, err := between(whole.body, "--"+parameters["boundary"])
	if err != nil {
		return nil, err
	}
	var parts []part
	for i, body := range bodies {
		p, err := parsePart(body)
		if err != nil {
			return nil, fmt.Errorf("part %d: %w", i+1, err)
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// parsePart parts header and body.
func parsePart(content []byte) (part, error) {
	in := bufio.NewReader(bytes.NewReader(content))
	header, err := textproto.NewReader(in).ReadMIMEHeader()
	if err != nil {
		return part{}, fmt.Errorf("its header cannot be read: %w", err)
	}
	body, err := io.ReadAll(in)
	return part{header, body}, err
}

// between returns what stands between the lines that are the delimiter (RFC 2046 §5.1.1). The end of the line before a delimiter
// belongs to that.
func between(body []byte, delimiter string) (parts [][]byte, err error) {
	start, at, ended := -1, 0, delimiter == "--"
	for line := range bytes.Lines(body) {
		text := strings.TrimRight(string(line), " \t\r\n")
		if !ended && (text == delimiter || text == delimiter+"--") {
			if start >= 0 {
				parts = append(parts, bytes.TrimSuffix(bytes.TrimSuffix(body[start:at], []byte("\n")), []byte("\r")))
			}
			start = at + len(line)
			ended = text != delimiter
		}
		at += len(line)
	}
	if !ended || len(parts) == 0 || len(parts) > maxParts {
		return nil, fmt.Errorf("it has no parts, no end, or more than %d parts", maxParts)
	}
	return parts, nil
}

// single makes a part of what is no message. cloud-init finds out itself what a text is.
func single(content []byte) part {
	p := part{header: textproto.MIMEHeader{"Content-Type": {`text/plain; charset="utf-8"`}}, body: content}
	if slices.ContainsFunc(content, func(c byte) bool { return c >= 0x80 || c == '\r' }) {
		p.header.Set("Content-Transfer-Encoding", "base64")
		p.body = wrapped(content)
	}
	return p
}

// wrapped is base64 in lines of 76 characters (RFC 2045 §6.8).
func wrapped(content []byte) []byte {
	const width = 76
	var out []byte
	text := base64.StdEncoding.EncodeToString(content)
	for ; len(text) > width; text = text[width:] {
		out = append(append(out, text[:width]...), '\n')
	}
	return append(out, text...)
}

// name is the file name that the part was given, without the folders that some programs put before it.
func (p part) name() string {
	_, parameters, err := mime.ParseMediaType(p.header.Get("Content-Disposition"))
	if err != nil {
		return ""
	}
	return path.Base(parameters["filename"])
}

// content is the body without its encoding for the transfer.
func (p part) content() ([]byte, error) {
	var from io.Reader = bytes.NewReader(p.body)
	switch encoding := strings.ToLower(p.header.Get("Content-Transfer-Encoding")); encoding {
	case "", "7bit", "8bit", "binary":
	case "base64":
		from = base64.NewDecoder(base64.StdEncoding, from)
	default:
		return nil, fmt.Errorf("unknown Content-Transfer-Encoding %.40q", encoding)
	}
	return io.ReadAll(from)
}

// bytes is the part as it stands in a message.
func (p part) bytes() []byte {
	var out bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(p.header)) {
		for _, value := range p.header[name] {
			fmt.Fprintf(&out, "%s: %s\n", name, value)
		}
	}
	out.WriteByte('\n')
	out.Write(p.body)
	return out.Bytes()
}

// join returns a message with what is there and, at its end, what is added. Either may be missing.
func join(present, added []byte) ([]byte, error) {
	switch {
	case len(present) == 0:
		return added, nil
	case len(added) == 0 || bytes.Equal(present, added):
		return present, nil
	}
	var all [][]byte
	for _, content := range [][]byte{present, added} {
		if bytes.HasPrefix(content, []byte{0x1f, 0x8b}) {
			return nil, errors.New("one of them is compressed, and may be anything")
		}
		parts, err := split(content)
		if err != nil {
			return nil, err
		}
		for _, p := range parts {
			text := p.bytes()
			all = slices.DeleteFunc(all, func(there []byte) bool { return bytes.Equal(there, text) })
			all = append(all, text)
		}
	}
	if len(all) > maxParts {
		return nil, fmt.Errorf("together they have more than %d parts", maxParts)
	}
	// Nothing in the parts is the boundary, since it is their digest.
	sum := sha256.Sum256(bytes.Join(all, []byte{0}))
	boundary := "ztp-" + hex.EncodeToString(sum[:16])
	var out bytes.Buffer
	fmt.Fprintf(&out, "Content-Type: multipart/mixed; boundary=%q\nMIME-Version: 1.0\n\n", boundary)
	for _, text := range all {
		fmt.Fprintf(&out, "--%s\n%s\n", boundary, text)
	}
	fmt.Fprintf(&out, "--%s--\n", boundary)
	return out.Bytes(), nil
}
