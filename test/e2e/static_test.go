package e2e

import (
	"slices"
	"testing"

	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/test/lab"
	"github.com/xpu-sztp/ztp/test/lab/device"
)

const staticConfig = `
[discovery.static."eth*"]
addresses = ["192.0.2.77/24"]
gateways = ["192.0.2.1"]
dns = ["192.0.2.1"]
`

// TestStaticAddress: a server that the command line names is visited by way of the address that the configuration gives.
func TestStaticAddress(t *testing.T) {
	l := newLab(t, lab.Options{Family: lab.IPv4})
	l.Onboard(onboarding(l), "minimal")
	d := newDevice(t, l, device.Options{Config: staticConfig, Command: []string{"run", "--once", "--url", l.RedirectAt.URL()}})
	wantOnboarded(t, l, d)
	s := status(t, d)
	if !slices.ContainsFunc(s.Interfaces, func(i state.Interface) bool {
		return i.Name == "eth0" && i.Family == "ipv4" && i.Method == "static" && len(i.RoutesRemoved) == 2
	}) {
		t.Errorf("interfaces %+v", s.Interfaces)
	}
}
