package inspect

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/xpu-sztp/ztp/artifacts/strictjson"
	"github.com/xpu-sztp/ztp/artifacts/strictxml"
)

// content is what is left of a file once its encoding was taken off.
type content string

const (
	binary       content = "binary"       // a CMS, or certificates
	certificates content = "certificates" // in DER, one after the other
	document     content = "document"     // JSON or XML
	option       content = "option"       // the value of a DHCP option
	privateKey   content = "private key"  // of which nothing is kept
)

// piece is what could be one artifact.
type piece struct {
	name     string
	encoding string
	content  content
	data     []byte
	err      error // why there is none
}

var (
	errEmpty   = errors.New("there is nothing in it")
	errLarge   = fmt.Errorf("larger than the %d MiB that are read", MaxSize>>20)
	errUnknown = errors.New("neither DER nor PEM nor base64 nor JSON")
	errDamaged = fmt.Errorf("a PEM block is damaged, or there are more than %d", MaxFiles)
)

// unwrap takes the encoding off one file, which can hold several artifacts. There is always at least one piece.
func unwrap(name string, data []byte) []*piece {
	p := &piece{name: name, content: binary}
	text := bytes.TrimSpace(bytes.TrimPrefix(data, []byte("\ufeff")))
	switch {
	case len(data) > MaxSize:
		p.err = errLarge
	case len(text) == 0:
		p.err = errEmpty
	case !isText(text):
		p.encoding, p.data = "DER", data
	case text[0] == '{':
		return unwrapJSON(name, text)
	case text[0] == '<':
		return unwrapXML(name, text)
	case bytes.Contains(text, []byte("-----BEGIN ")):
		return unwrapPEM(name, text)
	case isHeader(text):
		p.encoding = "S/MIME"
		p.data, p.err = unwrapMIME(text)
	case isHex(text):
		p.encoding, p.content = "hexadecimal", option
		p.data, p.err = hex.DecodeString(without(" \t\r\n:", text))
	default:
		p.encoding = "base64"
		p.data, p.err = decodeBase64(text)
	}
	return []*piece{p}
}

// isText reports whether data can be shown. DER is never text: what follows the first header is an OBJECT IDENTIFIER or
// an INTEGER, and their tags are control characters.
func isText(data []byte) bool {
	return utf8.Valid(data) && !bytes.ContainsFunc(data, func(r rune) bool { return r < ' ' && r != '\t' && r != '\r' && r != '\n' })
}

// unwrapPEM takes every block for an artifact of its own, except that certificates belong together.
func unwrapPEM(name string, text []byte) []*piece {
	var pieces []*piece
	add := func(c content, data []byte, err error) *piece {
		p := &piece{name: name, encoding: "PEM", content: c, data: data, err: err}
		pieces = append(pieces, p)
		return p
	}
	var chain *piece
	begun := bytes.Count(text, []byte("-----BEGIN "))
	for len(pieces) < MaxFiles {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		begun--
		text = rest
		switch {
		case strings.Contains(block.Type, "PRIVATE KEY"):
			add(privateKey, nil, nil)
		case block.Type == "CERTIFICATE REQUEST" || block.Type == "PUBLIC KEY" || block.Type == "X509 CRL":
			add(binary, nil, fmt.Errorf("a PEM block %q is not an artifact", block.Type))
		case block.Type == "CERTIFICATE":
			if chain == nil {
				chain = add(certificates, nil, nil)
			}
			chain.data = append(chain.data, block.Bytes...)
		default: // whatever the label: CMS, PKCS7, CMS SIGNED DATA, VOUCHER
			add(binary, block.Bytes, nil)
		}
	}
	if begun > 0 {
		add(binary, nil, errDamaged)
	}
	if len(pieces) > 1 {
		for i, p := range pieces {
			p.name = fmt.Sprintf("%s, part %d", name, i+1)
		}
	}
	return pieces
}

// output is the module of what bootstrap servers answer (RFC 8572 §7.3).
const output = "ietf-sztp-bootstrap-server:output"

// unwrapJSON takes apart what a bootstrap server answered, and leaves other documents as they are.
func unwrapJSON(name string, text []byte) []*piece {
	whole := &piece{name: name, encoding: "JSON", content: document, data: text}
	root, err := strictjson.Parse(text)
	if err != nil {
		whole.err = err
	}
	return whole.unwrapOutput(root, "RESTCONF")
}

// unwrapXML is unwrapJSON for XML.
func unwrapXML(name string, text []byte) []*piece {
	module, root, _ := strings.Cut(output, ":")
	leaf := strictxml.Shape{Kind: strictjson.String, Verbatim: true}
	answer := strictxml.Module{Name: module, Namespace: "urn:ietf:params:xml:ns:yang:" + module, Roots: map[string]strictxml.Shape{
		root: {Kind: strictjson.Object, Members: map[string]strictxml.Shape{
			"conveyed-information": leaf, "owner-certificate": leaf, "ownership-voucher": leaf}},
	}}
	whole := &piece{name: name, encoding: "XML", content: document, data: text}
	tree, _ := answer.Parse(text, func(string, string) {}) // what is no answer is read as a document
	return whole.unwrapOutput(tree, "RESTCONF in XML")
}

func (p *piece) unwrapOutput(root strictjson.Value, encoding string) []*piece {
	if len(root.Members) != 1 || root.Members[0].Name != output {
		return []*piece{p}
	}
	var pieces []*piece
	members := root.Members[0].Value.Members
	for i := range members {
		switch leaf := members[i].Name; leaf {
		case "conveyed-information", "owner-certificate", "ownership-voucher":
			part := &piece{name: p.name + ", " + leaf, encoding: encoding, content: binary}
			part.data, part.err = decodeBase64([]byte(members[i].Value.Text))
			pieces = append(pieces, part)
		}
	}
	if pieces == nil {
		p.err = errEmpty
		return []*piece{p}
	}
	return pieces
}

// isHeader recognises S/MIME, which is what openssl cms writes unless it is told otherwise.
func isHeader(text []byte) bool {
	return bytes.HasPrefix(text, []byte("MIME-Version:")) || bytes.HasPrefix(text, []byte("Content-"))
}

func unwrapMIME(text []byte) ([]byte, error) {
	header, body, _ := bytes.Cut(bytes.ReplaceAll(text, []byte("\r"), nil), []byte("\n\n"))
	if bytes.Contains(header, []byte("multipart/")) {
		return nil, errors.New("the signature is detached from the content; sign with -nodetach -outform DER")
	}
	return decodeBase64(body)
}

func decodeBase64(text []byte) ([]byte, error) {
	data, err := base64.StdEncoding.DecodeString(without(" \t\r\n", text))
	switch {
	case err != nil:
		return nil, errUnknown
	case len(data) == 0:
		return nil, errEmpty
	}
	return data, nil
}

func isHex(text []byte) bool {
	return strings.Trim(string(text), "0123456789abcdefABCDEF \t\r\n:") == ""
}

func without(unwanted string, text []byte) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(unwanted, r) {
			return -1
		}
		return r
	}, string(text))
}
