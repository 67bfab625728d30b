package source

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/dns"
	"github.com/xpu-sztp/ztp/pkg/link"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

// DNS finds artifacts and bootstrap servers in the domain name system (RFC 8572 §4.2): first what is there for this very
// device, in a TXT record below its serial number, then servers for any device, in SRV records, or instances of the service as
// DNS-SD has them (RFC 6763), which is how neighbours usually make services known; each by multicast DNS and then by the
// network's name servers. Its leads are never trusted, with or without DNSSEC.
type DNS struct {
	Serial string         // of the device; a label of DNS, so one of more than 63 octets cannot be asked for
	Random func() float64 // at least 0 and below 1; chooses among equal SRV records
}

var _ Finder = DNS{}

// Asker asks for records. *link.Network is one.
type Asker interface {
	// Ask asks the network's name servers.
	Ask(context.Context, dns.Name, dns.Type) ([]dns.Record, error)
	// AskLink asks the neighbours by multicast DNS.
	AskLink(context.Context, dns.Name, dns.Type) ([]dns.Record, error)
}

// Bounds of what one answer makes the agent do.
const (
	maxDomains   = 4
	maxValues    = 4 // different ones of each artifact
	maxInstances = 4
	maxDNSServer = 32
)

// Name returns "dns".
func (DNS) Name() string { return "dns" }

// question is one of the places to ask, in the order of RFC 8572 §4.2.
type question struct {
	labels []string // before the domain
	kind   dns.Type
	domain string // "local" is asked of the neighbours
}

func (q question) source() string {
	if q.domain == local {
		return "mdns"
	}
	return "dns"
}

const local = "local"

// Find asks one question after the other; what the device-specific ones led to was in vain when the others are asked.
func (d DNS) Find(ctx context.Context, u *Uplink, visit func(Lead) error) error {
	asker, ok := u.Network.(Asker)
	if !ok {
		return ErrNothing
	}
	var visits []error
	var failures []string
	answer := d.absent(u)
	for _, q := range d.questions(u.Domains) {
		leads, err := d.ask(ctx, asker, q)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			failures = append(failures, fmt.Sprintf("%s: %v", q, err))
		}
		if err != nil && !errors.Is(err, errNone) && answer.Code != BadRecord {
			answer.Code, answer.Fix = NoNames, "look at the name servers that DHCP or routers name, and that they serve the domain; "+
				"where they name none, have them do so"
		}
		if errors.Is(err, errUseless) {
			answer.Code, answer.Msg = BadRecord, "the records for this device in DNS hold nothing usable: "
			answer.Fix = "a TXT record needs the key ci with conveyed information in CMS, an SRV record the name of a host and its port"
		}
		for _, l := range leads {
			l.Interface, l.Network = u.Interface, u.Network
			if err := visit(l); err == nil {
				return nil
			} else {
				visits = append(visits, err)
			}
		}
	}
	if len(visits) > 0 {
		return errors.Join(visits...)
	}
	answer.Msg += strings.Join(failures, "; ")
	return answer
}

// absent is why there is nothing when nobody has a record. Where only neighbours can be asked, because the network has not said
// what its domain is, that is what a person has to look at.
func (d DNS) absent(u *Uplink) *reason.Error {
	e := &reason.Error{Code: NoRecord, Msg: "no record for this device in DNS: ",
		Fix: "add a TXT record below the serial number or an SRV record _sztp._tcp to the domain that DHCP or routers name"}
	if len(u.Domains) == 0 {
		e.Fix = "have DHCP or routers name a domain, and in it add a TXT record below the serial number or an SRV record _sztp._tcp"
		if u.NoLease != nil {
			e.Code, e.Fix = reason.Of(u.NoLease)
		}
	}
	return e
}

// Why an answer leads nowhere.
var (
	errNone    = errors.New("none")
	errUseless = errors.New("nothing usable")
)

// questions are all questions, in order.
func (d DNS) questions(domains []string) []question {
	places := append([]string{local}, slices.DeleteFunc(slices.Clone(domains[:min(len(domains), maxDomains)]), func(s string) bool {
		return strings.EqualFold(strings.TrimSuffix(s, "."), local)
	})...)
	var list []question
	if len(d.Serial) > 0 && len(d.Serial) <= 63 {
		for _, p := range places {
			list = append(list, question{[]string{d.Serial, "_sztp"}, dns.TXT, p})
		}
	}
	for _, p := range places {
		list = append(list, question{[]string{"_sztp", "_tcp"}, dns.SRV, p})
	}
	return list
}

func (q question) name() (dns.Name, error) {
	domain, err := dns.ParseName(q.domain)
	if err != nil {
		return "", err
	}
	return domain.Below(q.labels...)
}

func (q question) String() string {
	kind := "SRV"
	if q.kind == dns.TXT {
		kind = "TXT"
	}
	name, err := q.name()
	if err != nil {
		return kind + " in " + q.domain
	}
	return kind + " " + name.String()
}

// ask returns the leads that the answer to q holds.
func (d DNS) ask(ctx context.Context, asker Asker, q question) ([]Lead, error) {
	name, err := q.name()
	if err != nil {
		return nil, err
	}
	var ask askFunc = asker.Ask
	if q.domain == local {
		ask = asker.AskLink
	}
	if q.kind == dns.SRV {
		ask = services(ask)
	}
	records, err := ask(ctx, name, q.kind)
	switch {
	case errors.Is(err, dns.ErrNoSuchName), errors.Is(err, dns.ErrNoData), q.domain == local && errors.Is(err, dns.ErrNoAnswer):
		return nil, errNone
	case errors.Is(err, link.ErrNoNameServer):
		return nil, errors.New("no name server")
	case err != nil:
		return nil, err
	}
	if q.kind == dns.SRV {
		servers := d.servers(records)
		if len(servers) == 0 {
			return nil, fmt.Errorf("%w: no server", errUseless)
		}
		return []Lead{{Source: q.source(), Servers: servers}}, nil
	}
	var leads []Lead
	for _, b := range bundles(records) {
		leads = append(leads, Lead{Source: q.source(), Bundle: &b, Place: q.String()})
	}
	if len(leads) == 0 {
		return nil, fmt.Errorf("%w: no key ci", errUseless)
	}
	return leads, nil
}

type askFunc func(context.Context, dns.Name, dns.Type) ([]dns.Record, error)

// services returns how to ask for the SRV records of a service. Where there are none, those of its instances count, whose names
// are asked for at the same time.
func services(ask askFunc) askFunc {
	return func(ctx context.Context, service dns.Name, kind dns.Type) ([]dns.Record, error) {
		browsing, stop := context.WithCancel(ctx)
		found := make(chan []dns.Record)
		go func() { found <- instances(browsing, ask, service) }()
		records, err := ask(ctx, service, kind)
		if err == nil {
			stop()
		}
		others := <-found
		stop()
		if err != nil && len(others) > 0 {
			return others, nil
		}
		return records, err
	}
}

// instances returns the SRV records of the instances of a service (RFC 6763 §4).
func instances(ctx context.Context, ask askFunc, service dns.Name) []dns.Record {
	pointers, _ := ask(ctx, service, dns.PTR)
	var all []dns.Record
	for _, p := range pointers[:min(len(pointers), maxInstances)] {
		labels := p.Target.Labels()
		if own, err := service.Below(append(labels, "")[0]); err != nil || !own.Equal(p.Target) {
			continue // somewhere else
		}
		records, _ := ask(ctx, p.Target, dns.SRV)
		all = append(all, records...)
	}
	return all
}

// servers orders SRV records as RFC 2782 demands: lower priorities first, and among equals at random, by weight.
func (d DNS) servers(records []dns.Record) []artifacts.BootstrapServer {
	records = slices.DeleteFunc(slices.Clone(records), func(r dns.Record) bool {
		return r.Target.IsRoot() || r.Target.Host() == "" || r.Port == 0
	})
	sort.SliceStable(records, func(i, j int) bool { // smaller than with package slices
		a, b := &records[i], &records[j]
		return a.Priority < b.Priority || a.Priority == b.Priority && a.Weight < b.Weight
	})
	var servers []artifacts.BootstrapServer
	for len(records) > 0 && len(servers) < maxDNSServer {
		peers, sum := 0, 0
		for peers < len(records) && records[peers].Priority == records[0].Priority {
			sum += int(records[peers].Weight)
			peers++
		}
		mark, i := int(d.Random()*float64(sum+1)), 0
		for below := int(records[0].Weight); below < mark && i+1 < peers; below += int(records[i].Weight) {
			i++
		}
		servers = append(servers, artifacts.BootstrapServer{Address: records[i].Target.Host(), Port: records[i].Port})
		records = slices.Delete(records, i, i+1)
	}
	return servers
}

// value is what one key has, and in which record.
type value struct {
	bytes  []byte
	record int
}

// bundles reads TXT records. Each artifact may have a record of its own, so any ci goes with any oc and any ov; what stands in
// one record is tried first. Of neighbours that contradict each other one may well lie, which must not spoil what others say.
func bundles(records []dns.Record) []artifacts.Bundle {
	values := map[string][]value{}
	for i, r := range records {
		for key, v := range pairs(r.Strings) {
			known := slices.ContainsFunc(values[key], func(o value) bool { return string(o.bytes) == string(v) })
			if !known && len(values[key]) < maxValues {
				values[key] = append(values[key], value{v, i})
			}
		}
	}
	none := []value{{nil, -1}}
	for _, key := range []string{"oc", "ov"} {
		if values[key] == nil {
			values[key] = none
		}
	}
	var together, apart []artifacts.Bundle
	for _, ci := range values["ci"] {
		for i, oc := range values["oc"] {
			for j, ov := range values["ov"] {
				switch b := (artifacts.Bundle{ConveyedInformation: ci.bytes, OwnerCertificate: oc.bytes, OwnershipVoucher: ov.bytes}); {
				case ci.record == oc.record && ci.record == ov.record:
					together = append(together, b)
				case i+j == 0 || !unsigned(ci.bytes):
					apart = append(apart, b)
				}
			}
		}
	}
	return append(together, apart...)
}

// conveyedInformation is what the content types of unsigned conveyed information have in common (RFC 8572 §3.1), in DER:
// 1.2.840.113549.1.9.16.1, and 42 or 43.
const conveyedInformation = "\x06\x0b\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x01"

// unsigned reports whether ci looks like conveyed information that comes without a signature, so that neither a certificate
// nor a voucher matters.
func unsigned(ci []byte) bool {
	return strings.Contains(string(ci[:min(len(ci), 24)]), conveyedInformation)
}

// pairs reads the character strings of one record as key=value pairs (RFC 6763 §6); other keys than ci, oc and ov are
// ignored (RFC 8572 §4.2), also those without a value. A value longer than a character string goes on in the next ones, until it
// is as long as its DER says. Where that says nothing, a string begins a new pair when it looks like one and the string before
// it was not full; one that begins as an artifact does always begins a pair.
func pairs(texts []string) map[string][]byte {
	found := map[string][]byte{}
	key, full := "", false
	for _, s := range texts {
		name, value, ok := strings.Cut(s, "=")
		name = strings.ToLower(name)
		known := name == "ci" || name == "oc" || name == "ov"
		missing, told := missingOctets(found[key])
		if ok && isKey(name) && (known && strings.HasPrefix(value, "\x30") || told && missing == 0 || !told && !full) {
			key = name
			if _, twice := found[key]; twice || !known {
				key = "" // only the first of several counts (RFC 6763 §6.4)
			} else {
				found[key] = []byte(value)
			}
		} else if key != "" && (!told || missing > 0) {
			found[key] = append(found[key], s...)
		}
		full = len(s) == 255
	}
	return found
}

// missingOctets returns how many octets the DER element that b begins with has besides, if that can be told.
func missingOctets(b []byte) (missing int, told bool) {
	if len(b) < 2 || b[0] != 0x30 {
		return 0, false
	}
	head, size := 2, int(b[1])
	if octets := size - 0x80; octets >= 0 {
		if octets == 0 || octets > 3 || len(b) < 2+octets {
			return 0, false
		}
		for size = 0; head < 2+octets; head++ {
			size = size<<8 | int(b[head])
		}
	}
	return max(0, head+size-len(b)), true
}

// isKey reports whether s could be the key of a pair: up to nine printable characters.
func isKey(s string) bool {
	return len(s) > 0 && len(s) <= 9 && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}
