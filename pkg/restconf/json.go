package restconf

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// member is one member of a JSON object. Its value is part of the document, not a copy: documents hold tens of megabytes.
type member struct {
	name  string
	value []byte
}

// maxMembers bounds the members of an object that are looked at. A reply has half a dozen; millions of tiny ones would take
// twenty times the memory of the document.
const maxMembers = 64

// checkDocument makes sure that document is what members may be used on.
func checkDocument(document []byte) error {
	switch {
	case len(bytes.TrimSpace(document)) == 0:
		return errors.New("empty")
	case !utf8.Valid(document):
		return errors.New("not UTF-8")
	case !json.Valid(document):
		return errors.New("not JSON")
	}
	return nil
}

// members splits a JSON object into its members. Two members with one name are an error: encoding/json would take the
// last, others the first, and the two would act on different data. value must be part of a checked document.
func members(value []byte) ([]member, error) {
	value = bytes.TrimSpace(value)
	if len(value) == 0 || value[0] != '{' {
		return nil, errors.New("not an object")
	}
	var list []member
	seen := map[string]bool{}
	rest := bytes.TrimSpace(value[1:])
	for rest[0] != '}' {
		if len(list) == maxMembers {
			return nil, fmt.Errorf("more than %d members", maxMembers)
		}
		end := valueEnd(rest)
		name, err := text(rest[:end])
		if err != nil {
			return nil, err
		}
		rest = bytes.TrimSpace(rest[end:])[1:] // the colon
		rest = bytes.TrimSpace(rest)
		end = valueEnd(rest)
		if seen[name] {
			return nil, fmt.Errorf("two members named %q", printable(name, 64))
		}
		seen[name] = true
		list = append(list, member{name, rest[:end]})
		rest = bytes.TrimSpace(rest[end:])
		if rest[0] == ',' {
			rest = bytes.TrimSpace(rest[1:])
		}
	}
	return list, nil
}

// valueEnd returns where the JSON value at the start of valid JSON ends.
func valueEnd(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			i += stringEnd(b[i:]) - 1
		case '{', '[':
			depth++
			continue
		case '}', ']':
			if depth == 0 {
				return i
			}
			depth--
		case ',', ':', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return i
			}
			continue
		default:
			continue
		}
		if depth == 0 {
			return i + 1
		}
	}
	return len(b)
}

// stringEnd returns the length of the JSON string at the start of valid JSON.
func stringEnd(b []byte) int {
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}

// text decodes a JSON string.
func text(value []byte) (string, error) {
	if len(value) == 0 || value[0] != '"' {
		return "", errors.New("not a string")
	}
	var s string
	err := json.Unmarshal(value, &s)
	return s, err
}

// binary decodes a value of the YANG type binary: base64 with padding (RFC 7950 §9.8, RFC 4648 §4). With lenient, white
// space inside it is tolerated, which folded tells.
func binary(value []byte, lenient bool) (decoded []byte, folded bool, err error) {
	if len(value) < 2 || value[0] != '"' {
		return nil, false, errors.New("not a string")
	}
	encoded := value[1 : len(value)-1]
	if bytes.IndexByte(encoded, '\\') >= 0 {
		s, err := text(value)
		if err != nil {
			return nil, false, err
		}
		encoded = []byte(s)
	}
	if bytes.ContainsAny(encoded, " \t\r\n") { // encoding/base64 skips line ends silently
		if !lenient {
			return nil, false, errors.New("white space inside base64")
		}
		folded = true
		encoded = bytes.Map(func(r rune) rune {
			if strings.ContainsRune(" \t\r\n", r) {
				return -1
			}
			return r
		}, encoded)
	}
	if len(encoded) == 0 {
		return nil, folded, errors.New("empty")
	}
	decoded = make([]byte, base64.StdEncoding.DecodedLen(len(encoded)))
	n, err := base64.StdEncoding.Strict().Decode(decoded, encoded)
	if err != nil {
		return nil, folded, errors.New("not base64")
	}
	return decoded[:n], folded, nil
}
