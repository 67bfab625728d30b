package doctor

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/xpu-sztp/ztp/dhcp"
	"github.com/xpu-sztp/ztp/pkg/link"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/source"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// maxEach bounds how many interfaces get a line of their own.
const maxEach = 32

// Links tells which interfaces the agent uses, and why it leaves others alone; or why they cannot be listed.
func (l Lines) Links(links []link.Link, err error) {
	if err != nil {
		l.because(Links, err, "run it as root, on a kernel with netlink")
		return
	}
	usable, elsewhere := 0, false
	var down, dark, left []string
	for i := range links {
		switch k := &links[i]; {
		case k.Skip == "loopback" || strings.HasPrefix(k.Skip, "virtual "):
		case k.Skip != "":
			left = append(left, k.Name+" ("+k.Skip+")")
			elsewhere = elsewhere || Connected(k)
		case !k.Up:
			down = append(down, k.Name)
		case !k.Carrier:
			dark = append(dark, k.Name)
		default:
			if usable++; usable <= maxEach {
				l.usable(k)
			}
		}
	}
	told := group(group(group("", "no carrier: ", dark), "down: ", down), "left alone: ", left)
	besides := told
	if told != "" {
		besides = "; " + told
	}
	kind, text, first := fail+Links+" "+string(source.NoLink), "no interface that the agent may use has a carrier#1"+do+
		"plug a cable in, or look at [discovery] include and exclude in the configuration", ""
	switch {
	case usable > 0 && told == "":
		return
	case usable > 0:
		kind, text, besides = pass+Links, "#1", told
	case elsewhere:
		kind, text = warn+Links+" "+string(source.NoLink), "no interface that the agent may use has a carrier, it looks through the machine's own network#1"+do+
			"look at [discovery] include and exclude in the configuration"
	case len(down) > 0:
		first, text = down[0], "no interface that the agent may use has a carrier#1"+do+
			"bring one up (`ip link set #2 up`), as the agent does when it runs, or plug a cable in"
	}
	l.say("", kind, text, besides, first)
}

// group adds names and what is true of them.
func group(text, why string, names []string) string {
	if len(names) == 0 {
		return text
	}
	if text != "" {
		text += "; "
	}
	return text + why + some(names)
}

// Connected reports whether the machine has a network by an interface that the agent leaves alone.
func Connected(k *link.Link) bool {
	return k.Skip != "" && k.Carrier && len(k.Global(false))+len(k.Global(true)) > 0
}

func (l Lines) usable(k *link.Link) {
	text := "#1, has a carrier, managed by #2: DHCP is only asked for what it knows"
	switch k.Managed {
	case "":
		text = "#1, has a carrier, and nobody else configures it"
	case link.ByHand:
		text = "#1, has a carrier, and addresses that somebody gave it: DHCP is only asked for what it knows"
	}
	l.say(k.Name, pass+Links, text, k.Kind, k.Managed)
}

// Unasked says why networks were not asked, or not given back as they were.
func (l Lines) Unasked(err error) {
	l.say("", warn+Discovery+" "+NotChecked, "what DHCP and DNS say was not looked at: #1"+do+"run it again, as root, when nothing else of ztp runs", err.Error())
}

// maxNamed bounds how much one line lists.
const maxNamed = 8

func some(names []string) string {
	text := strings.Join(names[:min(len(names), maxNamed)], ", ")
	if more := len(names) - maxNamed; more > 0 {
		text += " and " + strconv.Itoa(more) + " more"
	}
	return text
}

// DiscoveryFacts are what was found on the networks, by us or by the agent that runs.
type DiscoveryFacts struct {
	Interfaces []state.Interface
	DNS        *state.Source // why DNS led to nothing; nil where it was not asked, or did lead to something
	Leads      []Lead
	Err        error    // why there is no lead; may be nil
	Looked     []string // the configured places to look at
	Named      bool     // servers were named on the command line
}

// Lead is what a source found.
type Lead struct {
	Source    string
	Interface string
	Servers   []string // URLs
	Data      bool     // the artifacts themselves
}

// Discovery judges what DHCP and DNS said, and whether anything names a server.
func (l Lines) Discovery(f *DiscoveryFacts) {
	for i := range f.Interfaces {
		if e := &f.Interfaces[i]; e.Family != "" {
			l.dhcp(e, len(f.Leads) > 0)
		}
	}
	l.dns(f)
	l.found(f)
}

// absent is a warning about what is missing at one place, unless another place has it.
func (l Lines) absent(elsewhere bool, subject, kind, text string, args ...string) {
	if elsewhere {
		kind, _, _ = strings.Cut(kind[len(warn):], " ")
		kind = pass + kind
		text, _, _ = strings.Cut(text, do)
		text += "; others name servers"
	}
	l.say(subject, kind, text, args...)
}

// dhcp judges the answer on one interface.
func (l Lines) dhcp(e *state.Interface, elsewhere bool) {
	const compare = "compare it with what `ztp-lab dhcp-option URL` prints for the server"
	of := e.Name + " " + e.Family
	option := "option " + strconv.Itoa(dhcp.OptionV4Redirect)
	if e.Family == "ipv6" {
		option = "option " + strconv.Itoa(dhcp.OptionV6Redirect)
	}
	kind, text := warn+DHCP+" "+cmp.Or(e.Reason, dhcp.NoAnswer), "#4"+do+"look at the DHCP server of this network, and at relays on the way to it"
	switch {
	case e.Method == "static":
		kind, text = pass+DHCP, "not asked, the configuration gives the interface addresses"
	case len(e.Options) > 0:
		kind, text = pass+DHCP, "#1 sent #2: #3"
	case e.OptionError != "":
		kind, text = fail+DHCP+" "+dhcp.BadOption, "#1 sent #2, and it cannot be used: #5"+do+compare
	case e.Server != "":
		kind, text = warn+DHCP+" "+string(source.NoOption), "#1 answered, without #2"+do+
			"configure the option on the DHCP server; `ztp-lab dhcp-option URL` prints it for common servers"
	case e.State == "acquiring":
		kind, text = pass+DHCP, "the agent is asking"
	}
	l.absent(elsewhere && kind[:len(warn)] == warn, of, kind, text, strings.TrimSpace("the DHCP server "+e.Server), option,
		strings.Join(e.Options, ", "), cmp.Or(e.Detail, "no DHCP server answered"), e.OptionError)
	for _, w := range e.Warnings {
		l.say(of, warn+DHCP+" "+OptionDeviates, "#1: #2"+do+compare, option, w)
	}
}

// dns judges what name servers and neighbours said.
func (l Lines) dns(f *DiscoveryFacts) {
	for _, lead := range f.Leads {
		if lead.Source == "dns" || lead.Source == "mdns" {
			l.say("", pass+DNS, "#1", lead.String())
			return
		}
	}
	if s := f.DNS; s != nil {
		kind, bad := warn, reason.Code(s.Result) == source.BadRecord
		if bad {
			kind = fail
		}
		l.absent(len(f.Leads) > 0 && !bad, "", kind+DNS+" "+s.Result, "#1"+do+"look at the records _sztp of the domain that DHCP or routers name", s.Detail)
	}
}

// String tells what was found, where.
func (lead *Lead) String() string {
	text := strings.Join(lead.Servers, ", ")
	if lead.Data {
		text = "data for this device"
	}
	text += " by " + lead.Source
	if lead.Interface != "" {
		text += " on " + lead.Interface
	}
	return text
}

// found tells whether there is any server to ask.
func (l Lines) found(f *DiscoveryFacts) {
	var told []string
	for i := range f.Leads {
		told = append(told, f.Leads[i].String())
	}
	stick := ""
	for _, place := range f.Looked {
		if place == "removable-storage" {
			stick = "; removable storage, which is not looked at here, may"
		}
	}
	code, hint := reason.Of(f.Err)
	kind, text, why := pass+Discovery, "found #1", ""
	switch {
	case len(told) > 0:
	case f.Named:
		text = "nothing names a bootstrap server, besides the command line"
	case stick != "" && len(f.Looked) == 1:
		text = "the configuration has the device look at removable storage only, which is not looked at here"
	case f.Err == nil:
		kind, text = fail+Discovery+" "+string(source.NoServer), "nothing names a bootstrap server#2"+do+
			"configure DHCP, DNS or [discovery] well-known, or name one with --url"
	default:
		kind, text, why = fail+Discovery+" "+string(code), "#3, nothing names a bootstrap server#2"+do+"#4", f.Err.Error()
	}
	l.say("", kind, text, some(told), stick, why, cmp.Or(hint, "look at what is said of links, DHCP and DNS"))
}
