package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/dhcp"
	"github.com/xpu-sztp/ztp/pkg/link/rtnetlink"
)

// PrepareIPv6 lets the kernel follow router advertisements on an interface that nobody manages, also where the machine
// forwards packets, and makes the default routes that they bring weaker than those that somebody has configured (Linux
// 5.12 and newer). The returned function restores what it was.
func (s *System) PrepareIPv6(l Link) (restore func()) {
	conf := "net/ipv6/conf/" + l.Name + "/"
	return s.sysctls(l, map[string]string{conf + acceptRA: "2", conf + "ra_defrtr_metric": strconv.Itoa(leasedMetric)})
}

// acceptRA is the kernel parameter that says whether it follows router advertisements.
const acceptRA = "accept_ra"

// followsRouters reports whether the kernel follows router advertisements with a value of accept_ra.
func followsRouters(ifname, accept string) bool {
	forwarding, _ := readSysctl("net/ipv6/conf/" + ifname + "/forwarding")
	return accept == "2" || accept == "1" && forwarding != "1"
}

// forgetRouters takes away what the kernel has by router advertisements, which nobody would correct or withdraw where it does not
// follow them any more: addresses, and routes that may draw traffic of other interfaces.
func forgetRouters(index int) error {
	addresses, err := rtnetlink.Addresses()
	errs := []error{err}
	for _, a := range addresses {
		if a.Index == index && a.Flags&unix.IFA_F_PERMANENT == 0 && a.Prefix.Addr().Is6() && a.Prefix.Addr().IsGlobalUnicast() {
			errs = append(errs, a.Delete())
		}
	}
	routes, err := mainRoutes(index)
	errs = append(errs, err)
	for _, r := range routes {
		ofAddress := func(a rtnetlink.Address) bool { // which somebody has added, or which is link-local
			return a.Index == index && a.Flags&unix.IFA_F_PERMANENT != 0 && r.Destination == a.Prefix.Masked()
		}
		if r.Protocol == unix.RTPROT_RA || r.Protocol == unix.RTPROT_KERNEL && !slices.ContainsFunc(addresses, ofAddress) {
			errs = append(errs, r.Delete())
		}
	}
	return errors.Join(errs...)
}

// hope lets the kernel use IPv6 addresses of an interface that nobody manages while it still looks whether another host has them
// (optimistic duplicate address detection, RFC 4429), which otherwise takes one to two seconds for the link-local address and
// as much again for the next. Other hosts cannot come to harm: they are told of the address only when it has proved to be
// ours. It counts for addresses made from now on; machines that forward packets do not get it. Close ends it.
func (s *System) hope(l Link) {
	s.mu.Lock()
	done := s.hopeful[l.Index]
	s.hopeful[l.Index] = done || l.Skip == "" && l.Managed == ""
	s.mu.Unlock()
	if l.Skip != "" || l.Managed != "" || done {
		return
	}
	conf := "net/ipv6/conf/" + l.Name + "/"
	s.sysctls(l, map[string]string{conf + "optimistic_dad": "1", conf + "use_optimistic": "1"})
}

// AwaitUnique blocks until duplicate address detection is over for the leased address, or where that is invalid for all global
// IPv6 addresses of the interface. Its error is ErrDuplicate when another host has the leased one, or has taken them all; when ctx
// ends before, what the kernel knows at that moment counts.
func (s *System) AwaitUnique(ctx context.Context, l Link, leased netip.Addr) error {
	optimistic, duplicate := false, false
	over := func(l *Link) bool {
		if duplicate = false; l == nil || !l.Up {
			return true
		}
		pending, used := false, false
		for _, a := range l.Addresses {
			if leased.IsValid() && a.Addr() != leased || !a.Addr().Is6() || !a.Addr().IsGlobalUnicast() || a.Duplicate {
				continue
			}
			pending, used = pending || a.Optimistic, true
		}
		duplicate = (optimistic || leased.IsValid()) && !used
		optimistic = optimistic || pending
		return !pending
	}
	err := s.AwaitLink(ctx, l.Index, over)
	if err != nil && s.watcher.refresh() == nil {
		_ = s.AwaitLink(ctx, l.Index, over)
	}
	if duplicate {
		return ErrDuplicate
	}
	return err
}

// PrepareIPv4 keeps strict reverse-path filtering from dropping answers on a machine with several uplinks. The returned
// function restores what it was.
func (s *System) PrepareIPv4(l Link) (restore func()) {
	all, _ := readSysctl("net/ipv4/conf/all/rp_filter")
	own, _ := readSysctl("net/ipv4/conf/" + l.Name + "/rp_filter")
	if max(all, own) != "1" { // the kernel takes the greater of both
		return func() {}
	}
	return s.sysctls(l, map[string]string{"net/ipv4/conf/" + l.Name + "/rp_filter": "2"})
}

func (s *System) sysctls(l Link, want map[string]string) (restore func()) {
	var made []change
	for key, value := range want {
		old, err := readSysctl(key)
		if err != nil || old == value {
			continue
		}
		c := change{Kind: "sysctl", Index: l.Index, Interface: l.Name, Key: key, Old: old, New: value}
		if err := s.changes.do(c, func() error { return os.WriteFile("/proc/sys/"+key, []byte(value), 0o644) }); err != nil {
			s.log.Warn("cannot set a kernel parameter", "parameter", key, "value", value, "error", err)
			continue
		}
		made = append(made, c)
	}
	return func() {
		for _, c := range made {
			if err := s.changes.undo(c); err != nil {
				s.log.Warn("cannot restore a kernel parameter", "parameter", c.Key, "error", err)
			}
		}
	}
}

// IPv6Disabled reports whether an administrator has switched IPv6 off on the interface.
func IPv6Disabled(l Link) bool {
	v, err := readSysctl("net/ipv6/conf/" + l.Name + "/disable_ipv6")
	return err != nil || v != "0"
}

// Times of router solicitation (RFC 4861 §10).
const (
	solicitations       = 3
	solicitationSpacing = 4 * time.Second
)

// SolicitRouters asks for router advertisements until one is heard, ctx ends or nobody answers. The kernel does so only when an
// interface comes up, which may be long ago, and after duplicate address detection and a delay of up to a second. That delay is
// for many hosts on one shared medium (RFC 4861 §6.3.7); devices that are powered on together still differ by more than a
// solicitation takes.
func (s *System) SolicitRouters(ctx context.Context, l Link) error {
	heard := func(l *Link) bool { return l == nil || l.Router.Recent }
	for range solicitations {
		if now := s.Now(l); heard(&now) {
			return nil
		} else if err := solicitRouters(now); err != nil {
			return err
		}
		wait, cancel := context.WithTimeout(ctx, solicitationSpacing)
		err := s.AwaitLink(wait, l.Index, heard)
		cancel()
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// Now returns what is known of an interface by now.
func (s *System) Now(l Link) Link {
	links, _ := s.Links()
	if i := slices.IndexFunc(links, func(known Link) bool { return known.Index == l.Index }); i >= 0 {
		return links[i]
	}
	return l
}

func solicitRouters(l Link) error {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		controlErr := c.Control(func(fd uintptr) {
			if err = dhcp.BindToInterface(int(fd), l.Interface()); err == nil {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255)
			}
		})
		if controlErr != nil {
			return controlErr
		}
		return err
	}}
	conn, err := lc.ListenPacket(context.Background(), "ip6:ipv6-icmp", "::")
	if err != nil {
		return err
	}
	defer conn.Close()
	message := make([]byte, 8, 16)
	message[0] = 133 // router solicitation; the kernel fills in the checksum
	// No neighbour may learn where an address is that might be another host's (RFC 4429 §2.2).
	if local := l.LinkLocal(); len(l.MAC) == 6 && !slices.ContainsFunc(l.Addresses, func(a Address) bool { return a.Addr() == local && a.Optimistic }) {
		message = append(append(message, 1, 1), l.MAC...) // source link-layer address
	}
	_, err = conn.WriteTo(message, &net.IPAddr{IP: net.ParseIP("ff02::2"), Zone: strconv.Itoa(l.Index)})
	return err
}

// AwaitDefaultRoute blocks until the interface has an IPv6 default route, which it returns as `ip route` writes it, or ctx
// ends.
func (s *System) AwaitDefaultRoute(ctx context.Context, l Link) (string, error) {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return "", err
	}
	stop := context.AfterFunc(ctx, socket.Close)
	defer func() {
		if stop() {
			socket.Close()
		}
	}()
	for {
		route, err := defaultRoute(l)
		if route != "" || err != nil {
			return route, err
		}
		if _, _, err := socket.Receive(); err != nil && ctx.Err() != nil {
			return "", ctx.Err()
		}
	}
}

// mainRoutes returns an interface's IPv6 routes in the main table, where the kernel puts what routers advertise.
func mainRoutes(index int) ([]rtnetlink.Route, error) {
	routes, err := rtnetlink.Routes(rtnetlink.IPv6, unix.RT_TABLE_MAIN)
	return slices.DeleteFunc(routes, func(r rtnetlink.Route) bool { return r.Index != index }), err
}

func defaultRoute(l Link) (string, error) {
	routes, err := mainRoutes(l.Index)
	if err != nil {
		return "", err
	}
	for _, r := range routes {
		if r.Destination.Bits() == 0 && r.Gateway.IsValid() {
			return fmt.Sprintf("default via %v dev %s metric %d", r.Gateway, l.Name, r.Metric), nil
		}
	}
	return "", nil
}
