package source_test

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/pkg/source"
	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/test/nettest"
)

// TestTwentyInterfaces has carriers everywhere and one network that answers. The others cost no time, hear a few questions, and
// are left as they were.
func TestTwentyInterfaces(t *testing.T) {
	const count, answering = 20, 13
	var networks []*nettest.Network
	var traces []*nettest.Trace
	var before []string
	for i := range count {
		n := nettest.NewNetwork(t, nil, "192.0.2.1/24")
		if i == answering {
			c := kea4
			c.Redirect = redirect(t, "https://192.0.2.1:8443")
			n.Kea4(t, c)
			serve(t, n, "192.0.2.1:8443")
		}
		networks, traces, before = append(networks, n), append(traces, n.Trace(t)), append(before, untouched(t, n))
	}
	goroutines := runtime.NumGoroutine()
	r := newRig(t, time.Minute, networks...)
	for _, n := range networks {
		r.carrier(t, n, true)
	}
	var most runtime.MemStats
	begun := time.Now()
	err := discover(t, r, func(ctx context.Context, lead source.Lead) error {
		if lead.Interface != networks[answering].Device {
			t.Errorf("lead %+v", lead)
		}
		runtime.ReadMemStats(&most)
		return reach(ctx, lead)
	})
	if err != nil {
		t.Fatal(err)
	}
	// One interface alone takes half a second, and its time-out would be a minute.
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
	r.board.await(t, func(s state.Status) bool { return len(s.Interfaces) >= 2*count })
	for i, n := range networks {
		for _, f := range []string{"ipv4", "ipv6"} {
			if e := r.board.entry(n.Device, f); e.State != "unbound" || strings.Contains(e.Detail, "carrier") {
				t.Errorf("status %+v", e)
			}
		}
		if i == answering {
			continue
		}
		if traces[i].Count("DHCPDISCOVER") > 5 || traces[i].Count("SOLICIT6") > 3 || traces[i].Count("RS") > 4 {
			t.Errorf("%s heard too much: %q", n.Device, traces[i].Story("DHCP", "SOLICIT6", "RS"))
		}
		for _, told := range traces[i].Kinds() {
			if kind, sent := strings.CutPrefix(told, "> "); sent && !isQuestion(kind) {
				t.Errorf("%s heard %s", n.Device, kind)
			}
		}
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	for i, n := range networks {
		if after := untouched(t, n); after != before[i] {
			t.Errorf("%s was\n%s\nand is\n%s", n.Device, before[i], after)
		}
	}
	if most.HeapInuse > 64<<20 {
		t.Errorf("%d MiB in use", most.HeapInuse>>20)
	}
	if now := runtime.NumGoroutine(); now > goroutines+count/2 { // traces and servers come and go
		t.Errorf("%d goroutines, %d before", now, goroutines)
	}
}

// isQuestion reports whether a packet belongs to looking for a network and to being on a link.
func isQuestion(kind string) bool {
	for _, k := range []string{"DHCPDISCOVER", "SOLICIT6", "RS", "DAD", "NS", "NA", "MLDv2"} {
		if strings.HasPrefix(kind, k) {
			return true
		}
	}
	return false
}

// untouched is all of an interface that the agent may change.
func untouched(t *testing.T, n *nettest.Network) string {
	t.Helper()
	text := configured(t, n)
	for _, key := range []string{"net/ipv4/conf/%/rp_filter", "net/ipv6/conf/%/accept_ra", "net/ipv6/conf/%/ra_defrtr_metric"} {
		text += n.Inside.Run(t, "sysctl", strings.ReplaceAll(key, "%", n.Device))
	}
	if strings.Contains(n.Inside.Run(t, "ip", "-o", "link", "show", "dev", n.Device), ",UP") {
		text += "up\n"
	}
	return text
}
