package cms

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"unicode"
)

const maxNameLength = 200

// NameOf renders a DER name for people. Names come from peers: what could confuse a terminal or a log is replaced, and
// the result is cut to a few lines.
func NameOf(der []byte) string {
	var seq pkix.RDNSequence
	if rest, err := asn1.Unmarshal(der, &seq); err != nil || len(rest) != 0 {
		return "an unreadable name"
	}
	if len(seq) == 0 {
		return "an empty name"
	}
	return Printable(seq.String())
}

// Printable replaces what is not a printable character in s and cuts it after 200 characters.
func Printable(s string) string {
	n := 0
	for i := range s {
		if n++; n > maxNameLength {
			return Visible(s[:i]) + "…"
		}
	}
	return Visible(s)
}

// Visible is Printable without the cut.
func Visible(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
