package source

import (
	"cmp"
	"reflect"
	"slices"
	"sort"

	"github.com/xpu-sztp/ztp/dhcp"
	"github.com/xpu-sztp/ztp/pkg/link"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// maxShown bounds how many interfaces the status lists.
const maxShown = 256

// showLinks lists the interfaces without a lease and forgets those that are gone.
func (d *Networks) showLinks() {
	d.Board.Update(func(s *state.Status) {
		links, _ := d.System.Links() // here, so that what is shown last is the latest
		var shown []state.Interface
		for i := range links {
			l := &links[i]
			old := slices.DeleteFunc(slices.Clone(s.Interfaces), func(e state.Interface) bool { return e.Name != l.Name })
			switch {
			case l.Skip == "loopback":
			case l.Skip != "":
				shown = append(shown, state.Interface{Name: l.Name, State: "skipped", Detail: l.Skip})
			case !l.Carrier:
				shown = append(shown, noCarrier(l, old)...)
			default:
				// What attempts have written stays; an entry without a family is from before the carrier came.
				shown = append(shown, slices.DeleteFunc(old, func(e state.Interface) bool { return e.Family == "" })...)
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
	return []state.Interface{{Name: l.Name, State: "no-carrier", Managed: l.Managed}}
}

// show changes the entry of the attempt, which it makes when there is none.
func (a *attempt) show(change func(*state.Interface)) {
	a.Board.Update(func(s *state.Status) {
		// The list may be in use by a reader of the status as it was.
		s.Interfaces = slices.DeleteFunc(slices.Clone(s.Interfaces), func(e state.Interface) bool {
			return e.Name == a.link.Name && e.Family == ""
		})
		i := slices.IndexFunc(s.Interfaces, func(e state.Interface) bool {
			return e.Name == a.link.Name && e.Family == string(a.family)
		})
		if i < 0 {
			if len(s.Interfaces) >= maxShown {
				return
			}
			s.Interfaces = append(s.Interfaces, state.Interface{Name: a.link.Name, Family: string(a.family)})
			i = len(s.Interfaces) - 1
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

// showLease shows what a server gave. Of an interface that somebody else configures, only what DHCP said is shown.
func (a *attempt) showLease(lease *dhcp.Lease, applied *link.Lease) {
	a.show(func(i *state.Interface) {
		*i = state.Interface{Name: a.link.Name, Family: string(a.family), State: "bound", Managed: a.link.Managed,
			LeaseEnds: lease.Ends(), RoutesAdded: applied.Routes()}
		if lease.Server.IsValid() {
			i.Server = lease.Server.String()
		}
		if lease.Address.IsValid() {
			i.Addresses = []string{lease.Address.String()}
		}
		for _, a := range lease.DNS {
			i.DNS = append(i.DNS, a.String())
		}
		for _, s := range lease.Servers {
			i.Options = append(i.Options, s.String())
		}
	})
}
