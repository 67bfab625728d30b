package link

import (
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Who configures an interface, when not the agent.
const (
	networkd       = "systemd-networkd"
	networkManager = "NetworkManager"
	ByHand         = "manual" // somebody gave it addresses
)

// Where network managers keep what they know of each interface, by index below the folder /run.
const (
	networkdLinks  = "systemd/netif/links"
	networkdLeases = "systemd/netif/leases"
	managerDevices = "NetworkManager/devices"
)

// managedBy returns who configures the interface, or "", and whether they are done with it as far as they tell. run is the
// folder /run; ours tells which addresses the agent added.
func managedBy(l *Link, run string, ours func(index int, a netip.Addr) bool) (who string, settled bool) {
	index := strconv.Itoa(l.Index)
	switch now := lookup(filepath.Join(run, networkdLinks, index), "ADMIN_STATE"); now {
	case "", "unmanaged", "linger":
	default: // "pending" and "initialized" as well: networkd has yet to decide
		return networkd, now == "configured"
	}
	if lookup(filepath.Join(run, managerDevices, index), "managed") == "true" {
		return networkManager, true
	}
	for _, a := range l.Addresses {
		// IPv6 addresses that are not permanent come from router advertisements, which the kernel follows by itself; also those
		// that never expire.
		given := a.Addr().IsGlobalUnicast() && (a.Addr().Is4() || a.Permanent)
		if given && !ours(l.Index, a.Addr()) {
			return ByHand, true
		}
	}
	return "", true
}

// maxStateFile bounds what is read of a manager's file, in bytes.
const maxStateFile = 256 << 10

// lookup returns the value of the first line "key=value" in a file, or "" without one.
func lookup(file, key string) string {
	for _, line := range lines(file) {
		if value, ok := strings.CutPrefix(line, key+"="); ok {
			return value
		}
	}
	return ""
}

// lines are the lines of a file, of none if it cannot be read.
func lines(file string) []string {
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	text, _ := io.ReadAll(io.LimitReader(f, maxStateFile))
	return strings.Split(string(text), "\n")
}
