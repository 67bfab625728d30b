package nettest_test

import (
	"context"
	"net"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/test/nettest"
)

func TestMain(m *testing.M) { os.Exit(nettest.Main(m)) }

// TestTrace has a device ask a name server and be refused a connection, and looks whether the trace tells so.
func TestTrace(t *testing.T) {
	n := nettest.NewNetwork(t, nil, "192.0.2.1/24")
	n.Dnsmasq(t, "txt-record=name.test,text")
	trace := n.Trace(t)
	n.Up(t)
	n.Inside.Run(t, "ip", "addr", "add", "192.0.2.2/24", "dev", n.Device)
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, "192.0.2.1:53")
	}}
	if got, err := resolver.LookupTXT(t.Context(), "name.test."); err != nil || got[0] != "text" {
		t.Fatal(got, err)
	}
	if _, err := net.Dial("tcp", "192.0.2.1:9"); err == nil {
		t.Fatal("connected to nobody")
	}
	trace.AwaitKind(t, "RST", false)
	want := []string{"> ARP request", "< ARP reply", "> DNS query TXT", "< DNS answer TXT", "> SYN", "< RST"}
	if diff := cmp.Diff(want, trace.Kinds("ARP re", "DNS", "SYN", "RST")); diff != "" {
		t.Error(diff)
	}
	if n := trace.Count("DNS"); n != 1 {
		t.Errorf("%d queries", n)
	}
}
