package source_test

import (
	"context"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/source"
	"github.com/xpu-sztp/ztp/test/lab/wire"
	"github.com/xpu-sztp/ztp/test/nettest"
)

// TestOrderOfQuestions has a real avahi and a real dnsmasq answer all that RFC 8572 §4.2 asks for, and looks at the cable: what is
// for this device comes first, neighbours before name servers, each after the one before has led nowhere, and nothing after
// success.
func TestOrderOfQuestions(t *testing.T) {
	all := []string{"mDNS query TXT", "visit", "DNS query TXT", "visit", "mDNS query SRV", "visit", "DNS query SRV", "visit"}
	for name, test := range map[string]struct {
		successful string // the visit, as "source what"
		want       []string
	}{
		"all-in-vain-but-the-last": {"dns server", all},
		"first-leads-to-success":   {"mdns artifacts", all[:2]},
		"third-leads-to-success":   {"mdns server", all[:6]},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := nettest.NewNetwork(t, nil, "192.0.2.1/24")
			n.Inside.Do(t, func() error { // IPv6 would ask the same at the same time
				return os.WriteFile("/proc/sys/net/ipv6/conf/"+n.Device+"/disable_ipv6", []byte("1"), 0o644)
			})
			n.Dnsmasq(t, "dhcp-range=192.0.2.50,192.0.2.60,1h", "domain=lab.test", "local=/test/", "address=/bs.lab.test/192.0.2.1",
				"txt-record=SN1._sztp.lab.test,ci=0unicast", "srv-host=_sztp._tcp.lab.test,bs.lab.test,8443")
			n.Avahi(t, "bs", nil, nettest.TXT("SN1._sztp.local", "ci=0mdns"), nettest.SRV("_sztp._tcp.local", "bs.local", 8443))
			trace := n.Trace(t)
			r := newRig(t, 20*time.Second, n)
			r.Finders = []source.Finder{source.DHCP{}, source.DNS{Serial: "SN1", Random: rand.Float64}}
			var visits []time.Time
			err := discover(t, r, func(_ context.Context, l source.Lead) error {
				visits = append(visits, time.Now())
				what := l.Source + " server"
				if l.Bundle != nil {
					what = l.Source + " artifacts"
				}
				if what == test.successful {
					return nil
				}
				return errors.New("in vain")
			})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, story(trace.Packets(), visits)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// story is the device's questions about records that lead somewhere, and the visits between them.
func story(packets []wire.Packet, visits []time.Time) (told []string) {
	for _, p := range packets {
		for len(visits) > 0 && visits[0].Before(p.At) {
			told, visits = append(told, "visit"), visits[1:]
		}
		if kind := p.Kind(); p.FromDevice && strings.Contains(kind, "DNS query") && !strings.HasSuffix(kind, "PTR") {
			told = append(told, kind)
		}
	}
	return append(told, slices.Repeat([]string{"visit"}, len(visits))...)
}

// TestNothingButRoutersAndNames has no DHCP: a real dnsmasq advertises a prefix, itself as name server and its domain, and has
// records there.
func TestNothingButRoutersAndNames(t *testing.T) {
	for name, record := range map[string]string{
		"record":   "srv-host=_sztp._tcp.lab.test,bs.lab.test,8443",
		"instance": "srv-host=rack7._sztp._tcp.lab.test,bs.lab.test,8443",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // neighbours are asked first, and DHCPv6
			n := nettest.NewNetwork(t, nil, "2001:db8:d::1/64")
			log := n.Dnsmasq(t, "enable-ra", "dhcp-range=2001:db8:d::,ra-only", "dhcp-option=option6:dns-server,[2001:db8:d::1]",
				"dhcp-option=option6:domain-search,lab.test", "local=/test/", "host-record=bs.lab.test,2001:db8:d::1", record,
				"ptr-record=_sztp._tcp.lab.test,rack7._sztp._tcp.lab.test")
			serve(t, n, "[::]:8443") // the address itself may not be there yet
			trace := n.Trace(t)
			r := newRig(t, 30*time.Second, n)
			r.Finders = []source.Finder{source.DHCP{}, source.DNS{Serial: "SN1", Random: rand.Float64}}
			err := discover(t, r, func(ctx context.Context, l source.Lead) error {
				if l.Source != "dns" || l.Trusted {
					t.Errorf("lead %+v", l)
				}
				return reach(ctx, l)
			})
			if err != nil {
				t.Fatalf("%v\n%s", err, log)
			}
			if kinds := trace.Kinds("RA", "ADVERTISE6", "REPLY6", "DHCPOFFER"); !slices.Equal(kinds, []string{"< RA"}) {
				t.Errorf("the network said %q", kinds)
			}
			for _, p := range trace.Packets() {
				if from, to := p.Addresses(); p.FromDevice && strings.HasPrefix(p.Kind(), "DNS") && (to.String() != "[2001:db8:d::1]:53" || from.Addr().IsLinkLocalUnicast()) {
					t.Errorf("asked %v", p)
				}
			}
		})
	}
}

// TestArtifactsThatNeedTCP has a real dnsmasq whose answer does not fit a datagram: the device asks again by TCP (RFC 8572 §4.2).
func TestArtifactsThatNeedTCP(t *testing.T) {
	ci := element(strings.Repeat("\x00=x", 1500))
	n := nettest.NewNetwork(t, nil, "192.0.2.1/24")
	log := n.Dnsmasq(t, "dhcp-range=192.0.2.50,192.0.2.60,1h", "domain=lab.test", "local=/test/",
		"dns-rr=SN1._sztp.lab.test,16,"+hex.EncodeToString(textData("ci="+ci)))
	trace := n.Trace(t)
	r := newRig(t, 20*time.Second, n)
	r.Finders = []source.Finder{source.DNS{Serial: "SN1", Random: rand.Float64}}
	err := discover(t, r, func(_ context.Context, l source.Lead) error {
		if string(l.Bundle.ConveyedInformation) != ci {
			t.Errorf("%d octets", len(l.Bundle.ConveyedInformation))
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	answer := trace.AwaitKind(t, "DNS answer TXT", false)
	if !answer.DNS().Truncated {
		t.Error("the answer fits a datagram")
	}
	syn := trace.AwaitKind(t, "SYN", true)
	if _, to := syn.Addresses(); to.String() != "192.0.2.1:53" || !syn.At.After(answer.At) {
		t.Errorf("connected to %v", to)
	}
}

// textData is the data of a TXT record, in character strings as long as can be.
func textData(value string) (data []byte) {
	for value != "" {
		n := min(len(value), 255)
		data = append(append(data, byte(n)), value[:n]...)
		value = value[n:]
	}
	return data
}
