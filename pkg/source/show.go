package source

import (
	"cmp"
	"reflect"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/xpu-sztp/ztp/dhcp"
	"github.com/xpu-sztp/ztp/pkg/link"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// maxShown bounds how many interfaces the status lists.
const maxShown = 256

// entry is the status of an interface without what attempts find out.
func entry(l *link.Link, now, detail string) state.Interface {
	return state.Interface{Name: l.Name, Index: l.Index, Kind: l.Kind, MAC: l.MAC.String(), MTU: l.MTU, State: now, Detail: detail,
		Managed: l.Managed}
}

// shown is an explained error for the status.
func shown(err error) *state.Reason {
	code, hint := reason.Of(err)
	return &state.Reason{Code: string(code), Message: strings.ReplaceAll(err.Error(), "\n", "; "), Hint: hint, At: time.Now().UTC()}
}

// showLinks lists the interfaces without a lease and forgets those that are gone.
func (d *Networks) showLinks() {
	d.Board.Update(func(s *state.Status) {
		links, _ := d.System.Links() // here, so that what is shown last is the latest
		var shown []state.Interface
		for i := range links {
			l := &links[i]
			old := slices.DeleteFunc(slices.Clone(s.Interfaces), func(e state.Interface) bool { return e.Index != l.Index })
			for i := range old {
				old[i].Name, old[i].MAC, old[i].MTU = l.Name, l.MAC.String(), l.MTU
				if given := old[i].Method == "lease" || old[i].Method == "static"; !given || old[i].State != "bound" {
					old[i].Addresses = addresses(l, family(old[i].Family))
				}
			}
			switch {
			case l.Skip == "loopback":
			case l.Skip != "":
				shown = append(shown, entry(l, "skipped", l.Skip))
			case !l.Carrier:
				shown = append(shown, noCarrier(l, old)...)
			default:
				// What attempts have written stays; an entry without a family is from before the carrier came.
				old = slices.DeleteFunc(old, func(e state.Interface) bool { return e.Family == "" })
				if len(old) == 0 {
					old = []state.Interface{entry(l, "unbound", "not tried yet since it has a carrier")}
				}
				shown = append(shown, old...)
			}
		}
		shown = shown[:min(len(shown), maxShown)]
		if !reflect.DeepEqual(shown, s.Interfaces) {
			s.Interfaces = shown
		}
	})
}

// noCarrier keeps the entries of attempts that are not over yet: they hold what is still to be undone.
func noCarrier(l *link.Link, old []state.Interface) []state.Interface {
	held := slices.DeleteFunc(old, func(e state.Interface) bool { return e.State != "acquiring" && e.State != "bound" })
	if len(held) > 0 {
		return held
	}
	detail := ""
	switch {
	case !l.Up && l.Managed != "":
		detail = "the interface is down; " + manager(*l) + ", who manages it, has not brought it up"
	case !l.Up:
		detail = "the interface is down"
	}
	return []state.Interface{entry(l, "no-carrier", detail)}
}

// show changes the entry of the attempt, which it makes when there is none.
func (a *attempt) show(change func(*state.Interface)) {
	a.Board.Update(func(s *state.Status) {
		// The list may be in use by a reader of the status as it was.
		s.Interfaces = slices.DeleteFunc(slices.Clone(s.Interfaces), func(e state.Interface) bool {
			return e.Index == a.link.Index && e.Family == ""
		})
		i := slices.IndexFunc(s.Interfaces, func(e state.Interface) bool {
			return e.Index == a.link.Index && e.Family == string(a.family)
		})
		if i < 0 {
			if len(s.Interfaces) >= maxShown {
				return
			}
			s.Interfaces = append(s.Interfaces, entry(&a.link, "", ""))
			i = len(s.Interfaces) - 1
			s.Interfaces[i].Family = string(a.family)
		}
		e := s.Interfaces[i]
		change(&e)
		s.Interfaces[i] = e
		sort.Slice(s.Interfaces, func(i, j int) bool { // as in link.list, smaller than with package slices
			a, b := &s.Interfaces[i], &s.Interfaces[j]
			return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Family, b.Family)) < 0
		})
	})
}

// begin empties the entry of the attempt: what was found out the last time is over.
func (a *attempt) begin() {
	a.show(func(i *state.Interface) {
		*i = entry(&a.link, "acquiring", "")
		now := a.now()
		i.Family, i.Addresses = string(a.family), addresses(&now, a.family)
	})
}

// addresses are those that an interface has, by whomever it got them.
func addresses(l *link.Link, f family) (list []string) {
	for _, a := range l.Addresses {
		if a.Addr().Is6() == (f == ipv6) && a.Addr().IsGlobalUnicast() && !a.Tentative && !a.Duplicate {
			list = append(list, a.Prefix.String())
		}
	}
	return list
}

// showLease shows what a server gave.
func (a *attempt) showLease(lease *dhcp.Lease, applied *link.Lease) {
	a.show(func(i *state.Interface) {
		i.State, i.Detail, i.Reason = "bound", "", ""
		i.Method, i.RoutesAdded, i.Warnings = "inform", applied.Routes(), lease.Warnings
		if lease.Server.IsValid() {
			i.Server = lease.Server.String()
		}
		if lease.Address.IsValid() {
			i.Method, i.Addresses = "lease", []string{lease.Address.String()}
			showTimes(i, lease)
		}
		if a.told {
			i.Method = "manager"
		}
		for _, s := range lease.Servers {
			i.Options = append(i.Options, s.String())
		}
		if lease.OptionError != nil {
			i.OptionError = lease.OptionError.Error()
		}
	})
}

// showNetwork shows what both DHCP and routers said.
func (a *attempt) showNetwork(n *link.Network, r link.Router) {
	a.show(func(i *state.Interface) {
		i.DNS, i.Domains = nil, n.Domains
		for _, a := range n.DNS {
			i.DNS = append(i.DNS, a.String())
		}
		if a.family == ipv6 {
			i.Router = &state.Router{Heard: r.Heard, Managed: r.Managed, Other: r.Other}
			if i.Method == "" && r.Heard {
				i.Method = "routers"
			}
		}
	})
}

// showTimes shows when a lease is to be extended, and for how long it is good.
func showTimes(i *state.Interface, lease *dhcp.Lease) {
	i.LeaseObtained, i.LeaseEnds = lease.Obtained.UTC(), lease.Ends()
	i.LeaseRenew, i.LeaseRebind = time.Time{}, time.Time{}
	if !i.LeaseEnds.IsZero() {
		i.LeaseRenew, i.LeaseRebind = i.LeaseObtained.Add(lease.Renew), i.LeaseObtained.Add(lease.Rebind)
	}
}

// showEnd takes away what was true of a lease as long as it was held.
func showEnd(i *state.Interface) {
	i.State, i.Addresses = "unbound", nil
	i.LeaseObtained, i.LeaseRenew, i.LeaseRebind, i.LeaseEnds = time.Time{}, time.Time{}, time.Time{}, time.Time{}
}
