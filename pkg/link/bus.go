package link

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/xpu-sztp/ztp/dhcp"
)

// bus asks NetworkManager through busctl, which comes with systemd, by the socket of a D-Bus.
type bus struct{ socket string }

// Names on the bus.
const (
	nmService = "org.freedesktop.NetworkManager"
	nmObjects = "/org/freedesktop/NetworkManager"
)

// activated is the state of a device that NetworkManager is done with (NM_DEVICE_STATE_ACTIVATED).
const activated = 100

// Bounds of one question.
const (
	busTimeout = 5 * time.Second
	maxReply   = 1 << 20 // bytes
)

// gave asks what NetworkManager has for an interface in one of the families.
func (b bus) gave(ctx context.Context, ifname string, ipv6 bool) (Given, error) {
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	var g Given
	var paths []string
	if err := b.call(ctx, &paths, nmObjects, nmService, "GetDeviceByIpIface", "s", ifname); err != nil {
		return g, err
	}
	if len(paths) != 1 {
		return g, errUnexpected
	}
	device, err := b.properties(ctx, paths[0], ".Device")
	if err != nil {
		return g, err
	}
	var now int
	if device.read("State", &now); now != activated {
		g.State = fmt.Sprintf("state %d", now)
	}
	family := "4"
	if ipv6 {
		family = "6"
	}
	var names, lease string
	device.read("Ip"+family+"Config", &names)
	device.read("Dhcp"+family+"Config", &lease)
	if names != "/" {
		p, err := b.properties(ctx, names, ".IP"+family+"Config")
		if err != nil {
			return g, err
		}
		p.readNames(&g)
	}
	if lease != "/" {
		p, err := b.properties(ctx, lease, ".DHCP"+family+"Config")
		if err != nil {
			return g, err
		}
		p.readLease(&g, ipv6)
	}
	return g, nil
}

var errUnexpected = errors.New("unexpected answer")

// properties are those of an object on one of its interfaces.
type properties map[string]struct{ Data json.RawMessage }

func (b bus) properties(ctx context.Context, path, iface string) (properties, error) {
	if !strings.HasPrefix(path, nmObjects+"/") {
		return nil, errUnexpected
	}
	var all []properties
	err := b.call(ctx, &all, path, "org.freedesktop.DBus.Properties", "GetAll", "s", nmService+iface)
	if err == nil && len(all) != 1 {
		err = errUnexpected
	}
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// read stores a property in v, which keeps its value when there is none of its type.
func (p properties) read(name string, v any) { _ = json.Unmarshal(p[name].Data, v) }

// readNames reads the name servers and domains of an IP4Config or IP6Config.
func (p properties) readNames(g *Given) {
	var servers []struct{ Address struct{ Data string } }
	p.read("NameserverData", &servers)
	for _, s := range servers {
		g.addDNS(s.Address.Data)
	}
	if len(servers) == 0 { // IP6Config has them as octets only
		var raw [][16]byte
		p.read("Nameservers", &raw)
		for _, a := range raw {
			g.addDNS(netip.AddrFrom16(a).String())
		}
	}
	for _, name := range []string{"Domains", "Searches"} {
		var domains []string
		p.read(name, &domains)
		for _, d := range domains {
			g.addDomain(d)
		}
	}
}

// readLease reads the option and the server of a DHCP4Config or DHCP6Config. NetworkManager's own DHCP clients neither ask for
// the option nor keep it. dhclient under it does when its configuration defines the option, whose name is up to whoever wrote
// that, or when the server sends it unasked.
func (p properties) readLease(g *Given, ipv6 bool) {
	options := properties{}
	p.read("Options", &options)
	names := []string{"sztp_redirect", "v4_sztp_redirect", fmt.Sprintf("unknown_%d", dhcp.OptionV4Redirect)}
	if ipv6 {
		names = []string{"dhcp6_sztp_redirect", "dhcp6_v6_sztp_redirect", fmt.Sprintf("dhcp6_unknown_%d", dhcp.OptionV6Redirect)}
	}
	for _, name := range names {
		var value string
		if options.read(name, &value); value != "" {
			g.Option = fromDhclient(value)
		}
	}
	var server string
	options.read("dhcp_server_identifier", &server)
	g.Server, _ = netip.ParseAddr(server)
}

// fromDhclient reads an option of unknown type: text where all of it can be printed, otherwise octets in hexadecimal without
// leading zeros between colons.
func fromDhclient(value string) []byte {
	var octets []byte
	for digits := range strings.SplitSeq(value, ":") {
		octet, err := strconv.ParseUint(digits, 16, 8)
		if err != nil || len(digits) > 2 {
			return []byte(value)
		}
		octets = append(octets, byte(octet))
	}
	return octets
}

// call calls a method and decodes what it returns. A service that does not run is not started.
func (b bus) call(ctx context.Context, out any, path, iface, method string, args ...string) error {
	address := "--address=unix:path=" + strings.NewReplacer("%", "%25", ",", "%2c", ";", "%3b").Replace(b.socket)
	cmd := exec.CommandContext(ctx, "busctl", append([]string{address, "--json=short", "--auto-start=no", "--", "call",
		nmService, path, iface, method}, args...)...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	reply, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	text, readErr := io.ReadAll(io.LimitReader(reply, maxReply))
	if len(text) == maxReply {
		cmd.Process.Kill()
		readErr = errors.New("the answer is too long")
	}
	if err := cmd.Wait(); err != nil && readErr == nil {
		readErr = fmt.Errorf("busctl: %w: %.200s", err, bytes.TrimSpace(complaint.Bytes()))
	}
	if readErr != nil {
		return readErr
	}
	return json.Unmarshal(text, &struct{ Data any }{out})
}
