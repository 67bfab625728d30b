package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/restconf"
	"github.com/xpu-sztp/ztp/pkg/source"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// maxRedirects bounds how many redirects may follow one another (R5.3-06).
const maxRedirects = 10

// visit follows one lead through its redirects. hops is the path of servers that led here, oldest first.
type visit struct {
	*round
	lead source.Lead
	hops []hop
	ends time.Time // when the search for data along this lead is given up
	// redirect is the trusted redirect information that led here; nil when the lead did, or nothing that is trusted.
	redirect *artifacts.Proof
	// budget is what is left for the server of the lead that led here.
	budget *budget
	// shown is the place of the server being visited in the status; -1 when it is not listed.
	shown int
}

// hop is one server as a redirect named it; two hops that are equal make a loop (a server met again with other trust
// does not: RFC 8572 Appendix B promotes connections that way).
type hop struct {
	host    string // in its canonical spelling
	port    uint16
	anchors string // concatenated DER; empty when the connection is provisional
}

// tryServers goes through a list of servers in order until one bootstraps the device (RFC 8572 §5.5). trusted tells
// whether the list itself may be believed, and with it the trust anchors it carries.
func (v *visit) tryServers(ctx context.Context, servers []artifacts.BootstrapServer, trusted bool, from string) error {
	var errs []error
	for _, server := range servers {
		if len(v.hops) == 0 {
			v.budget = newBudget(v.ends)
		}
		if err := v.budget.check(); err != nil {
			return errors.Join(append(errs, v.fail(StageObtain, err))...)
		}
		// DHCP and DNS often name the same server. One that is down costs minutes each time.
		key := source.ServerKey{Host: artifacts.CanonicalHost(server.Address), Port: server.Port}
		known := !trusted && len(v.hops) == 0 && v.lead.InVain != nil
		if known && v.lead.InVain[key] != nil {
			v.Log.Info("server was asked in vain before", "server", server.Address, "port", server.Port, "named-by", from)
			errs = append(errs, v.lead.InVain[key])
			continue
		}
		if !trusted {
			server.Anchors = nil
		}
		err := v.tryServer(ctx, server, from)
		var final finalError
		if err == nil || errors.As(err, &final) || ctx.Err() != nil {
			return err
		}
		if known {
			v.lead.InVain[key] = err
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 { // nothing tried is no success
		return v.fail(StageDiscover, &reason.Error{Code: CodeNoServer, Msg: "the list of bootstrap servers is empty"})
	}
	return errors.Join(errs...)
}

// tryServer tries every address of a server until one yields bootstrapping data, and processes that (R5.5-02, R5.5-03).
func (v *visit) tryServer(ctx context.Context, server artifacts.BootstrapServer, from string) error {
	next, err := v.follow(server)
	if err != nil {
		return v.fail(StageObtain, err)
	}
	v.showPhase(state.PhaseVisiting)
	addresses, err := Resolve(ctx, v.lead, server.Address)
	if err != nil {
		v.showVisit(server, from, err)
		return v.fail(StageResolve, err)
	}
	var errs []error
	for _, addr := range addresses {
		if err := next.budget.take(); err != nil {
			errs = append(errs, v.fail(StageObtain, err))
			break
		}
		got, session, err := next.ask(ctx, server, addr, from)
		if err != nil {
			errs = append(errs, err)
			if ctx.Err() != nil {
				break
			}
			continue
		}
		defer session.Close()
		return next.process(ctx, got)
	}
	return errors.Join(errs...)
}

// follow returns the visit one hop further, or why that hop is refused.
func (v *visit) follow(server artifacts.BootstrapServer) (*visit, error) {
	h := hop{host: artifacts.CanonicalHost(server.Address), port: server.Port, anchors: anchorsKey(server.Anchors)}
	for _, seen := range v.hops {
		if seen == h {
			return nil, &reason.Error{Code: CodeRedirectLoop,
				Msg: fmt.Sprintf("%s was reached again through its own redirect", hostPort(server)),
				Fix: "correct the redirect information of the bootstrap servers; they send the device in a circle"}
		}
	}
	if len(v.hops) > maxRedirects {
		return nil, &reason.Error{Code: CodeRedirectDepth,
			Msg: fmt.Sprintf("more than %d redirects in a row, the last one to %s", maxRedirects, hostPort(server)),
			Fix: "shorten the chain of redirects; RFC 8572 limits it to ten"}
	}
	next := *v
	next.hops = append(v.hops[:len(v.hops):len(v.hops)], h)
	return &next, nil
}

// failHere is fail for what the server at the end of the path is the cause of.
func (v *visit) failHere(stage Stage, err error) error {
	if len(v.hops) > 0 {
		err = &serverError{v.server(), err}
	} else if v.lead.Bundle != nil && v.lead.Place != "" {
		err = &serverError{v.lead.Place, err}
	}
	return v.fail(stage, err)
}

// server is the URL of the server at the end of the path.
func (v *visit) server() string {
	last := v.hops[len(v.hops)-1]
	return "https://" + net.JoinHostPort(last.host, strconv.Itoa(int(last.port)))
}

// Resolve returns the addresses of host by way of the network of a lead, in the order to try them, not more than maxAddresses.
func Resolve(ctx context.Context, l source.Lead, host string) ([]netip.Addr, error) {
	refused := func(ip netip.Addr) bool { return ownAddress(l, ip) }
	if ip, err := netip.ParseAddr(host); err == nil {
		if refused(ip) {
			return nil, &reason.Error{Code: CodeBadAddress, Msg: ip.String() + " is no address of a bootstrap server",
				Fix: "correct the list of bootstrap servers; it points the device at itself or at nobody"}
		}
		return []netip.Addr{ip}, nil
	}
	limited, cancel := context.WithTimeout(ctx, resolveTime)
	defer cancel()
	addresses, err := l.Network.LookupNetIP(limited, "ip", host)
	addresses = slices.DeleteFunc(addresses, refused)
	addresses = addresses[:min(len(addresses), maxAddresses)]
	if err == nil && len(addresses) == 0 {
		err = errors.New("the answer holds no address")
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, fmt.Errorf("resolving %s: %w", host, context.Cause(ctx))
	case err != nil:
		return nil, &reason.Error{Code: CodeNameNotFound, Msg: "cannot resolve " + host, Err: err,
			Fix: "check the name, and the name server that DHCP hands out (or /etc/resolv.conf, where DHCP hands out none)"}
	}
	return addresses, nil
}

// ownAddress reports whether the network or the storage that the lead came from could only name addr to have the device talk
// to itself, where other programs may take a connection for that of a local user, or to nobody. Servers that a person named,
// or that were configured, may be anywhere.
func ownAddress(l source.Lead, addr netip.Addr) bool {
	network := l.Interface != "" || l.Where != nil && !l.Trusted // it may be the machine's own
	return (network || l.Bundle != nil) && noServer(addr)
}

// noServer reports whether addr is the device itself, or nobody.
func noServer(addr netip.Addr) bool {
	addr = addr.Unmap()
	return addr.IsLoopback() || addr.IsUnspecified() || addr.IsMulticast()
}

// reply is bootstrapping data together with the session it came over; session is nil for data that no server sent.
type reply struct {
	bundle  artifacts.Bundle
	session Session
	input   restconf.Input
	output  *restconf.Output
}

// ask connects to one address of a server and obtains bootstrapping data. The caller closes the session.
func (v *visit) ask(ctx context.Context, server artifacts.BootstrapServer, addr netip.Addr, from string) (reply, Session, error) {
	shown := v.showVisit(server, from, nil)
	ctx, cancel := v.budget.limit(ctx)
	defer cancel()
	session, err := v.Connect(ctx, Target{Host: server.Address, Port: server.Port, Address: addr,
		Anchors: server.Anchors, Clock: v.Clock(), Network: v.lead.Network})
	if err != nil {
		v.showVisitFailed(shown, addr, server.Port, err)
		return reply{}, nil, v.failHere(StageConnect, err)
	}
	v.showConnected(shown, addr, server.Port, session)
	input, err := v.input(session.Evidence().Valid())
	if err != nil {
		session.Close()
		return reply{}, nil, v.failHere(StageObtain, err)
	}
	output, err := session.GetBootstrappingData(ctx, input)
	if err != nil {
		v.heed("https://"+hostPort(server), session.Evidence().Valid(), err)
		session.Close()
		v.showVisitFailed(shown, addr, server.Port, err)
		return reply{}, nil, v.failHere(StageObtain, err)
	}
	for _, w := range output.Warnings {
		v.showWarning(hostPort(server) + ": " + w)
	}
	return reply{bundle: output.Bundle, session: session, input: input, output: output}, session, nil
}

// input is what the device says of itself: everything to a trusted server; to any other only that it wants signed data,
// and the nonce that a voucher may repeat (R5.3-11).
func (v *visit) input(trusted bool) (restconf.Input, error) {
	nonce, err := v.Nonce()
	if err != nil {
		return restconf.Input{}, fmt.Errorf("draw a nonce: %w", err)
	}
	if !trusted {
		return restconf.Input{SignedDataPreferred: true, Nonce: nonce}, nil
	}
	return restconf.Input{HWModel: v.Device.HWModel, OSName: v.Device.OSName, OSVersion: v.Device.OSVersion, Nonce: nonce}, nil
}

func hostPort(s artifacts.BootstrapServer) string {
	return net.JoinHostPort(s.Address, strconv.Itoa(int(s.Port)))
}

func anchorsKey(anchors []artifacts.TrustAnchor) string {
	var key bytes.Buffer
	for _, a := range anchors {
		for _, c := range a.Chain {
			key.Write(c.Raw)
		}
	}
	return key.String()
}
