package source_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/source"
	"github.com/xpu-sztp/ztp/test/nettest"
)

// sztpService makes avahi publish an instance of the service, as an administrator would.
var sztpService = map[string]string{"sztp.service": `<?xml version="1.0"?><!DOCTYPE service-group SYSTEM "avahi-service.dtd">
<service-group><name>Bootstrap of rack 7</name><service><type>_sztp._tcp</type><port>8443</port></service></service-group>`}

// TestNobodyButNeighbours has a link with nothing but a real avahi on it: neither DHCP nor routers nor name servers. The device
// learns of the server by multicast DNS, in either way in which it can be published, and so its address, and gets there.
func TestNobodyButNeighbours(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		services map[string]string
		records  []nettest.Record
		asked    []string // after the device's own record
	}{
		"record": {nil, []nettest.Record{nettest.SRV("_sztp._tcp.local", "bs.local", 8443)}, []string{"A bs.local.", "AAAA bs.local.", "PTR _sztp._tcp.local.", "SRV _sztp._tcp.local."}},
		"instance": {sztpService, nil, []string{"A bs.local.", "AAAA bs.local.", "PTR _sztp._tcp.local.", "SRV Bootstrap of rack 7._sztp._tcp.local.",
			"SRV _sztp._tcp.local."}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // DHCP is waited for
			n := nettest.NewNetwork(t, nil)
			log := n.Avahi(t, "bs", test.services, test.records...)
			serve(t, n, "[::]:8443")
			trace := n.Trace(t)
			r := newRig(t, 30*time.Second, n)
			r.Finders = []source.Finder{source.DHCP{}, source.DNS{Serial: "SN1", Random: rand.Float64}}
			err := discover(t, r, func(ctx context.Context, l source.Lead) error {
				if l.Source != "mdns" || l.Trusted || l.Interface != n.Device {
					t.Errorf("lead %+v", l)
				}
				return reach(ctx, l)
			})
			if err != nil {
				t.Fatalf("%v\n%s", err, log)
			}
			asked := questions(trace, "mDNS query")
			if asked[0] != "TXT SN1._sztp.local." {
				t.Errorf("asked for %s first", asked[0])
			}
			slices.Sort(asked[1:]) // those for one thing are asked at once
			if diff := cmp.Diff(test.asked, asked[1:]); diff != "" {
				t.Error(diff)
			}
			if n := trace.Count("DNS"); n > 0 {
				t.Errorf("%d questions to name servers of which there are none", n)
			}
			_, to := trace.AwaitKind(t, "SYN", true).Addresses()
			if !to.Addr().IsLinkLocalUnicast() || to.Port() != 8443 {
				t.Errorf("connected to %v", to)
			}
		})
	}
}

// questions are the different questions that the device asked, in order.
func questions(trace *nettest.Trace, kind string) (asked []string) {
	seen := map[string]bool{}
	for _, p := range trace.Packets() {
		if !p.FromDevice || !strings.HasPrefix(p.Kind(), kind) {
			continue
		}
		q := p.DNS().Questions[0]
		if told := strings.TrimPrefix(q.Type.String(), "Type") + " " + q.Name.String(); !seen[told] {
			seen[told], asked = true, append(asked, told)
		}
	}
	return asked
}
