package link

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/xpu-sztp/ztp/dhcp"
)

// bus asks NetworkManager through busctl, which comes with systemd, by the socket of a D-Bus. After a failure it asks nothing.
type bus struct {
	socket string
	err    error
}

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
func (b *bus) gave(ctx context.Context, ifname string, ipv6 bool) (g Given) {
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	family := "4"
	if ipv6 {
		family = "6"
	}
	var path, names, lease string
	var now int
	b.call(ctx, &path, nmObjects, nmService, "GetDeviceByIpIface", ifname)
	device := b.properties(ctx, path, "Device")
	device.read("Ip"+family+"Config", &names)
	device.read("Dhcp"+family+"Config", &lease)
	if device.read("State", &now); now != activated {
		g.State = "state " + strconv.Itoa(now)
	}
	b.properties(ctx, names, "IP"+family+"Config").readNames(&g)
	b.properties(ctx, lease, "DHCP"+family+"Config").readLease(&g, ipv6)
	return g
}

// properties are those of an object on one of its interfaces.
type properties map[string]struct{ Data json.RawMessage }

// properties asks for those of an object; "/" is none.
func (b *bus) properties(ctx context.Context, path, iface string) (p properties) {
	if strings.HasPrefix(path, nmObjects+"/") {
		b.call(ctx, &p, path, "org.freedesktop.DBus.Properties", "GetAll", nmService+"."+iface)
	}
	return p
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
	for _, digits := range strings.Split(value, ":") {
		octet, err := strconv.ParseUint(digits, 16, 8)
		if err != nil || len(digits) > 2 {
			return []byte(value)
		}
		octets = append(octets, byte(octet))
	}
	return octets
}

// call calls a method with one argument, a string, and decodes the one value that it returns into out. A service that does not
// run is not started.
func (b *bus) call(ctx context.Context, out any, path, iface, method, arg string) {
	if b.err != nil {
		return
	}
	address := "--address=unix:path=" + strings.NewReplacer("%", "%25", ",", "%2c", ";", "%3b").Replace(b.socket)
	cmd := exec.CommandContext(ctx, "busctl", address, "--json=short", "--auto-start=no", "--", "call", nmService, path, iface, method, "s", arg)
	var reply, complaint capped
	cmd.Stdout, cmd.Stderr = &reply, &complaint
	if b.err = cmd.Run(); b.err != nil {
		b.err = fmt.Errorf("busctl: %w: %.200s", b.err, complaint.Bytes())
		return
	}
	var answer struct{ Data []json.RawMessage }
	if b.err = json.Unmarshal(reply.Bytes(), &answer); b.err == nil && len(answer.Data) > 0 {
		b.err = json.Unmarshal(answer.Data[0], out)
	}
}

// capped takes so much and no more.
type capped struct{ bytes.Buffer }

func (c *capped) Write(p []byte) (int, error) {
	if c.Len()+len(p) > maxReply {
		return 0, errors.New("too long")
	}
	return c.Buffer.Write(p)
}
