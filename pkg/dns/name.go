// Package dns asks name servers, and the neighbours on a link (multicast DNS, RFC 6762), for the few kinds of records that
// bootstrapping needs. It reads and writes messages (RFC 1035) and decides what answers a question; sockets come from the
// caller. Nothing that is received is believed: DNS tells where to ask, never whom to trust, with or without DNSSEC.
package dns

import (
	"errors"
	"fmt"
	"strings"
)

// Name is a domain name: its labels, each after its length, and the root's empty label, as on the wire without compression.
// A label may hold any octets, dots among them.
type Name string

// maxName is the longest name on the wire (RFC 1035 §2.3.4).
const maxName = 255

var errName = errors.New("not a domain name")

// NewName returns the name with these labels, the most specific first.
func NewName(labels ...string) (Name, error) {
	var b strings.Builder
	for _, l := range labels {
		if len(l) == 0 || len(l) > 63 {
			return "", fmt.Errorf("%w: a label of %d octets", errName, len(l))
		}
		b.WriteByte(byte(len(l)))
		b.WriteString(l)
	}
	if b.Len() >= maxName {
		return "", fmt.Errorf("%w: %d octets", errName, b.Len()+1)
	}
	b.WriteByte(0)
	return Name(b.String()), nil
}

// ParseName reads a host or domain name in the usual notation, in which dots separate labels; a final dot is allowed.
func ParseName(s string) (Name, error) {
	s = strings.TrimSuffix(s, ".")
	if s == "" {
		return "\x00", nil
	}
	return NewName(strings.Split(s, ".")...)
}

// Below returns the name with labels put before it.
func (n Name) Below(labels ...string) (Name, error) {
	front, err := NewName(labels...)
	if err != nil {
		return "", err
	}
	if len(front)-1+len(n) > maxName {
		return "", fmt.Errorf("%w: too long", errName)
	}
	return front[:len(front)-1] + n, nil
}

// Equal compares names as RFC 4343 does: without regard to the case of ASCII letters.
func (n Name) Equal(other Name) bool { return len(n) == len(other) && lower(n) == lower(other) }

func lower(n Name) string {
	b := []byte(n)
	for i, c := range b { // lengths are below 'A'
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// IsRoot reports whether n has no labels.
func (n Name) IsRoot() bool { return n == "\x00" }

// Labels returns the labels, the most specific first.
func (n Name) Labels() []string {
	var labels []string
	for len(n) > 1 {
		size := int(n[0])
		labels = append(labels, string(n[1:1+size]))
		n = n[1+size:]
	}
	return labels
}

// Host returns n as a host name without the final dot, or "" when a label has characters that no host name has.
func (n Name) Host() string {
	labels := n.Labels()
	for _, l := range labels {
		for i := range len(l) {
			c := l[i] | 0x20
			if (c < 'a' || c > 'z') && (l[i] < '0' || l[i] > '9') && l[i] != '-' && l[i] != '_' {
				return ""
			}
		}
	}
	return strings.Join(labels, ".")
}

// String returns n in the notation of zone files, for people.
func (n Name) String() string {
	if n.IsRoot() {
		return "."
	}
	var b strings.Builder
	for _, l := range n.Labels() {
		for i := range len(l) {
			switch c := l[i]; {
			case c == '.' || c == '\\':
				b.WriteByte('\\')
				b.WriteByte(c)
			case c <= ' ' || c > '~':
				fmt.Fprintf(&b, "\\%03d", c)
			default:
				b.WriteByte(c)
			}
		}
		b.WriteByte('.')
	}
	return b.String()
}
