package source_test

import (
	"context"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/source"
	"github.com/xpu-sztp/ztp/test/nettest"
)

// TestSilentFamilyDoesNotHoldUpTheOther has a DHCPv4 server without the option, on a link where IPv6 stays silent: the round
// tells of it long before the time for an address is over.
func TestSilentFamilyDoesNotHoldUpTheOther(t *testing.T) {
	t.Parallel() // it takes patience
	n := nettest.NewNetwork(t, nil, "198.18.7.1/24")
	n.Kea4(t, nettest.DHCP{Subnet: "198.18.7.0/24", Pool: "198.18.7.50-198.18.7.60", Router: "198.18.7.1", DNS: "198.18.7.1"})
	r := newRig(t, 2*time.Minute, n)
	begun := time.Now()
	err := r.Discover(t.Context(), func(context.Context, source.Lead) error { t.Error("visited"); return nil })
	if code, _ := reason.Of(err); code != source.NoOption {
		t.Errorf("code %q, %v", code, err)
	}
	if took := time.Since(begun); took > time.Minute {
		t.Errorf("took %v", took)
	}
}
