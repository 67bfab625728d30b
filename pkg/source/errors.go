package source

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/xpu-sztp/ztp/dhcp"
	"github.com/xpu-sztp/ztp/pkg/link"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/storage"
)

// Reason codes of this package. Those of package dhcp appear as well.
const (
	NoLink    reason.Code = "no-link"                    // no interface can be used
	LinkLost  reason.Code = "link-lost"                  // the interface lost its carrier or vanished too early
	NotAsked  reason.Code = "not-asked"                  // no network is one on which to look at this kind of place
	NoAddress reason.Code = "no-address"                 // the interface has no address of the family
	Undecided reason.Code = "interface-undecided"        // whoever manages the interface has yet to decide about it
	NoOption  reason.Code = "no-bootstrap-server-option" // DHCP works but names no bootstrap server
	NoServer  reason.Code = "no-server"                  // a list of servers is empty
	NoRecord  reason.Code = "no-dns-record"              // DNS has nothing for this device
	NoNames   reason.Code = "no-dns-answer"              // name servers do not answer, or refuse to
	BadRecord reason.Code = "bad-dns-record"             // DNS has records for it that hold nothing usable

	DuplicateAddress reason.Code = "duplicate-address" // another host uses the address that the interface would have

	NoStorage    reason.Code = "no-removable-storage" // none is plugged in
	NoData       reason.Code = "storage-no-data"      // removable storage has no data for this device
	SlowStorage  reason.Code = "storage-timeout"      // removable storage cannot be read in time
	NeedsNetwork reason.Code = "needs-network"        // data from removable storage can only be followed on a network
)

var errNoLink = &reason.Error{Code: NoLink, Msg: "no network interface that the agent may use has a carrier",
	Fix: "plug a cable in, or look at [discovery] include and exclude in the configuration"}

// noLink is errNoLink with the interfaces that have a carrier and are left alone all the same: the cable may be in one of them.
func noLink(links []link.Link) *reason.Error {
	var elsewhere []string
	for i := range links {
		if l := &links[i]; l.Carrier && l.Skip != "" && l.Skip != "loopback" && !strings.HasPrefix(l.Skip, "virtual ") {
			elsewhere = append(elsewhere, l.Name+" ("+l.Skip+")")
		}
	}
	if len(elsewhere) == 0 {
		return errNoLink
	}
	e := *errNoLink
	e.Msg += "; these have one and are left alone: " + someOf(elsewhere)
	return &e
}

var errOffline = &passing{&reason.Error{Code: NeedsNetwork, Msg: "this takes a network, and is tried again on each that there is"}}

// Why an attempt is over before its visit: with its round, or with its interface.
var (
	errOver     = &reason.Error{Code: reason.Cancelled, Msg: "no longer needed"}
	errPatience = &reason.Error{Code: dhcp.NoAnswer, Msg: "still no network here, while there is another one",
		Fix: "look at the DHCP server of this network, if it is the one to be used"}
	errTooLong = &reason.Error{Code: NoRecord, Msg: "the leads before it took too long",
		Fix: "look who on this network answers with servers that do not answer"}
	errEnded = &reason.Error{Code: LinkLost, Msg: "the interface lost its carrier, vanished, or has another manager by now",
		Fix: "check the cable and the port at its other end"}
)

// attemptError says where an attempt failed.
type attemptError struct {
	ifname string
	family family
	err    error
}

func (e *attemptError) Error() string { return e.place() + ": " + e.err.Error() }
func (e *attemptError) Unwrap() error { return e.err }

func (e *attemptError) place() string {
	if e.ifname == "" {
		return "the machine's own network"
	}
	return e.ifname + " " + string(e.family)
}

// telling orders codes by how much they help the person who looks for the fault: a network that works but lacks the option
// tells more than a silent one.
var telling = []reason.Code{NoServer, dhcp.BadOption, BadRecord, NoOption, NoNames, NoRecord, dhcp.NoLease, Undecided, DuplicateAddress, dhcp.NoAnswer, NoAddress, LinkLost}

// maxTold bounds how many interfaces one message names.
const maxTold = 8

// errNotAsked is of finders that had nothing to look at on any uplink, such as DHCP where addresses are static.
var errNotAsked = &reason.Error{Code: NotAsked, Msg: "not asked on the networks that there are"}

// explain makes one error of why a finder found nothing on any uplink: each explanation once, after the places it is true of.
func explain(failures []error) error {
	var why []string
	places := map[string][]string{}
	for _, f := range failures {
		var at *attemptError
		if !errors.As(f, &at) {
			continue
		}
		text, place := at.err.Error(), at.place()
		if places[text] == nil {
			why = append(why, text)
		}
		if !slices.Contains(places[text], place) {
			places[text] = append(places[text], place)
		}
	}
	var messages []string
	for _, text := range why[:min(len(why), maxTold)] {
		messages = append(messages, someOf(places[text])+": "+text)
	}
	if more := len(why) - maxTold; more > 0 {
		messages = append(messages, fmt.Sprintf("and %d more", more))
	}
	code, fix := mostTelling(failures)
	return &inVain{&reason.Error{Code: code, Fix: fix, Msg: strings.Join(messages, "; ")}, messages}
}

// inVain is why a finder found nothing on any uplink.
type inVain struct {
	reason.Explained
	parts []string // of its message
}

// someOf lists places, as many as one message may name.
func someOf(places []string) string {
	list := strings.Join(places[:min(len(places), maxTold)], ", ")
	if more := len(places) - maxTold; more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return list
}

func mostTelling(failures []error) (reason.Code, string) {
	for _, code := range telling {
		for _, f := range failures {
			if c, fix := reason.Of(f); c == code {
				return c, fix
			}
		}
	}
	return reason.Of(errors.Join(failures...))
}

// passing says why a place held nothing that was meant for this device, which is nobody's fault: errors.Is finds ErrNothing.
type passing struct{ err error }

func (p *passing) Error() string        { return p.err.Error() }
func (p *passing) Unwrap() error        { return p.err }
func (p *passing) Is(target error) bool { return target == ErrNothing }

// explainStorage makes one error of why removable storage led to no success: of what was meant for this device, if anything
// was.
func explainStorage(failures []error) error {
	var meant, others []error
	for _, f := range failures {
		code, _ := reason.Of(f)
		if errors.Is(f, ErrNothing) || code == storage.CodeInUse || code == storage.CodeFileSystem {
			others = append(others, f)
		} else {
			meant = append(meant, f)
		}
	}
	switch {
	case len(meant) > 0:
		return errors.Join(meant...)
	case len(others) > 0:
		return &passing{errors.Join(others...)}
	}
	return &passing{&reason.Error{Code: NoStorage, Msg: "no removable storage is plugged in"}}
}
