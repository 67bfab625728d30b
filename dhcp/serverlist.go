package dhcp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Bounds on a list from the network.
const (
	maxServers  = 32
	maxFindings = 16
	maxShown    = 80 // bytes of an entry that are shown to people
)

// Server is one bootstrap server of a list (RFC 8572 §8.3).
type Server struct {
	Host string // a lowercase name or an IP address without brackets
	Port uint16 // never 0; 443 when the URI has none
}

// String returns the server's URI in the shortest form.
func (s Server) String() string {
	if s.Port == defaultPort {
		if strings.Contains(s.Host, ":") {
			return scheme + "[" + s.Host + "]"
		}
		return scheme + s.Host
	}
	return scheme + net.JoinHostPort(s.Host, strconv.Itoa(int(s.Port)))
}

// Finding is a deviation from RFC 8572 §8.3 in a list.
type Finding struct {
	Entry    string // the offending part, shortened; may be empty
	Problem  string
	Accepted bool // the entry was used nevertheless; otherwise it was ignored
}

// String returns a sentence for people.
func (f Finding) String() string {
	verdict := "ignored"
	if f.Accepted {
		verdict = "accepted nevertheless"
	}
	return f.sentence() + "; " + verdict
}

func (f Finding) sentence() string {
	if f.Entry == "" {
		return f.Problem
	}
	return fmt.Sprintf("%q %s", f.Entry, f.Problem)
}

const (
	scheme      = "https://"
	defaultPort = 443
)

// ParseServerList reads a bootstrap server list strictly: a sequence of URIs, each after its length in two bytes, each of the
// form https://host[:port] (RFC 8572 §8.3). What does not conform is ignored and reported; when nothing is left the error
// is an *Error with the code BadOption.
func ParseServerList(list []byte) ([]Server, []Finding, error) {
	var p listParser
	p.lengthPrefixed(list)
	return p.result(list)
}

// ParseServerListLeniently reads what servers in the field send as well: URIs with a path, which is dropped, and plain text
// URIs without lengths. Each use of this leniency is a Finding with Accepted set. It grants nothing that a conforming list
// could not, because the list is untrusted either way.
func ParseServerListLeniently(list []byte) ([]Server, []Finding, error) {
	p := listParser{lenient: true}
	if looksLikeText(list) {
		p.text(string(list))
	} else {
		p.lengthPrefixed(list)
	}
	return p.result(list)
}

// EncodeServerList returns the wire form of a list of strictly conforming URIs, as options 143 and 136 carry it.
func EncodeServerList(uris []string) ([]byte, error) {
	if len(uris) == 0 {
		return nil, &Error{Code: NotEncodable, Msg: "a bootstrap server list needs at least one URL"}
	}
	var list []byte
	for _, uri := range uris {
		if _, _, err := parseURI(uri, false); err != nil {
			return nil, &Error{Code: NotEncodable, Msg: fmt.Sprintf("%q %v", shorten(uri), err),
				Fix: "write bootstrap servers as https://HOST or https://HOST:PORT, IPv6 addresses in brackets"}
		}
		list = binary.BigEndian.AppendUint16(list, uint16(len(uri)))
		list = append(list, uri...)
	}
	if len(list) > 0xffff {
		return nil, &Error{Code: NotEncodable, Msg: fmt.Sprintf("the list has %d bytes; an option holds 65535", len(list))}
	}
	return list, nil
}

type listParser struct {
	lenient  bool
	servers  []Server
	findings []Finding
}

func (p *listParser) lengthPrefixed(list []byte) {
	for len(list) > 0 && !p.full() {
		if len(list) < 2 {
			p.ignore("", "the list ends in the middle of a length")
			return
		}
		n := int(binary.BigEndian.Uint16(list))
		if n > len(list)-2 {
			p.ignore("", fmt.Sprintf("an entry claims %d bytes where %d are left", n, len(list)-2))
			return
		}
		p.entry(string(list[2 : 2+n]))
		list = list[2+n:]
	}
}

// looksLikeText tells a plain URI from a length: "ht" would be a length of 26740 bytes.
func looksLikeText(list []byte) bool {
	text := strings.TrimLeft(string(list[:min(len(list), 16)]), " \t\r\n\"")
	return len(text) >= 4 && strings.EqualFold(text[:4], "http")
}

func (p *listParser) text(list string) {
	split := func(r rune) bool { return r == ',' || r == ';' || r == '"' || r == 0 || r <= ' ' }
	p.note(Finding{Entry: shorten(list), Accepted: true,
		Problem: "is plain text without lengths, against RFC 8572 section 8.3"})
	for entry := range strings.FieldsFuncSeq(list, split) {
		if p.full() {
			return
		}
		p.entry(entry)
	}
}

func (p *listParser) entry(uri string) {
	server, deviation, err := parseURI(uri, p.lenient)
	switch {
	case err != nil:
		p.ignore(uri, err.Error())
		return
	case slices.Contains(p.servers, server):
		p.ignore(uri, "is a repetition")
		return
	case deviation != "":
		p.note(Finding{Entry: shorten(uri), Problem: deviation, Accepted: true})
	}
	p.servers = append(p.servers, server)
}

func (p *listParser) ignore(entry, problem string) {
	p.note(Finding{Entry: shorten(entry), Problem: problem})
}

func (p *listParser) note(f Finding) {
	if len(p.findings) < maxFindings {
		p.findings = append(p.findings, f)
	}
}

// full bounds the work on a hostile list of many tiny entries.
func (p *listParser) full() bool {
	if len(p.servers) < maxServers && len(p.findings) < maxFindings {
		return false
	}
	p.findings = append(p.findings, Finding{Problem: "the list is too long or too faulty; its rest was not read"})
	return true
}

func (p *listParser) result(list []byte) ([]Server, []Finding, error) {
	if len(p.servers) > 0 {
		return p.servers, p.findings, nil
	}
	why := "it is empty"
	if len(p.findings) > 0 {
		why = p.findings[0].sentence()
	}
	if i := slices.IndexFunc(p.findings, func(f Finding) bool { return !f.Accepted }); i >= 0 {
		why = p.findings[i].sentence()
	}
	return nil, p.findings, &Error{Code: BadOption,
		Msg: fmt.Sprintf("the bootstrap server option (%d bytes) holds no usable server: %s", len(list), why),
		Fix: "encode the option as RFC 8572 section 8.3 says (two bytes of length before each https URL); " +
			"`ztp-lab dhcp-option URL` prints it for common DHCP servers"}
}

// parseURI reads https://host[:port][/]. When lenient it cuts a path, query or fragment off and returns what was wrong.
// The error completes a sentence that begins with the entry.
func parseURI(uri string, lenient bool) (server Server, deviation string, err error) {
	if uri == "" {
		return Server{}, "", errors.New("an entry is empty")
	}
	if len(uri) < len(scheme) || !strings.EqualFold(uri[:len(scheme)], scheme) {
		return Server{}, "", errors.New("does not begin with https://")
	}
	authority := uri[len(scheme):]
	if i := strings.IndexAny(authority, "/?#"); i >= 0 {
		if rest := authority[i:]; rest != "/" {
			if !lenient {
				return Server{}, "", errors.New("has a path, query or fragment, which RFC 8572 section 8.3 does not allow")
			}
			deviation = "has a path, query or fragment, against RFC 8572 section 8.3 (only host and port are used)"
		}
		authority = authority[:i]
	}
	if strings.Contains(authority, "@") {
		return Server{}, "", errors.New("holds a user name")
	}
	host, port, err := splitAuthority(authority)
	if err != nil {
		return Server{}, "", err
	}
	return Server{Host: host, Port: port}, deviation, nil
}

func splitAuthority(authority string) (string, uint16, error) {
	host, port, hasPort := authority, "", false
	bracketed := strings.HasPrefix(authority, "[")
	if bracketed {
		end := strings.IndexByte(authority, ']')
		if end < 0 {
			return "", 0, errors.New("lacks the bracket after its address")
		}
		host = authority[1:end]
		if rest := authority[end+1:]; rest != "" {
			if rest[0] != ':' {
				return "", 0, errors.New("has something other than a port after its address")
			}
			port, hasPort = rest[1:], true
		}
	} else {
		host, port, hasPort = strings.Cut(authority, ":")
	}
	host, err := checkHost(host, bracketed)
	if err != nil {
		return "", 0, err
	}
	if !hasPort {
		return host, defaultPort, nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || port[0] == '+' {
		return "", 0, errors.New("has a port that is not a number from 1 to 65535")
	}
	return host, uint16(n), nil
}

// checkHost returns the canonical form of a host: an IPv6 address from brackets, an IPv4 address, or a DNS name.
func checkHost(host string, bracketed bool) (string, error) {
	addr, err := netip.ParseAddr(host)
	switch {
	case bracketed && (err != nil || !addr.Is6()):
		return "", errors.New("has no IPv6 address in its brackets")
	case bracketed && addr.Zone() != "":
		return "", errors.New("has an address with a zone, which means nothing to another host")
	case err == nil && !bracketed && !addr.Is4():
		return "", errors.New("has an IPv6 address without brackets")
	case err == nil:
		if addr = addr.Unmap(); addr.IsUnspecified() || addr.IsLoopback() || addr.IsMulticast() || isBroadcast(addr) {
			return "", errors.New("has an address that cannot be a server's")
		}
		return addr.String(), nil
	}
	if !isName(host) {
		return "", errors.New("has a host that is neither a name nor an IP address")
	}
	return strings.ToLower(host), nil
}

func isBroadcast(a netip.Addr) bool { return a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) }

// isName reports whether host is a DNS host name. A last label of digits only would be a mistyped IPv4 address.
func isName(host string) bool {
	host = strings.TrimSuffix(host, ".")
	if host == "" || len(host) > 253 {
		return false
	}
	label := ""
	for label = range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			c := label[i]
			letter := c|0x20 >= 'a' && c|0x20 <= 'z'
			if !letter && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return strings.Trim(label, "0123456789") != ""
}

func shorten(entry string) string {
	if len(entry) <= maxShown {
		return entry
	}
	return entry[:maxShown] + "…"
}
