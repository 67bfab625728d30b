package source_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/dhcp"
	"github.com/xpu-sztp/ztp/pkg/dns"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/source"
	"github.com/xpu-sztp/ztp/test/nettest"
)

// zone answers from memory, and remembers what it was asked; what instances there are of a service is asked together with its
// own records and left out. Names of neighbours begin with "mdns:".
type zone struct {
	records map[string][]dns.Record
	mu      sync.Mutex
	asked   []string
}

func (z *zone) answer(how string, n dns.Name, t dns.Type) ([]dns.Record, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	question := fmt.Sprintf("%s%s %d", how, n, t)
	if t != dns.PTR {
		z.asked = append(z.asked, question)
	}
	if r := z.records[question]; r != nil {
		return r, nil
	}
	return nil, dns.ErrNoSuchName
}

func (z *zone) Ask(_ context.Context, n dns.Name, t dns.Type) ([]dns.Record, error) {
	return z.answer("", n, t)
}

func (z *zone) AskLink(_ context.Context, n dns.Name, t dns.Type) ([]dns.Record, error) {
	return z.answer("mdns:", n, t)
}

func (*zone) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) { return nil, nil }
func (*zone) DialContext(context.Context, string, string) (net.Conn, error)     { return nil, nil }
func text(texts ...string) dns.Record                                           { return dns.Record{Type: dns.TXT, Strings: texts} }
func service(t *testing.T, priority, weight, port uint16, target string) dns.Record {
	n, err := dns.ParseName(target)
	if err != nil {
		t.Fatal(err)
	}
	return dns.Record{Type: dns.SRV, Priority: priority, Weight: weight, Port: port, Target: n}
}

// TestDNSOrder asks all four questions in the order of RFC 8572 §4.2, each after what the one before it led to was in vain.
func TestDNSOrder(t *testing.T) {
	z := &zone{records: map[string][]dns.Record{
		"mdns:SN1._sztp.local. 16":  {text("ci=0mdns")},
		"SN1._sztp.lab.test. 16":    {text("ci=0unicast")},
		"mdns:_sztp._tcp.local. 33": {service(t, 0, 0, 1, "bs.local")},
		"_sztp._tcp.lab.test. 33":   {service(t, 0, 0, 2, "bs.lab.test")},
	}}
	var seen []string
	visit := func(l source.Lead) error {
		if l.Trusted || l.Interface != "eth0" || l.Network != source.Network(z) {
			t.Errorf("lead %+v", l)
		}
		if l.Bundle != nil {
			seen = append(seen, l.Source+" "+string(l.Bundle.ConveyedInformation))
			if !strings.HasPrefix(l.Place, "TXT SN1._sztp.") {
				t.Errorf("found in %q", l.Place)
			}
		} else {
			seen = append(seen, fmt.Sprint(l.Source, " ", l.Servers[0].Address, " ", l.Servers[0].Port))
		}
		z.asked = append(z.asked, "visited")
		return errors.New("in vain")
	}
	u := &source.Uplink{Interface: "eth0", Network: z, Domains: []string{"lab.test"}}
	err := source.DNS{Serial: "SN1", Random: rand.Float64}.Find(t.Context(), u, visit)
	if want := []string{"mdns 0mdns", "dns 0unicast", "mdns bs.local 1", "dns bs.lab.test 2"}; !slices.Equal(seen, want) {
		t.Errorf("visited %q", seen)
	}
	order := []string{"mdns:SN1._sztp.local. 16", "visited", "SN1._sztp.lab.test. 16", "visited", "mdns:_sztp._tcp.local. 33", "visited",
		"_sztp._tcp.lab.test. 33", "visited"}
	if diff := cmp.Diff(order, z.asked); diff != "" {
		t.Error(diff)
	}
	if err == nil || strings.Count(err.Error(), "in vain") != 4 {
		t.Errorf("%v", err)
	}
	z.asked = nil
	if err := (source.DNS{Serial: "SN1", Random: rand.Float64}).Find(t.Context(), u, func(source.Lead) error { return nil }); err != nil || len(z.asked) != 1 {
		t.Errorf("after the first success: %v, %q", err, z.asked)
	}
	err = source.DNS{Serial: "SN2"}.Find(t.Context(), &source.Uplink{Network: &zone{}, Domains: []string{"lab.test"}}, visit)
	if code, hint := reason.Of(err); code != source.NoRecord || hint == "" || !strings.Contains(err.Error(), "TXT SN2._sztp.lab.test.: none") {
		t.Errorf("%q %q %v", code, hint, err)
	}
	for question, r := range map[string]dns.Record{"mdns:SN1._sztp.local. 16": text("foo=bar"), "mdns:_sztp._tcp.local. 33": service(t, 0, 0, 443, ".")} {
		z := &zone{records: map[string][]dns.Record{question: {r}}}
		err := source.DNS{Serial: "SN1"}.Find(t.Context(), &source.Uplink{Network: z}, visit)
		if code, hint := reason.Of(err); code != source.BadRecord || hint == "" || !strings.Contains(err.Error(), "nothing usable: no ") {
			t.Errorf("%s: %q %q %v", question, code, hint, err)
		}
	}
	silent := &source.FindersError{Findings: []source.Finding{{Finder: "dhcp", Err: &reason.Error{Code: dhcp.NoAnswer}},
		{Finder: "dns", Err: &reason.Error{Code: source.BadRecord, Fix: "mend it"}}}}
	if code, hint := reason.Of(silent); code != source.BadRecord || hint != "mend it" {
		t.Errorf("of a silent DHCP server and a bad record: %q %q", code, hint)
	}
	if err := (source.DNS{}).Find(t.Context(), &source.Uplink{Network: source.System{}}, visit); !errors.Is(err, source.ErrNothing) {
		t.Error(err)
	}
}

// TestSerialAsLabel asks for serial numbers with dots as one label, and not for those that no label can hold.
func TestSerialAsLabel(t *testing.T) {
	for serial, want := range map[string]string{"A.1": `mdns:A\.1._sztp.local. 16`, strings.Repeat("x", 64): "mdns:_sztp._tcp.local. 33", "": "mdns:_sztp._tcp.local. 33"} {
		z := &zone{}
		source.DNS{Serial: serial}.Find(t.Context(), &source.Uplink{Network: z}, nil)
		if z.asked[0] != want {
			t.Errorf("%s: asked %q", serial, z.asked)
		}
	}
}

// redirectPrefix is how unsigned redirect information begins, in DER.
const redirectPrefix = "\x30\x81\x82\x06\x0b\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x01\x2b"

// element is content in DER, of more than 255 octets.
func element(content string) string {
	return string([]byte{0x30, 0x82, byte(len(content) >> 8), byte(len(content))}) + content
}

func bundle(ci, oc, ov string) artifacts.Bundle {
	b := artifacts.Bundle{ConveyedInformation: []byte(ci)}
	if oc != "" {
		b.OwnerCertificate = []byte(oc)
	}
	if ov != "" {
		b.OwnershipVoucher = []byte(ov)
	}
	return b
}

func TestTXTArtifacts(t *testing.T) {
	long := element(strings.Repeat("\x00=x", 200))
	whole, full := "\x30\x81\x07raw=DER", "ci=\x30\x81\xf9"+strings.Repeat("x", 249)
	chunks := func(key, value string) (texts []string) {
		for value = key + "=" + value; value != ""; {
			n := min(len(value), 255)
			texts, value = append(texts, value[:n]), value[n:]
		}
		return texts
	}
	tests := []struct {
		name    string
		records []dns.Record
		want    []artifacts.Bundle
	}{
		{"three-records", []dns.Record{text(chunks("ov", long)...), text(chunks("ci", long)...), text("oc=0c")},
			[]artifacts.Bundle{{ConveyedInformation: []byte(long), OwnerCertificate: []byte("0c"), OwnershipVoucher: []byte(long)}}},
		{"one-record", []dns.Record{text(slices.Concat(chunks("ci", long), chunks("oc", long), []string{"ov=0v"})...)},
			[]artifacts.Bundle{{ConveyedInformation: []byte(long), OwnerCertificate: []byte(long), OwnershipVoucher: []byte("0v")}}},
		{"unsigned", []dns.Record{text("ci=0c")}, []artifacts.Bundle{{ConveyedInformation: []byte("0c")}}},
		{"key-in-capitals", []dns.Record{text("CI=0c")}, []artifacts.Bundle{{ConveyedInformation: []byte("0c")}}},
		{"other-keys", []dns.Record{text("foo=bar", "ci="+whole, "x", "v=1", "\x00", "y"), text("foo=bar")}, []artifacts.Bundle{bundle(whole, "", "")}},
		{"other-key-after-a-full-string", []dns.Record{text(full, "foo=bar", "oc=0d")}, []artifacts.Bundle{bundle(full[3:], "0d", "")}},
		{"in-short-strings", []dns.Record{text("foo=bar", "ci="+whole[:4], whole[4:7], whole[7:], "x", "oc=0d")}, []artifacts.Bundle{bundle(whole, "0d", "")}},
		{"first-of-two", []dns.Record{text("ci=0c", "ci=0d")}, []artifacts.Bundle{{ConveyedInformation: []byte("0c")}}},
		{"neighbours-contradict", []dns.Record{text("ci=0a"), text("ci=0b"), text("ci=0a")},
			[]artifacts.Bundle{{ConveyedInformation: []byte("0a")}, {ConveyedInformation: []byte("0b")}}},
		{"one-record-among-liars", []dns.Record{text("ov=0x"), text("oc=0y"), text("ci=0c", "oc=0d", "ov=0e"), text("ci=0z")}, []artifacts.Bundle{
			bundle("0c", "0d", "0e"), bundle("0c", "0y", "0x"), bundle("0c", "0y", "0e"), bundle("0c", "0d", "0x"),
			bundle("0z", "0y", "0x"), bundle("0z", "0y", "0e"), bundle("0z", "0d", "0x"), bundle("0z", "0d", "0e")}},
		{"liar-has-one-artifact", []dns.Record{text("oc=0x"), text("ci=0c"), text("oc=0d"), text("ov=0e")},
			[]artifacts.Bundle{bundle("0c", "0x", "0e"), bundle("0c", "0d", "0e")}},
		{"unsigned-goes-with-any", []dns.Record{text("oc=0x"), text("oc=0y"), text("ci=" + redirectPrefix), text("ov=0z")},
			[]artifacts.Bundle{bundle(redirectPrefix, "0x", "0z")}},
		{"bounded", []dns.Record{text("ci=01"), text("ci=02"), text("ci=03"), text("ci=04"), text("ci=05")},
			[]artifacts.Bundle{bundle("01", "", ""), bundle("02", "", ""), bundle("03", "", ""), bundle("04", "", "")}},
		{"no-ci", []dns.Record{text("oc=0c", "ov=0v")}, nil},
		{"no-value", []dns.Record{text("ci")}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			z := &zone{records: map[string][]dns.Record{"mdns:SN1._sztp.local. 16": tt.records}}
			var got []artifacts.Bundle
			source.DNS{Serial: "SN1", Random: rand.Float64}.Find(t.Context(), &source.Uplink{Network: z}, func(l source.Lead) error {
				got = append(got, *l.Bundle)
				return errors.New("in vain")
			})
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSRVOrder(t *testing.T) {
	root := dns.Record{Type: dns.SRV, Port: 443, Target: "\x00"}
	records := []dns.Record{service(t, 20, 0, 1, "late"), service(t, 10, 1, 2, "light"), root, service(t, 10, 9, 3, "heavy"),
		service(t, 5, 0, 4, "first."), service(t, 1, 0, 5, "not a host")}
	for random, want := range map[float64]string{0: "first:4 light:2 heavy:3 late:1", 0.99: "first:4 heavy:3 light:2 late:1", 0.15: "first:4 light:2 heavy:3 late:1",
		0.3: "first:4 heavy:3 light:2 late:1"} {
		z := &zone{records: map[string][]dns.Record{"mdns:_sztp._tcp.local. 33": records}}
		var got []string
		source.DNS{Random: func() float64 { return random }}.Find(t.Context(), &source.Uplink{Network: z}, func(l source.Lead) error {
			for _, s := range l.Servers {
				got = append(got, fmt.Sprintf("%s:%d", s.Address, s.Port))
			}
			return nil
		})
		if strings.Join(got, " ") != want {
			t.Errorf("%v: %q, want %q", random, got, want)
		}
	}
}

// TestDomainsAreBounded has a network with more domains than anybody needs, and one that is the neighbours'.
func TestDomainsAreBounded(t *testing.T) {
	domains := []string{"LOCAL."}
	for i := range 60 {
		domains = append(domains, fmt.Sprintf("d%d.test", i))
	}
	z := &zone{}
	source.DNS{Serial: "SN1"}.Find(t.Context(), &source.Uplink{Network: z, Domains: domains}, nil)
	if want := 2 * (1 + 3); len(z.asked) != want {
		t.Errorf("%d questions, want %d: %q", len(z.asked), want, z.asked)
	}
}

// TestServiceInstances finds servers that are known as instances of the service only, and no other services.
func TestServiceInstances(t *testing.T) {
	pointer := func(target ...string) dns.Record {
		n, err := dns.NewName(target...)
		if err != nil {
			t.Fatal(err)
		}
		return dns.Record{Type: dns.PTR, Target: n}
	}
	service443 := func(host string) []dns.Record { return []dns.Record{service(t, 0, 0, 443, host)} }
	for name, test := range map[string]struct {
		records map[string][]dns.Record
		want    string
	}{
		"one": {map[string][]dns.Record{"mdns:_sztp._tcp.local. 12": {pointer("Rack 7", "_sztp", "_tcp", "local")},
			`mdns:Rack\0327._sztp._tcp.local. 33`: service443("bs.local")}, "[bs.local]"},
		"records-of-its-own": {map[string][]dns.Record{"mdns:_sztp._tcp.local. 12": {pointer("a", "_sztp", "_tcp", "local")},
			"mdns:a._sztp._tcp.local. 33": service443("bs.local"), "mdns:_sztp._tcp.local. 33": service443("own.local")}, "[own.local]"},
		"elsewhere": {map[string][]dns.Record{"mdns:_sztp._tcp.local. 12": {pointer("a", "_ipp", "_tcp", "local"), pointer("a"), pointer(),
			pointer("b", "a", "_sztp", "_tcp", "local")},
			"mdns:a._ipp._tcp.local. 33": service443("bs.local"), "mdns:b.a._sztp._tcp.local. 33": service443("bs.local")}, "[]"},
		"five": {map[string][]dns.Record{"_sztp._tcp.lab.test. 12": {pointer("a", "_sztp", "_tcp", "lab", "test"), pointer("b", "_sztp", "_tcp", "lab", "test"),
			pointer("c", "_sztp", "_tcp", "lab", "test"), pointer("d", "_sztp", "_tcp", "lab", "test"), pointer("e", "_sztp", "_tcp", "lab", "test")},
			"d._sztp._tcp.lab.test. 33": service443("fourth"), "e._sztp._tcp.lab.test. 33": service443("fifth")}, "[fourth]"},
	} {
		t.Run(name, func(t *testing.T) {
			z, got := &zone{records: test.records}, []string{}
			source.DNS{Random: rand.Float64}.Find(t.Context(), &source.Uplink{Network: z, Domains: []string{"lab.test"}}, func(l source.Lead) error {
				for _, s := range l.Servers {
					got = append(got, s.Address)
				}
				return nil
			})
			if fmt.Sprint(got) != test.want {
				t.Errorf("found %v, want %v", got, test.want)
			}
		})
	}
}

// TestNothingInDNSEither looks in DNS where DHCP led to nothing. The interface goes on to say what DHCP said; what DNS lacks is said
// of DNS, and each of these once, although IPv6 is tried twice.
func TestNothingInDNSEither(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		redirect []byte
		detail   string
		says     string // %s is the interface; empty when servers were visited
	}{
		"no-option": {nil, "the DHCP server 192.0.2.1 did not send DHCPv4 option 143",
			"no bootstrap server was found by dhcp: %[1]s ipv4: the DHCP server 192.0.2.1 did not send DHCPv4 option 143; " +
				"%[1]s ipv6: no DHCPv6 server answered in time; by dns: %[1]s ipv4: no record for this device in DNS: TXT SN1._sztp.local.: none"},
		"visited": {redirect(t, "https://192.0.2.1"), "the lease was released", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := nettest.NewNetwork(t, nil, "192.0.2.1/24")
			c := kea4
			c.Redirect = test.redirect
			n.Kea4(t, c)
			r := newRig(t, 5*time.Second, n)
			r.Finders = []source.Finder{source.DHCP{}, source.DNS{Serial: "SN1", Random: rand.Float64}}
			err := discover(t, r, func(context.Context, source.Lead) error { return errors.New("in vain") })
			if got := r.board.entry(n.Device, "ipv4").Detail; got != test.detail {
				t.Errorf("the interface says %q, want %q", got, test.detail)
			}
			if test.says == "" {
				return
			}
			if want := fmt.Sprintf(test.says, n.Device); !strings.HasPrefix(err.Error(), want) || strings.Count(err.Error(), "no DHCPv6") != 1 {
				t.Errorf("got  %v\nwant %s…", err, want)
			}
		})
	}
}
