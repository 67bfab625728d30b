package statusview

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/xpu-sztp/ztp/pkg/state"
)

// Verbose returns everything the status holds.
func Verbose(s *state.Status, now time.Time) string {
	p := page{now: now}
	p.summary(s)
	p.fact("enabled", yes(s.Enabled))
	p.fact("version", s.Version)
	if s.PID != 0 {
		p.fact("process", fmt.Sprint(s.PID))
	}
	p.fact("updated", p.moment(s.Updated))
	if !s.Ended.IsZero() && s.Phase != state.PhaseNotStarted {
		p.fact("started", p.moment(s.Started))
	}
	p.fact("attempts", fmt.Sprint(s.Attempts))
	p.fact("reboots", fmt.Sprint(s.Reboots))
	p.device(s)
	for i := range s.Interfaces {
		p.networkInterface(&s.Interfaces[i])
	}
	for i := range s.Sources {
		p.source(&s.Sources[i])
	}
	for i := range s.Servers {
		p.server(&s.Servers[i])
	}
	for i := range s.Downloads {
		p.download(&s.Downloads[i])
	}
	p.image(s.Image)
	if s.Slots != nil {
		p.fact("slots", slotsLine(s.Slots))
	}
	p.images(s.Images)
	for i := range s.Steps {
		p.step(&s.Steps[i])
	}
	for _, r := range s.Reports {
		verdict := "accepted"
		if !r.Accepted {
			verdict = "not accepted"
		}
		p.fact("report", join(", ", r.Type, verdict, r.Detail, clock(r.At)))
	}
	for _, w := range s.Warnings {
		p.fact("warning", join(", ", w.Text, clock(w.At)))
	}
	return p.String()
}

// section prints the name of a thing and then its facts below it.
func (p *page) section(name, value string, facts func()) {
	if value == "" {
		value = "(without a name)"
	}
	p.fact(name, value)
	p.indent = "  "
	facts()
	p.indent = ""
}

func (p *page) device(s *state.Status) {
	p.fact("serial number", s.Device.SerialNumber)
	p.fact("hw-model", s.Device.HWModel)
	p.fact("os-name", s.Device.OSName)
	p.fact("os-version", s.Device.OSVersion)
	id := s.Identity
	if id == nil {
		return
	}
	p.section("identity", identityKind(id), func() {
		p.fact("key", join(", ", id.Key, id.Algorithm))
		p.fact("certificate", id.Certificate)
		p.fact("subject", id.Subject)
		p.fact("issuer", id.Issuer)
		p.validUntil(id.NotAfter)
		if id.DecryptKey != "" {
			p.fact("encrypted", "data is read with "+id.DecryptKey)
		} else {
			p.fact("encrypted", undecipherable)
		}
		for _, w := range id.Warnings {
			p.fact("warning", w)
		}
	})
}

func (p *page) networkInterface(i *state.Interface) {
	p.section("interface", words(i.Name, i.Family), func() {
		p.fact("state", join(", ", i.State, i.Detail))
		p.fact("kind", join(", ", i.Kind, i.MAC, led("MTU ", number(i.MTU))))
		p.fact("managed by", manager(i))
		p.fact("configured", methodLine(i.Method))
		p.fact("addresses", strings.Join(i.Addresses, " "))
		p.fact("router", routerLine(i.Router))
		p.fact("dhcp server", i.Server)
		p.fact("obtained", p.moment(i.LeaseObtained))
		p.fact("renewal", p.moment(i.LeaseRenew))
		p.fact("rebinding", p.moment(i.LeaseRebind))
		p.fact("lease ends", p.moment(i.LeaseEnds))
		p.fact("dns", strings.Join(i.DNS, " "))
		p.fact("domains", strings.Join(i.Domains, " "))
		for _, o := range i.Options {
			p.fact("option", o)
		}
		p.fact("option", led("REFUSED, ", i.OptionError))
		for _, w := range i.Warnings {
			p.fact("warning", w)
		}
		for _, r := range i.RoutesAdded {
			p.fact("route added", r)
		}
		for _, r := range i.RoutesRemoved {
			p.fact("removed", r)
		}
	})
}

func methodLine(method string) string {
	switch method {
	case "lease":
		return "by a DHCP lease"
	case "inform":
		return "by somebody else or by routers; DHCP told the rest"
	case "manager":
		return "by somebody else, whose own DHCP lease told the bootstrap servers"
	case "routers":
		return "without DHCP"
	case "static":
		return "as the configuration says"
	}
	return method
}

func routerLine(r *state.Router) string {
	switch {
	case r == nil:
		return ""
	case !r.Heard:
		return "none was heard"
	case r.Managed:
		return "says that addresses come by DHCPv6"
	case r.Other:
		return "says that addresses need no DHCPv6, other configuration does"
	}
	return "says that there is no DHCPv6"
}

func (p *page) source(s *state.Source) {
	p.section("source", s.Name, func() {
		p.fact("tried", p.moment(s.Tried))
		p.fact("result", join(", ", s.Result, s.Detail))
	})
}

func (p *page) server(s *state.Server) {
	p.section(whatIsAt(s), s.URL, func() {
		p.fact("address", words(s.Address, led("through ", s.Interface)))
		p.fact("learned by", s.Source)
		p.fact("visited", p.moment(s.Visited))
		p.fact("trust", s.Trust)
		p.fact("certificate", s.Certificate)
		p.fact("presented", s.Presented)
		for _, f := range s.StatusFetches {
			verdict := "fetched"
			if !f.OK {
				verdict = "not fetched"
			}
			p.fact(verdict, f.Detail)
		}
		for _, v := range s.Verdicts {
			verdict := "ok"
			if !v.OK {
				verdict = "REFUSED"
			}
			p.fact("check", join(", ", v.Step+" "+verdict, v.Detail))
		}
		p.fact("result", join(", ", s.Result, s.Detail))
	})
}

func (p *page) download(d *state.Download) {
	p.section("download", d.URI, func() {
		if d.Server == "" {
			p.fact("protocol", d.Protocol)
		} else {
			p.fact("server", words(d.Server, led("by ", d.Protocol)))
		}
		p.fact("bytes", join(", ", progress(d), rate(d), resumed(d)))
		p.fact("done by", p.moment(d.ETA))
		p.times(d.Started, d.Ended)
		p.fact("result", join(", ", d.Result, d.Detail))
	})
}

func (p *page) image(i *state.Image) {
	if i == nil {
		return
	}
	p.section("image", words(i.OSName, i.OSVersion), func() {
		p.fact("sha-256", i.SHA256)
		p.fact("slot", i.Slot)
		p.fact("state", imageState(i.State))
		p.fact("install", strings.TrimPrefix(installs(i), "install "))
		p.fact("because", because(i.Reason))
		p.fact("signed by", i.Signer)
	})
}

// Images tells of the images that the device has tried.
func Images(list []state.PastImage, now time.Time) string {
	p := page{now: now}
	p.images(list)
	return p.String()
}

func (p *page) images(list []state.PastImage) {
	for i := range list {
		past := &list[i]
		p.section("tried", cmp.Or(words(past.OSName, past.OSVersion), "image without a name"), func() {
			p.fact("sha-256", past.SHA256)
			p.fact("state", join(", ", pastState(past), led("not tried until ", p.moment(past.Until))))
			p.fact("slot", past.Slot)
			p.fact("installs", number(past.Attempts))
			p.fact("reboots", number(past.Reboots))
			p.fact("because", because(past.Reason))
			p.fact("last change", p.moment(past.Updated))
		})
	}
}

func pastState(i *state.PastImage) string {
	switch {
	case i.State == state.ImageNone:
		return "not on the device"
	case i.State == state.ImageGood && i.Slot == "":
		return "good, until it was overwritten"
	}
	return imageState(string(i.State))
}

func (p *page) step(s *state.Step) {
	p.section("step", s.Name, func() {
		p.fact("result", join(", ", s.Result, exitStatus(s), s.Detail, undoLine(s)))
		p.times(s.Started, s.Ended)
	})
}

func (p *page) times(started, ended time.Time) {
	p.fact("started", p.moment(started))
	if !ended.IsZero() {
		p.fact("ended", p.moment(ended)+lasted(started, ended))
	}
}

func clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.DateTime) + " UTC"
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
