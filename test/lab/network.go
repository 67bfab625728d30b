package lab

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"golang.org/x/net/dns/dnsmessage"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/xpu-sztp/ztp/test/lab/dhcpd"
	"github.com/xpu-sztp/ztp/test/lab/event"
	"github.com/xpu-sztp/ztp/test/lab/names"
	"github.com/xpu-sztp/ztp/test/lab/netlab"
	"github.com/xpu-sztp/ztp/test/lab/pki"
)

// Bridge is the interface of the lab's side that devices are connected to.
const Bridge = "lab0"

// Addresses of the lab, all from blocks reserved for documentation (RFC 5737, RFC 3849). The servers are behind the router,
// so that devices need the default route they were given.
var (
	Router4   = netip.MustParsePrefix("192.0.2.1/24")
	Router6   = netip.MustParsePrefix("2001:db8:1::1/64")
	linkLocal = netip.MustParsePrefix("fe80::1/64")
	first4    = netip.MustParseAddr("192.0.2.100")
	first6    = netip.MustParseAddr("2001:db8:1::100")
)

// Endpoint is where a server is.
type Endpoint struct {
	Host      string // a name, or an IP literal without brackets
	Port      uint16
	Addresses []netip.Addr
}

// String returns host[:port] as it stands in an https URL.
func (e Endpoint) String() string {
	host := e.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if e.Port == 443 {
		return host
	}
	return host + ":" + strconv.Itoa(int(e.Port))
}

// URL returns the server's URL, as DHCP options and `ztp run --url` take it.
func (e Endpoint) URL() string { return "https://" + e.String() }

func (l *Lab) makeNetwork() error {
	for i, e := range []struct {
		at   *Endpoint
		host string
		port uint16
	}{
		{&l.RedirectAt, "redirect.maker.example", 443},
		{&l.BootstrapAt, "bootstrap.owner.example", 8443},
		{&l.FilesAt, "images.owner.example", 443},
		{&l.MASAAt, "masa.maker.example", 443},
	} {
		if l.Family == Loopback {
			*e.at = Endpoint{Host: "127.0.0.1", Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}
			continue
		}
		*e.at = Endpoint{Host: e.host, Port: e.port}
		if l.has4() {
			e.at.Addresses = append(e.at.Addresses, netip.AddrFrom4([4]byte{198, 51, 100, byte(10 * (i + 1))}))
		}
		if l.has6() {
			e.at.Addresses = append(e.at.Addresses, netip.MustParseAddr(fmt.Sprintf("2001:db8:2::%d", 10*(i+1))))
		}
	}
	if l.Family == Loopback {
		if netlab.Inside() {
			return netlab.Up("lo")
		}
		return nil
	}
	if !netlab.Inside() {
		return errors.New("this laboratory needs a network of its own: call netlab.Enter first, or use the family loopback")
	}
	return l.makeLinks()
}

func (l *Lab) has4() bool { return l.Family == IPv4 || l.Family == Dual }
func (l *Lab) has6() bool { return l.Family == IPv6 || l.Family == Dual }

func (l *Lab) makeLinks() error {
	if err := netlab.AddBridge(Bridge); err != nil {
		return err
	}
	l.atClose(onClose(func() error { return netlab.Remove(Bridge) }))
	errs := []error{netlab.Up("lo")}
	if l.has4() {
		errs = append(errs, netlab.AddAddress(Bridge, Router4))
	}
	if l.has6() {
		errs = append(errs, netlab.AddAddress(Bridge, Router6), netlab.AddAddress(Bridge, linkLocal))
	}
	for _, e := range []Endpoint{l.RedirectAt, l.BootstrapAt, l.FilesAt, l.MASAAt} {
		for _, a := range e.Addresses {
			at := netip.PrefixFrom(a, a.BitLen())
			errs = append(errs, netlab.AddAddress("lo", at))
			l.atClose(onClose(func() error { return netlab.RemoveAddress("lo", at) }))
		}
	}
	return errors.Join(errs...)
}

// onClose is an io.Closer made of a function.
type onClose func() error

func (f onClose) Close() error { return f() }

// Connect gives ns an interface called name on the lab's link, with the cable not yet plugged.
func (l *Lab) Connect(ns *netlab.Namespace, name string) (*netlab.Cable, error) {
	l.mu.Lock()
	l.ports++
	port := "port" + strconv.Itoa(l.ports)
	l.mu.Unlock()
	cable, err := netlab.Connect(Bridge, ns, name, port)
	if err == nil {
		l.atClose(cable)
	}
	return cable, err
}

// listen opens the listening sockets of e, one for all its addresses. On loopback it fills in the port.
func listen(e *Endpoint) (net.Listener, error) {
	var all []net.Listener
	for _, a := range e.Addresses {
		listener, err := net.Listen("tcp", netip.AddrPortFrom(a, e.Port).String())
		if err != nil {
			for _, opened := range all {
				opened.Close()
			}
			return nil, fmt.Errorf("listen for %s: %w", e.Host, err)
		}
		if e.Port == 0 {
			e.Port = listener.Addr().(*net.TCPAddr).AddrPort().Port()
		}
		all = append(all, listener)
	}
	return join(all), nil
}

// dialByName connects to the lab's own servers without asking DNS.
func (l *Lab) dialByName(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if addrs := l.hosts()[host]; len(addrs) > 0 {
		host = addrs[0].String()
	}
	var d net.Dialer
	return d.DialContext(ctx, network, net.JoinHostPort(host, port))
}

func (l *Lab) hosts() map[string][]netip.Addr {
	hosts := map[string][]netip.Addr{}
	for _, e := range []Endpoint{l.RedirectAt, l.BootstrapAt, l.FilesAt, l.MASAAt} {
		hosts[e.Host] = e.Addresses
	}
	return hosts
}

// Domain is the network's own. Devices learn it only from servers that are told to name it.
const Domain = "lab.test"

// services is how devices find the redirect server without DHCP's options (RFC 8572 §4.2).
func (l *Lab) services() map[string][]dnsmessage.SRVResource {
	target, err := dnsmessage.NewName(l.RedirectAt.Host + ".")
	if err != nil {
		return nil // an address
	}
	return map[string][]dnsmessage.SRVResource{"_sztp._tcp." + Domain: {{Port: l.RedirectAt.Port, Target: target}}}
}

func (l *Lab) startNames() error {
	if l.Family == Loopback {
		return nil
	}
	for _, a := range l.resolvers() {
		at := netip.AddrPortFrom(a, 53).String()
		udp, err := net.ListenPacket("udp", at)
		if err != nil {
			return fmt.Errorf("DNS server: %w", err)
		}
		tcp, err := net.Listen("tcp", at)
		if err != nil {
			udp.Close()
			return fmt.Errorf("DNS server: %w", err)
		}
		server := &names.Server{Hosts: l.hosts(), Services: l.services(), Log: l.Log}
		l.serve(server, func() error { return server.Serve(udp, tcp) })
	}
	return nil
}

func (l *Lab) resolvers() []netip.Addr {
	var at []netip.Addr
	if l.has4() {
		at = append(at, Router4.Addr())
	}
	if l.has6() {
		at = append(at, Router6.Addr())
	}
	return at
}

func (l *Lab) startDHCP() error {
	if l.Family == Loopback || l.NoDHCP {
		return nil
	}
	redirect, err := dhcpd.List(l.RedirectAt.URL())
	if err != nil {
		return err
	}
	if l.has4() {
		l.DHCP4 = &dhcpd.Server4{
			Interface: Bridge, Address: Router4, First: first4, Router: Router4.Addr(), DNS: []netip.Addr{Router4.Addr()},
			Redirect: redirect, Log: l.Log,
		}
		if err := l.start(l.DHCP4); err != nil {
			return err
		}
	}
	if l.has6() {
		l.DHCP6 = &dhcpd.Server6{
			Interface: Bridge, First: first6, DNS: []netip.Addr{Router6.Addr()}, Redirect: redirect, Log: l.Log,
		}
		if err := l.start(l.DHCP6); err != nil {
			return err
		}
		return l.start(&dhcpd.Advertiser{
			Interface: Bridge, LinkLocal: linkLocal.Addr(), Prefix: Router6.Masked(), Log: l.Log,
		})
	}
	return nil
}

func (l *Lab) start(s interface {
	Start() error
	Close() error
}) error {
	if err := s.Start(); err != nil {
		return err
	}
	l.atClose(s)
	return nil
}

// PlugIn plugs a device's cable in and notes it.
func (l *Lab) PlugIn(c *netlab.Cable) error {
	l.Log.Add("lab", event.CableIn, nil, "the cable is plugged in")
	return c.Plug()
}

func serverCertificate(ca *pki.Entity, at Endpoint) (tls.Certificate, error) {
	profile := pki.ServerProfile(at.Host)
	if ip := net.ParseIP(at.Host); ip != nil {
		profile.DNSNames, profile.IPs = nil, []net.IP{ip}
	}
	e, err := ca.Issue(profile)
	if err != nil {
		return tls.Certificate{}, err
	}
	return e.TLS(), nil
}
