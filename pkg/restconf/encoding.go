package restconf

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"strings"

	"github.com/xpu-sztp/ztp/artifacts/strictjson"
	"github.com/xpu-sztp/ztp/artifacts/strictxml"
)

// encoding is how YANG data is encoded, by its media type (RFC 8040 §5.2). Sessions begin with JSON.
type encoding string

const (
	inJSON encoding = "application/yang-data+json"
	inXML  encoding = "application/yang-data+xml"
)

const (
	errorsModule = "ietf-restconf"
	namespaces   = "urn:ietf:params:xml:ns:yang:" // of modules of the IETF, which end with the module's name
)

// maxMembers bounds the members of an object that are looked at. A reply has half a dozen.
const maxMembers = 64

// encodingOf returns which encoding a media type stands for, or "" when for neither. What is not exact is what some servers
// write instead; RFC 8572 §7.2 itself has a dot in its examples where a dash belongs.
func encodingOf(mediaType string) (e encoding, exact bool) {
	switch mediaType {
	case string(inJSON), string(inXML):
		return encoding(mediaType), true
	case "application/json", "application/yang.data+json", "":
		return inJSON, false
	case "application/xml", "text/xml", "application/yang.data+xml":
		return inXML, false
	}
	return "", false
}

// encodingLike guesses the encoding of a document whose server, such as google/open-sztp, names none, so that its HTTP library
// takes it for text.
func encodingLike(document []byte) encoding {
	switch document = bytes.TrimLeft(document, " \t\r\n"); {
	case bytes.HasPrefix(document, []byte("{")):
		return inJSON
	case bytes.HasPrefix(document, []byte("<output")), bytes.HasPrefix(document, []byte("<?xml")):
		return inXML
	}
	return ""
}

// parse reads a document of module m in this encoding into one tree, whichever it is. tolerate is as in strictxml.Module.Parse.
func (e encoding) parse(document []byte, m *strictxml.Module, tolerate func(where, what string)) (strictjson.Value, error) {
	if e == inXML {
		return m.Parse(document, tolerate)
	}
	return strictjson.Parse(document)
}

// outputXML is the output of get-bootstrapping-data (RFC 8572 §7.3). White space in base64 is judged as in JSON.
func outputXML() *strictxml.Module {
	leaf, text := strictxml.Shape{Kind: strictjson.String}, strictxml.Shape{Kind: strictjson.String, Verbatim: true}
	return &strictxml.Module{Name: module, Namespace: namespaces + module, Roots: map[string]strictxml.Shape{
		"output": {Kind: strictjson.Object, Members: map[string]strictxml.Shape{
			"reporting-level": leaf, "conveyed-information": text, "owner-certificate": text, "ownership-voucher": text,
		}},
	}}
}

// errorsXML is what refusals say (RFC 8040 §8).
func errorsXML() *strictxml.Module {
	leaf, text := strictxml.Shape{Kind: strictjson.String}, strictxml.Shape{Kind: strictjson.String, Verbatim: true}
	entry := strictxml.Shape{Kind: strictjson.Object, List: true, Members: map[string]strictxml.Shape{
		"error-type": leaf, "error-tag": leaf, "error-app-tag": leaf, "error-path": leaf, "error-message": text,
	}}
	return &strictxml.Module{Name: errorsModule, Namespace: namespaces + errorsModule, Roots: map[string]strictxml.Shape{
		"errors": {Kind: strictjson.Object, Members: map[string]strictxml.Shape{"error": entry}},
	}}
}

// encode returns an input, which is given in JSON, in this encoding. XML is made of the JSON, so that the two cannot say
// different things.
func (e encoding) encode(input []byte) ([]byte, error) {
	if e == inJSON {
		return input, nil
	}
	root, err := strictjson.Parse(input)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	for _, m := range root.Members {
		name := strings.TrimPrefix(m.Name, module+":")
		writeXML(&b, name, ` xmlns="`+namespaces+module+`"`, m.Value)
	}
	return b.Bytes(), nil
}

// writeXML writes a value as RFC 7950 §7 has it: a list as one element for each entry, the type empty as an empty element.
func writeXML(b *bytes.Buffer, name, attributes string, v strictjson.Value) {
	if v.Kind == strictjson.Array {
		for _, item := range v.Items {
			writeXML(b, name, attributes, item)
		}
		return
	}
	b.WriteString("<" + name + attributes + ">")
	for _, m := range v.Members {
		writeXML(b, m.Name, "", m.Value)
	}
	_ = xml.EscapeText(b, []byte(v.Text)) // a Buffer does not fail
	b.WriteString("</" + name + ">")
}

// only returns the members of the object that is the only member of v and has that name.
func only(v strictjson.Value, name string) ([]strictjson.Member, error) {
	if len(v.Members) != 1 || v.Members[0].Name != name {
		return nil, fmt.Errorf("want exactly one member, %s", name)
	}
	inner := v.Members[0].Value
	switch {
	case inner.Kind != strictjson.Object:
		return nil, fmt.Errorf("%s: not an object", name)
	case len(inner.Members) > maxMembers:
		return nil, fmt.Errorf("%s: more than %d members", name, maxMembers)
	}
	return inner.Members, nil
}

// binary decodes a value of the YANG type binary: base64 with padding (RFC 7950 §9.8, RFC 4648 §4). With lenient, white
// space inside it is tolerated, which folded tells.
func binary(v strictjson.Value, lenient bool) (decoded []byte, folded bool, err error) {
	const space = " \t\r\n" // encoding/base64 skips line ends silently
	encoded := v.Text
	switch folded = strings.ContainsAny(encoded, space); {
	case v.Kind != strictjson.String:
		return nil, false, errors.New("not a string")
	case folded && !lenient:
		return nil, false, errors.New("white space inside base64")
	case folded:
		encoded = strings.Map(func(r rune) rune {
			if strings.ContainsRune(space, r) {
				return -1
			}
			return r
		}, encoded)
	}
	if encoded == "" {
		return nil, folded, errors.New("empty")
	}
	if decoded, err = base64.StdEncoding.Strict().DecodeString(encoded); err != nil {
		return nil, folded, errors.New("not base64")
	}
	return decoded, folded, nil
}
