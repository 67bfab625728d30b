package source

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/xpu-sztp/ztp/dhcp"
	"github.com/xpu-sztp/ztp/pkg/link"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// holding is a lease that is applied to the interface.
type holding struct {
	lease   *dhcp.Lease // as the server has it; nil once it is lost
	applied *link.Lease
}

// acquire gets a lease and applies it. An address that another host uses is declined, once.
func (a *attempt) acquire(ctx context.Context) (*dhcp.Lease, *link.Lease, error) {
	for tries := 1; ; tries++ {
		lease, err := a.client.Acquire(ctx)
		if err != nil {
			return nil, nil, err
		}
		applied, err := a.System.Apply(ctx, a.link, lease)
		if err == nil {
			h := &holding{lease, applied}
			a.held = h
			a.undo = append(a.undo, func() { a.giveBack(h) })
			return lease, applied, nil
		}
		client6, v6 := a.client.(*dhcp.Client6)
		if !v6 || !errors.Is(err, link.ErrDuplicate) {
			_ = a.client.Release(lease) // best effort; the lease was never used
			a.dhcpServers(a.link.Index).Fruitless(lease)
			return nil, nil, &reason.Error{Code: reason.Code(dhcp.NoLease), Msg: "cannot apply the lease", Err: err}
		}
		_ = client6.Decline(lease)
		if tries == 2 {
			return nil, nil, &reason.Error{Code: reason.Code(dhcp.NoLease), Msg: "the DHCPv6 server leases addresses that are in use", Err: err}
		}
	}
}

// keep extends the lease in the background. One that is lost takes its address along at once, and another is asked for
// (RFC 2131 §4.4.5, RFC 8415 §18.2.5): a visit that goes on for hours, or what is looked for after it, can then go on too.
// What it means for connections from the old address, they will tell. Until stop has returned, a.held is not to be used.
func (a *attempt) keep(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		for {
			h := a.held
			lost := dhcp.Keep(ctx, a.client, h.lease, func(next *dhcp.Lease) error {
				h.lease = next
				a.show(func(i *state.Interface) { showTimes(i, next) })
				return h.applied.Extend(next)
			})
			if lost == nil {
				return
			}
			a.Logger.Warn("the lease is lost; asking for another", "interface", a.link.Name, "error", lost)
			a.show(func(i *state.Interface) { i.Detail = lost.Error() })
			a.remove(h)
			lease, applied, err := a.acquire(ctx)
			if err != nil {
				if ctx.Err() == nil {
					a.Logger.Warn("there is no other lease", "interface", a.link.Name, "error", err)
				}
				return
			}
			a.Logger.Info("there is another lease", "interface", a.link.Name, "address", lease.Address.String())
			a.showLease(lease, applied)
		}
	}()
	return func() { cancel(); <-kept }
}

// giveBack releases the lease and takes the address away: DHCPv4 needs it to be there, DHCPv6 that it is not in use (RFC 8415
// §18.2.7). An address that another host has is declined. Of a lost lease nothing is left.
func (a *attempt) giveBack(h *holding) {
	if h.lease == nil {
		return
	}
	release, lease := a.client.Release, h.lease
	if client6, ok := a.client.(*dhcp.Client6); ok {
		a.remove(h)
		if a.duplicate {
			release = client6.Decline
		}
	}
	if ends := lease.Ends(); !ends.IsZero() && !time.Now().Before(ends) {
		a.Logger.Debug("there is no lease left to release", "interface", a.link.Name)
	} else if h.applied.TakenOver() {
		a.Logger.Info("somebody else has leased the same address", "interface", a.link.Name)
	} else if err := release(lease); err != nil {
		a.Logger.Debug("the lease could not be released", "interface", a.link.Name, "error", err)
	}
	a.remove(h)
}

// remove takes away what was applied of a lease.
func (a *attempt) remove(h *holding) {
	if h.lease == nil {
		return
	}
	h.lease = nil
	routes := h.applied.Routes()
	if err := h.applied.Remove(); err != nil {
		a.Logger.Warn("the lease could not be removed from the interface", "interface", a.link.Name, "error", err)
	}
	a.show(func(i *state.Interface) {
		showEnd(i)
		done := "the lease was released"
		if i.Method == "static" {
			done = "the static addresses were taken away"
		}
		i.RoutesRemoved, i.Detail = routes, cmp.Or(i.Detail, done)
	})
}
