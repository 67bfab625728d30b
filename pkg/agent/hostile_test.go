package agent_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/agent"
	"github.com/xpu-sztp/ztp/pkg/source"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// liar is a network whose name server knows every name, under the same addresses.
type liar struct {
	*world
	addresses []netip.Addr
	asked     *int // how often; may be nil
}

func (l liar) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	if l.asked != nil {
		*l.asked++
	}
	return l.addresses, nil
}

func manyAddresses(n int) (addresses []netip.Addr) {
	for i := range n {
		addresses = append(addresses, netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}))
	}
	return addresses
}

// TestRedirectStormEnds has a server redirect to 64 servers, each of which does so again, ten times over: more connections
// than a device can make. The server after it gets its turn all the same.
func TestRedirectStormEnds(t *testing.T) {
	w := newWorld(t)
	ctx, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	w.servers["192.0.2.7"] = &serverThere{answers: [][]byte{onboardingNamed(t, "x")}}
	lead := w.lead(false, at("storm.example"), at("192.0.2.7"))
	lookups := 0
	lead.Network = liar{w, manyAddresses(1), &lookups}
	a := w.agent(leads{lead})
	connections := 0
	a.Connect = func(ctx context.Context, target agent.Target) (agent.Session, error) {
		if target.Host == "192.0.2.7" {
			return w.connect(ctx, target)
		}
		if connections++; connections == 1000 {
			giveUp()
		}
		var names []entry
		for i := range 64 {
			names = append(names, entry{host: fmt.Sprintf("s%d-%d.example", connections, i)})
		}
		return w.session(&serverThere{answers: [][]byte{redirectTo(t, names...)}}), nil
	}
	_, err := a.Round(ctx, 1)
	wantReason(t, err, string(artifacts.CodeUnsigned)) // the honest server's answer
	if connections > 100 || lookups > 100 {
		t.Errorf("%d connections and %d lookups for one server of the list", connections, lookups)
	}
	if !hasReason(err, agent.CodeSearchTooLong) {
		t.Errorf("nothing says that the search was too long: %v", err)
	}
}

// TestSlowServersAreLeft has every server take the connection and then nothing happens, for as long as it is waited for.
func TestSlowServersAreLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ca := newAuthority(t, "CA")
		var servers []artifacts.BootstrapServer
		for i := range 32 {
			servers = append(servers, at(fmt.Sprintf("s%d.example", i)))
		}
		slow := w.lead(false, servers...)
		slow.Network = liar{world: w, addresses: manyAddresses(4000)}
		w.servers["192.0.2.7"] = &serverThere{chain: ca.serverChain(t, "192.0.2.7"), answers: [][]byte{onboardingNamed(t, "late")}}
		good := w.lead(true, artifacts.BootstrapServer{Address: "192.0.2.7", Port: 443, Anchors: []artifacts.TrustAnchor{ca.anchor()}})
		a := w.agent(leads{slow}, leads{good})
		tried := map[string]bool{}
		a.Connect = func(ctx context.Context, target agent.Target) (agent.Session, error) {
			if !strings.HasSuffix(target.Host, ".example") {
				return w.session(w.servers["192.0.2.7"]), nil
			}
			tried[target.Host] = true
			select {
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			case <-time.After(10 * time.Minute):
				return nil, fmt.Errorf("the test's patience is over")
			}
		}
		began := time.Now()
		_, err := a.Round(t.Context(), 1)
		wantReason(t, err, string(artifacts.CodeUnsigned))
		if took := time.Since(began); took > time.Hour {
			t.Errorf("the other source had to wait for %v", took)
		}
		if !hasReason(err, agent.CodeSearchTooLong) {
			t.Errorf("nothing says that the search was too long: %v", err)
		}
		if len(tried) < 4 {
			t.Errorf("only %d of 32 servers had their turn", len(tried))
		}
		if s := w.status.Servers[0]; s.Result != "server-timeout" || !strings.Contains(s.Detail, "5m0s") {
			t.Errorf("the slow server is shown as %+v", s)
		}
	})
}

// silent is a network whose name server does not answer.
type silent struct{ *world }

func (s silent) LookupNetIP(ctx context.Context, _, _ string) ([]netip.Addr, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestSilentNameServerIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		lead := w.lead(false, at("a.example"), at("b.example"))
		lead.Network = silent{w}
		began := time.Now()
		_, err := w.round(t, leads{lead})
		wantReason(t, err, string(agent.CodeNameNotFound))
		if took := time.Since(began); took != time.Minute {
			t.Errorf("two names took %v", took)
		}
	})
}

func TestAddressesOfOneNameAreBounded(t *testing.T) {
	w := newWorld(t)
	lead := w.lead(false, at("many.example"))
	lead.Network = liar{world: w, addresses: manyAddresses(4000)}
	_, err := w.round(t, leads{lead})
	wantReason(t, err, "connect-failed")
	if n := len(w.trace); n != 16 {
		t.Errorf("%d connections to one server", n)
	}
}

// TestEveryAddressCounts has names with many dead addresses use up what one server of the list may cost.
func TestEveryAddressCounts(t *testing.T) {
	w := newWorld(t)
	var names []entry
	for i := range 10 {
		names = append(names, entry{host: fmt.Sprintf("s%d.example", i)})
	}
	w.servers["192.0.2.1"] = &serverThere{answers: [][]byte{redirectTo(t, names...)}}
	lead := w.lead(false, at("192.0.2.1"))
	lead.Network = liar{world: w, addresses: manyAddresses(16)}
	_, err := w.round(t, leads{lead})
	if !hasReason(err, agent.CodeSearchTooLong) {
		t.Errorf("got %v", err)
	}
	if n := len(w.targets); n != 64 {
		t.Errorf("%d connections for one server of the list", n)
	}
}

// TestNetworkCannotPointTheDeviceAtItself checks lists, redirects and name servers; a person may name what they like.
func TestNetworkCannotPointTheDeviceAtItself(t *testing.T) {
	own := []string{"127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "::ffff:0.0.0.0", "0.0.0.0", "::", "224.0.0.1", "ff02::1"}
	for _, address := range own {
		t.Run(address, func(t *testing.T) {
			w := newWorld(t)
			w.servers["192.0.2.1"] = &serverThere{answers: [][]byte{redirectTo(t, entry{host: address}, entry{host: "liar.example"})}}
			for _, ifname := range []string{"eth0", ""} { // "" is the machine's own network
				lead := w.lead(false, at(address), at("192.0.2.1"))
				lead.Interface, lead.Where = ifname, func() state.Network { return nil }
				lead.Network = liar{world: w, addresses: []netip.Addr{netip.MustParseAddr(address)}}
				w.trace = nil
				if _, err := w.round(t, leads{lead}); !hasReason(err, agent.CodeBadAddress) || !hasReason(err, agent.CodeNameNotFound) {
					t.Errorf("got %v", err)
				}
				w.wantTrace(t, "connect 192.0.2.1 192.0.2.1:443 provisional")
			}

			w.trace = nil
			lead := source.Lead{Source: "url", Servers: []artifacts.BootstrapServer{at(address)}, Network: w}
			if _, err := w.round(t, leads{lead}); err == nil {
				t.Error("no error")
			}
			w.wantTrace(t, fmt.Sprintf("connect %s %s:443 provisional", address, address))
		})
	}
}
