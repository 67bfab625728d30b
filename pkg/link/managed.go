package link

import (
	"bufio"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Where network managers keep what they know of each interface, by index.
const (
	networkdLinks  = "systemd/netif/links"
	managerDevices = "NetworkManager/devices"
)

// managedBy returns who configures the interface, or "". run is the folder /run; ours tells which addresses the agent added.
func managedBy(l *Link, run string, ours func(index int, a netip.Addr) bool) string {
	index := strconv.Itoa(l.Index)
	switch lookup(filepath.Join(run, networkdLinks, index), "ADMIN_STATE") {
	case "", "unmanaged", "linger":
	default: // "pending" and "initialized" as well: networkd has yet to decide
		return "systemd-networkd"
	}
	if lookup(filepath.Join(run, managerDevices, index), "managed") == "true" {
		return "NetworkManager"
	}
	for _, a := range l.Addresses {
		// IPv6 addresses that expire come from router advertisements, which the kernel follows by itself.
		byHand := a.Addr().IsGlobalUnicast() && (a.Addr().Is4() || a.Permanent)
		if byHand && !ours(l.Index, a.Addr()) {
			return "manual"
		}
	}
	return ""
}

// lookup returns the value of the first line "key=value" in a file, or "" without one.
func lookup(file, key string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if name, value, ok := strings.Cut(s.Text(), "="); ok && name == key {
			return value
		}
	}
	return ""
}
