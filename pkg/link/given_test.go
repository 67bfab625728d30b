package link

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var plainAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func TestResolver(t *testing.T) {
	const text = `# by hand
nameserver 192.0.2.1
nameserver 127.0.0.53
nameserver fe80::1%eth0
nameserver 192.0.2.1
nameserver nonsense
nameserver
nameserver 0.0.0.0
nameserver 2001:db8::1
nameserver 192.0.2.4
domain old.test
search a.test B.test. a.test ~route.test .
options edns0
`
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	want := Given{Domains: []string{"a.test", "B.test"}}
	for _, s := range []string{"192.0.2.1", "127.0.0.53", "fe80::1%eth0"} {
		want.DNS = append(want.DNS, netip.MustParseAddr(s))
	}
	if diff := cmp.Diff(want, readResolver(file), plainAddr); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(Given{}, readResolver(file+".missing"), plainAddr); diff != "" {
		t.Error(diff)
	}
}

// TestNetworkdFiles has what systemd 252 and 257 write.
func TestNetworkdFiles(t *testing.T) {
	run := t.TempDir()
	put := func(folder, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(run, folder), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(run, folder, "7"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put(networkdLinks, "# This is private data. Do not parse.\nADMIN_STATE=configuring\nDNS=192.0.2.1 192.0.2.2:53%eth0#dns.test "+
		"192.0.2.3:853 [2001:db8::1]:53 127.0.0.1\nNTP=\nDOMAINS=static.test lab.test\nROUTE_DOMAINS=route.test\n")
	put(networkdLeases, "ADDRESS=192.0.2.57\nSERVER_ADDRESS=192.0.2.1\nOPTION_143=0003616263\nOPTION_240=00166874\n")
	want := Given{State: "configuring", Domains: []string{"static.test", "lab.test"}, Option: []byte("\x00\x03abc"), Server: netip.MustParseAddr("192.0.2.1")}
	for _, s := range []string{"192.0.2.1", "192.0.2.2", "2001:db8::1"} {
		want.DNS = append(want.DNS, netip.MustParseAddr(s))
	}
	if diff := cmp.Diff(want, networkdGave(run, 7, false), plainAddr); diff != "" {
		t.Error(diff)
	}
	want.Option, want.Server = nil, netip.Addr{}
	if diff := cmp.Diff(want, networkdGave(run, 7, true), plainAddr); diff != "" {
		t.Errorf("IPv6: %s", diff)
	}
	if !leasedBy(run, 7, netip.MustParseAddr("192.0.2.57")) || leasedBy(run, 7, netip.MustParseAddr("192.0.2.5")) || leasedBy(run, 8, netip.Addr{}) {
		t.Error("whose the address is")
	}
}

func TestOptionOfDhclient(t *testing.T) {
	for value, want := range map[string]string{"0:3:61:62:63": "\x00\x03abc", "00:03:FF": "\x00\x03\xff", "https://192.0.2.1:8443": "https://192.0.2.1:8443",
		"a": "\n", "a:": "a:", ":": ":", "100:1": "100:1", "+1:2": "+1:2"} {
		if got := fromDhclient(value); !bytes.Equal(got, []byte(want)) {
			t.Errorf("%q is %q, want %q", value, got, want)
		}
	}
}

// TestBusAnswers has answers that NetworkManager would not give.
func TestBusAnswers(t *testing.T) {
	for _, text := range []string{"", "{}", `{"Nameservers":1}`, `{"Nameservers":{"data":[[1]]}}`, `{"NameserverData":{"data":[{"address":{"data":7}}]}}`,
		`{"Domains":{"data":"a.test"}}`, `{"Options":{"data":[1]}}`, `{"Options":{"data":{"unknown_143":{"data":[1]},"dhcp_server_identifier":{"data":"x"}}}}`} {
		var p properties
		json.Unmarshal([]byte(text), &p)
		var g Given
		p.readNames(&g)
		p.readLease(&g, false)
		g.DNS = nil // octets that are missing are zero
		if diff := cmp.Diff(Given{}, g, plainAddr); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
	b := bus{socket: filepath.Join(t.TempDir(), "none")}
	if b.gave(t.Context(), "eth0", false); b.err == nil || !strings.Contains(b.err.Error(), "No such file") {
		t.Errorf("without a bus: %v", b.err)
	}
	b.err = nil
	if p := b.properties(t.Context(), "--help", "Device"); p != nil || b.err != nil {
		t.Errorf("a strange path: %v %v", p, b.err)
	}
}

func FuzzGiven(f *testing.F) {
	f.Add("192.0.2.1:53%eth0#x", "lab.test", "0:3:61")
	f.Fuzz(func(t *testing.T, server, domain, option string) {
		var g Given
		g.addDNS(server)
		g.addDomain(domain)
		for _, a := range g.DNS {
			if a.IsMulticast() || a.IsUnspecified() || a.IsLoopback() || a.Zone() != "" {
				t.Errorf("%q became %v", server, a)
			}
		}
		var digits []string
		for _, octet := range []byte(option) {
			digits = append(digits, fmt.Sprintf("%x", octet))
		}
		if got := fromDhclient(strings.Join(digits, ":")); option != "" && string(got) != option {
			t.Errorf("%q became %q", option, got)
		}
	})
}

// FuzzManagers has networkd's files and NetworkManager's properties say anything, of which what a lease put there is a stranger's:
// no name server is this machine or nobody, and no domain is one only for routing.
func FuzzManagers(f *testing.F) {
	f.Add("ADMIN_STATE=configured\nDNS=192.0.2.1 2001:db8::1%2 127.0.0.1\nDOMAINS=lab.test ~.\n", "ADDRESS=192.0.2.5\nOPTION_143=0003\nSERVER_ADDRESS=192.0.2.2\n",
		`{"NameserverData":{"data":[{"address":{"data":"192.0.2.1"}}]},"Domains":{"data":["lab.test"]}}`)
	f.Add("DNS=", "OPTION_143=0", `{"Nameservers":{"data":[[32,1]]},"Options":{"data":{"sztp_redirect":{"data":"0:3:61"},"dhcp_server_identifier":{"data":"192.0.2.2"}}}}`)
	run := f.TempDir()
	if err := errors.Join(os.MkdirAll(filepath.Join(run, networkdLinks), 0o755), os.MkdirAll(filepath.Join(run, networkdLeases), 0o755)); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, link, lease, told string) {
		for dir, text := range map[string]string{networkdLinks: link, networkdLeases: lease} {
			if err := os.WriteFile(filepath.Join(run, dir, "7"), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		all := []Given{networkdGave(run, 7, false), networkdGave(run, 7, true)}
		var p properties
		if json.Unmarshal([]byte(told), &p) == nil {
			var g Given
			p.readNames(&g)
			p.readLease(&g, strings.Contains(told, "dhcp6"))
			all = append(all, g)
		}
		for _, g := range all {
			for _, a := range g.DNS {
				if a.IsMulticast() || a.IsUnspecified() || a.IsLoopback() || a.Zone() != "" || a.Is4In6() {
					t.Errorf("name server %v", a)
				}
			}
			for _, d := range g.Domains {
				if d == "" || d[0] == '~' || len(d) > 253 {
					t.Errorf("domain %q", d)
				}
			}
		}
	})
}
