package source_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/link"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/source"
	"github.com/xpu-sztp/ztp/test/nettest"
)

// managedRig is a rig whose interface is going to be somebody else's. What that leaves is taken away in the end.
func managedRig(t *testing.T, timeout time.Duration, n *nettest.Network) *rig {
	t.Helper()
	r := newRig(t, timeout, n)
	t.Cleanup(func() {
		n.Inside.Run(t, "ip", "-4", "route", "flush", "dev", n.Device)
		n.Inside.Run(t, "ip", "addr", "flush", "dev", n.Device, "scope", "global")
	})
	return r
}

// awaitAddress blocks until a manager has given the interface an IPv4 address, which it returns.
func awaitAddress(t *testing.T, r *rig, n *nettest.Network, manager string) (address string, index int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := r.System.Await(ctx, func(links []link.Link) bool {
		return slices.ContainsFunc(links, func(l link.Link) bool {
			if l.Name != n.Device || l.Managed != manager || !l.Settled || len(l.Global(false)) == 0 {
				return false
			}
			address, index = l.Global(false)[0].String(), l.Index
			return true
		})
	})
	if err != nil {
		t.Fatalf("%s has given the interface no address: %v", manager, err)
	}
	return address, index
}

// theirs is all that a manager has configured on the interface, without how long it lasts.
func theirs(t *testing.T, n *nettest.Network) string {
	var kept []string
	for line := range strings.Lines(n.Inside.Run(t, "ip", "addr", "show", "dev", n.Device) + n.Inside.Run(t, "ip", "route", "show", "table", "all", "dev", n.Device) +
		n.Inside.Run(t, "ip", "rule")) {
		if !strings.Contains(line, "valid_lft") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

const networkdLease = "[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\nIPv6AcceptRA=no\nDomains=site.test\n[DHCPv4]\nRequestOptions=143\nUseDomains=yes"

func TestNetworkd(t *testing.T) {
	tests := map[string]struct {
		stored bool
		sent   []string
		method string
	}{
		"its-lease-lacks-the-option": {false, []string{"> DHCPINFORM", "< DHCPACK"}, "inform"},
		"its-lease-has-the-option":   {true, nil, "manager"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			n := nettest.NewNetwork(t, nil, "192.0.2.1/24")
			c := kea4
			c.Redirect = redirect(t, "https://192.0.2.1:8443")
			n.Kea4(t, c)
			serve(t, n, "192.0.2.1:8443")
			r := managedRig(t, 30*time.Second, n)
			log := n.Networkd(t, r.run, networkdLease)
			address, index := awaitAddress(t, r, n, "systemd-networkd")
			if tt.stored { // as one would that keeps other options than those of private use
				log.Freeze(t)
				stored := fmt.Sprintf("OPTION_143=%s\n", hex.EncodeToString(c.Redirect))
				appendTo(t, filepath.Join(r.run, "systemd/netif/leases", fmt.Sprint(index)), stored)
			}
			before, trace := theirs(t, n), n.Trace(t)
			err := discover(t, r, func(ctx context.Context, lead source.Lead) error {
				if lead.Source != "dhcp4" || lead.Trusted {
					t.Errorf("lead %+v", lead)
				}
				network := lead.Network.(*link.Network)
				if diff := cmp.Diff([]string{"site.test", "lab.test"}, network.Domains); diff != "" || fmt.Sprint(network.DNS) != "[192.0.2.1]" {
					t.Errorf("%s, name servers %v", diff, network.DNS)
				}
				e := r.board.entry(n.Device, "ipv4")
				if e.Managed != "systemd-networkd" || e.Method != tt.method || e.RoutesAdded != nil || len(e.Options) != 1 || e.Server != "192.0.2.1" {
					t.Errorf("status %+v", e)
				}
				return reach(ctx, lead)
			})
			if err != nil {
				t.Fatalf("%v\n%s", err, log)
			}
			trace.AwaitKind(t, "SYN ACK", false)
			if diff := cmp.Diff(tt.sent, trace.Kinds("DHCP")); diff != "" {
				t.Error(diff)
			}
			for _, p := range trace.Packets() {
				if from, _ := p.Addresses(); p.FromDevice && p.DHCP4() != nil && from.Addr().String() != address {
					t.Errorf("%v is not from networkd's address %s", p, address)
				}
			}
			if diff := cmp.Diff(before, theirs(t, n)); diff != "" {
				t.Errorf("networkd's configuration has changed:\n%s", diff)
			}
		})
	}
}

func appendTo(t *testing.T, file, text string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// TestNetworkdStartsLate has it take over an interface that the agent has begun to look at, with the only address that there is.
func TestNetworkdStartsLate(t *testing.T) {
	n := nettest.NewNetwork(t, nil, "192.0.2.1/24")
	c := kea4 // without the option
	c.Pool = "192.0.2.50-192.0.2.50"
	n.Kea4(t, c)
	r := managedRig(t, 30*time.Second, n)
	began := make(chan struct{}, 2)
	r.Finders = []source.Finder{source.DHCP{}, waiting{began}}
	done := make(chan error, 1)
	trace := n.Trace(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { done <- r.Discover(ctx, func(context.Context, source.Lead) error { return errors.New("no") }) }()
	begun := func() {
		t.Helper()
		select {
		case <-began:
		case <-time.After(time.Minute):
			t.Fatal("the agent has not begun to look")
		}
	}
	begun()
	log := n.Networkd(t, r.run, networkdLease)
	begun()
	log.Await(t, n.Device+": State changed: configuring -> configured")
	before := theirs(t, n)
	cancel()
	<-done
	if diff := cmp.Diff(before, theirs(t, n)); diff != "" {
		t.Errorf("networkd's configuration has changed:\n%s", diff)
	}
	// One lease is the agent's and one networkd's; the agent gives its own back and then only informs itself.
	for kind, want := range map[string]int{"DHCPRELEASE": 1, "DHCPINFORM": 1} {
		if got := trace.Count(kind); got != want {
			t.Errorf("%d %s, want %d: %q", got, kind, want, trace.Kinds("DHCP"))
		}
	}
}

// TestNetworkdTakesTheAddress has it lease, during a visit, the very address that the agent has, of a server that knows devices
// by their hardware address.
func TestNetworkdTakesTheAddress(t *testing.T) {
	n := nettest.NewNetwork(t, nil, "192.0.2.1/24")
	option := nettest.HexOption(redirect(t, "https://192.0.2.1"))
	n.Dnsmasq(t, "dhcp-range=192.0.2.50,192.0.2.60,1h", "dhcp-option=143,"+option, "dhcp-ignore-clid")
	r := managedRig(t, 30*time.Second, n)
	address := func() string {
		return strings.Join(strings.Fields(n.Inside.Run(t, "ip", "-o", "-4", "addr", "show", "dev", n.Device))[:4], " ")
	}
	var had, has string
	trace := n.Trace(t)
	err := discover(t, r, func(context.Context, source.Lead) error {
		had = address()
		n.Networkd(t, r.run, networkdLease).Await(t, n.Device+": State changed: configuring -> configured")
		has = address()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if had != has || has != address() {
		t.Errorf("the agent had %q, networkd %q, afterwards there is %q", had, has, address())
	}
	if count := trace.Count("DHCPRELEASE"); count > 0 {
		t.Errorf("gave back what was networkd's: %q", trace.Kinds("DHCP"))
	}
}

// waiting is a finder that goes on until its network is gone.
type waiting struct{ began chan struct{} }

func (waiting) Name() string { return "waiting" }

func (w waiting) Find(ctx context.Context, u *source.Uplink, _ func(source.Lead) error) error {
	if !u.IPv6 {
		select {
		case w.began <- struct{}{}:
		default:
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

func TestNetworkManager(t *testing.T) {
	tests := map[string]struct {
		client string
		sent   []string
		method string
	}{
		"internal": {"internal", []string{"> DHCPINFORM", "< DHCPACK"}, "inform"}, // which keeps no such option
		"dhclient": {"dhclient", nil, "manager"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			n := nettest.NewNetwork(t, nil, "192.0.2.1/24")
			c := kea4
			c.Redirect = redirect(t, "https://192.0.2.1:8443")
			n.Kea4(t, c)
			serve(t, n, "192.0.2.1:8443")
			r := managedRig(t, 30*time.Second, n)
			log := n.NetworkManager(t, r.run, tt.client, "[ipv4]", "method=auto", "dns-search=site.test", "[ipv6]", "method=disabled")
			awaitAddress(t, r, n, "NetworkManager")
			before, trace := theirs(t, n), n.Trace(t)
			err := discover(t, r, func(ctx context.Context, lead source.Lead) error {
				network := lead.Network.(*link.Network)
				if lead.Source != "dhcp4" || fmt.Sprint(network.Domains) != "[lab.test site.test]" || fmt.Sprint(network.DNS) != "[192.0.2.1]" {
					t.Errorf("lead %+v, domains %q, name servers %v", lead, network.Domains, network.DNS)
				}
				if e := r.board.entry(n.Device, "ipv4"); e.Managed != "NetworkManager" || e.Method != tt.method || e.Server != "192.0.2.1" {
					t.Errorf("status %+v", e)
				}
				return reach(ctx, lead)
			})
			if err != nil {
				t.Fatalf("%v\n%s", err, log)
			}
			trace.AwaitKind(t, "SYN ACK", false)
			if diff := cmp.Diff(tt.sent, trace.Kinds("DHCP")); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(before, theirs(t, n)); diff != "" {
				t.Errorf("NetworkManager's configuration has changed:\n%s", diff)
			}
		})
	}
}

// TestManagerNeverDecides has the interface's manager wait for something that does not come.
func TestManagerNeverDecides(t *testing.T) {
	n := nettest.NewNetwork(t, nil, "192.0.2.1/24")
	n.Up(t)
	r := newRig(t, time.Second, n)
	i, err := net.InterfaceByName(n.Device)
	if err != nil {
		t.Fatal(err)
	}
	links := filepath.Join(r.run, "systemd/netif/links")
	if err := os.MkdirAll(links, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(links, fmt.Sprint(i.Index)), []byte("ADMIN_STATE=pending\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r.System.AwaitLink(t.Context(), i.Index, func(l *link.Link) bool { return l.Managed != "" })
	trace := n.Trace(t)
	err = discover(t, r, func(context.Context, source.Lead) error { t.Error("visited"); return nil })
	code, hint := reason.Of(err)
	if code != source.Undecided || !strings.Contains(err.Error(), "systemd-networkd manages the interface") ||
		!strings.Contains(err.Error(), "it calls the interface pending") || !strings.Contains(hint, "udev") {
		t.Errorf("code %q, hint %q, %v", code, hint, err)
	}
	if story := trace.Story("DHCP"); len(story) > 0 {
		t.Errorf("sent %q", story)
	}
}

// TestSystemResolver looks for records in the search domains of the system, whose name servers are asked for them: on an
// interface that somebody has configured by hand, and by the machine's own network, when the agent has no interface to use.
func TestSystemResolver(t *testing.T) {
	for name, own := range map[string]bool{"by-hand": false, "own-network": true} {
		t.Run(name, func(t *testing.T) {
			n := nettest.NewNetwork(t, nil, "192.0.2.1/24")
			n.Up(t)
			used := n
			if own {
				used = nettest.NewNetwork(t, nil)
				used.Unplug(t)
			}
			r := managedRig(t, 10*time.Second, used)
			n.Inside.Run(t, "ip", "addr", "add", "192.0.2.7/24", "dev", n.Device)
			if !own {
				awaitAddress(t, r, n, "manual")
			}
			// It answers who asks to be informed, but not with its name servers.
			n.Dnsmasq(t, "dhcp-range=192.0.2.50,192.0.2.60,1h", "dhcp-option=6", "srv-host=_sztp._tcp.site.test,bs.site.test,8443")
			text := "nameserver 192.0.2.1\nsearch other.test site.test\n"
			if err := os.WriteFile(filepath.Join(r.run, "resolv.conf"), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			r.Finders = []source.Finder{source.DNS{Serial: "SN1", Random: func() float64 { return 0 }}}
			trace := n.Trace(t)
			err := discover(t, r, func(_ context.Context, lead source.Lead) error {
				if lead.Source != "dns" || len(lead.Servers) != 1 || lead.Servers[0].Address != "bs.site.test" || (lead.Interface == "") != own {
					t.Errorf("lead %+v", lead)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if from, to := trace.AwaitKind(t, "DNS query SRV", true).Addresses(); from.Addr().String() != "192.0.2.7" || to.Addr().String() != "192.0.2.1" {
				t.Errorf("%v asked %v", from, to)
			}
			if trace.Count("mDNS query") > 0 && own {
				t.Errorf("asked neighbours: %q", trace.Story("mDNS"))
			}
		})
	}
}
