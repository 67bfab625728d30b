// Package dhcpd hands out leases on one link of a laboratory network: a DHCPv4 server with option 143, a DHCPv6 server with
// option 136 and router advertisements. It also prints those options for the configuration of common DHCP servers.
package dhcpd

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// The option codes of RFC 8572 §8.1 and §8.2.
const (
	Option4 = 143 // OPTION_V4_SZTP_REDIRECT
	Option6 = 136 // OPTION_V6_SZTP_REDIRECT
)

// List encodes bootstrap-server URIs as the list of RFC 8572 §8.3: each with its length in 16 bits before it.
func List(uris ...string) ([]byte, error) {
	if len(uris) == 0 {
		return nil, errors.New("the option needs at least one URI")
	}
	var list []byte
	for _, uri := range uris {
		if err := CheckURI(uri); err != nil {
			return nil, err
		}
		list = binary.BigEndian.AppendUint16(list, uint16(len(uri)))
		list = append(list, uri...)
	}
	if len(list) > math.MaxUint16 {
		return nil, fmt.Errorf("the list has %d bytes: an option can hold 65535", len(list))
	}
	return list, nil
}

// CheckURI tells what is wrong with a bootstrap-server URI: it must be https://host[:port] (RFC 8572 §8.3).
func CheckURI(uri string) error {
	u, err := url.Parse(uri)
	switch {
	case err != nil:
		return fmt.Errorf("%q is no URI: %w", uri, err)
	case len(uri) > math.MaxUint16:
		return fmt.Errorf("a URI of %d bytes does not fit its 16-bit length", len(uri))
	case u.Scheme != "https":
		return fmt.Errorf("%q does not begin with https://, so devices ignore it", uri)
	case u.Hostname() == "":
		return fmt.Errorf("%q names no host", uri)
	case u.User != nil:
		return fmt.Errorf("%q carries credentials; only https://host[:port] is allowed", uri)
	case u.Path != "" || u.RawQuery != "" || u.ForceQuery || strings.Contains(uri, "#"):
		return fmt.Errorf("%q goes on after the port; only https://host[:port] is allowed, so use https://%s", uri, u.Host)
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("%q has no valid port: use 1 to 65535", uri)
		}
	}
	if strings.Contains(u.Hostname(), ":") && net.ParseIP(u.Hostname()) == nil {
		return fmt.Errorf("%q holds no valid IPv6 address", uri)
	}
	return nil
}

// Wire4 returns the whole DHCPv4 option or options: a list of more than 255 bytes is split as RFC 3396 says.
func Wire4(list []byte) []byte {
	var out []byte
	for len(list) > 0 {
		n := min(len(list), 255)
		out = append(out, Option4, byte(n))
		out = append(out, list[:n]...)
		list = list[n:]
	}
	return out
}

// Wire6 returns the whole DHCPv6 option.
func Wire6(list []byte) []byte {
	out := binary.BigEndian.AppendUint16(nil, Option6)
	out = binary.BigEndian.AppendUint16(out, uint16(len(list)))
	return append(out, list...)
}

// Snippet is a piece of configuration for a DHCP server.
type Snippet struct {
	Server string // "kea-dhcp4", …
	Note   string
	Text   string
}

// Snippets returns the configuration that makes common servers offer uris, and the bytes on the wire.
func Snippets(uris ...string) ([]Snippet, error) {
	list, err := List(uris...)
	if err != nil {
		return nil, err
	}
	dnsmasq := "dhcp-option=143," + colonHex(list) + "\ndhcp-option=option6:136," + colonHex(list)
	dnsmasqNote := "both families"
	if len(list) > 255 {
		dnsmasq = "dhcp-option=option6:136," + colonHex(list)
		dnsmasqNote = fmt.Sprintf("DHCPv6 only: dnsmasq cannot split option 143, and the list has %d bytes", len(list))
	}
	plain := hex.EncodeToString(list)
	colons := colonHex(list)
	return []Snippet{
		{"kea-dhcp4", "Kea 2.2 does not know option 143, so it is defined here; newer versions call it v4-sztp-redirect",
			`"option-def": [ { "name": "sztp-redirect", "code": 143, "space": "dhcp4", "type": "binary" } ],` + "\n" +
				`"option-data": [ { "name": "sztp-redirect", "code": 143, "space": "dhcp4", "csv-format": false, "data": "` + plain + `" } ]`},
		{"kea-dhcp6", "newer versions call it v6-sztp-redirect",
			`"option-def": [ { "name": "sztp-redirect", "code": 136, "space": "dhcp6", "type": "tuple", "array": true } ],` + "\n" +
				`"option-data": [ { "name": "sztp-redirect", "code": 136, "space": "dhcp6", "csv-format": true, "data": "` + strings.Join(uris, ", ") + `" } ]`},
		{"dnsmasq", dnsmasqNote, dnsmasq},
		{"isc-dhcpd", "DHCPv4; a string of bytes, not text",
			"option sztp-redirect code 143 = string;\noption sztp-redirect " + colons + ";"},
		{"isc-dhcpd-6", "DHCPv6, in dhcpd6.conf",
			"option dhcp6.sztp-redirect code 136 = string;\noption dhcp6.sztp-redirect " + colons + ";"},
		{"hex-dhcp4", "the option on the wire, with code and length", hex.EncodeToString(Wire4(list))},
		{"hex-dhcp6", "the option on the wire, with code and length", hex.EncodeToString(Wire6(list))},
	}, nil
}

func colonHex(b []byte) string {
	parts := make([]string, len(b))
	for i, c := range b {
		parts[i] = hex.EncodeToString([]byte{c})
	}
	return strings.Join(parts, ":")
}
