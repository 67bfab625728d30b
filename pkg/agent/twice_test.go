package agent_test

import (
	"slices"
	"testing"

	"github.com/xpu-sztp/ztp/pkg/source"
)

// TestServerNamedTwice has two places of one network name a server. It is asked once, unless one of the places is trusted, or the
// other is another network, which may well lead there.
func TestServerNamedTwice(t *testing.T) {
	ca := newAuthority(t, "CA")
	connect := "connect 192.0.2.1 192.0.2.1:443 provisional"
	for name, test := range map[string]struct {
		lead func(l source.Lead) source.Lead
		want []string
	}{
		"again":          {func(l source.Lead) source.Lead { return l }, []string{connect}},
		"other-spelling": {func(l source.Lead) source.Lead { l.Servers[0].Address = "::ffff:192.0.2.1"; return l }, []string{connect}},
		"other-port":     {func(l source.Lead) source.Lead { l.Servers[0].Port = 8443; return l }, []string{connect, "connect 192.0.2.1 192.0.2.1:8443 provisional"}},
		"one-more":       {func(l source.Lead) source.Lead { l.Servers = append(l.Servers, at("192.0.2.2")); return l }, []string{connect, "connect 192.0.2.2 192.0.2.2:443 provisional"}},
		"other-network":  {func(l source.Lead) source.Lead { l.InVain = map[source.ServerKey]error{}; return l }, []string{connect, connect}},
		"no-network":     {func(l source.Lead) source.Lead { l.InVain = nil; return l }, []string{connect, connect}},
		"trusted":        {func(l source.Lead) source.Lead { l.Trusted = true; return l }, []string{connect, "connect 192.0.2.1 192.0.2.1:443 authenticated"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			first := w.lead(false, at("192.0.2.1", ca.anchor()))
			first.InVain = map[source.ServerKey]error{}
			second := first
			second.Servers = slices.Clone(first.Servers)
			_, err := w.round(t, leads{first, test.lead(second)})
			wantReason(t, err, "connect-failed")
			w.wantTrace(t, test.want...)
		})
	}
}
