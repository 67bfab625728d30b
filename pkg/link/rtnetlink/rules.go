package rtnetlink

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// Rule leads to a routing table.
type Rule struct {
	Family    Family
	Priority  int
	Table     int
	Source    netip.Prefix // of what it applies to; invalid for everything
	Interface string       // name of the one that sockets are bound to which it applies to; "" for all
	Protocol  uint8        // who made it: RTPROT_DHCP, …

	message []byte
}

// Rules lists the rules of a family.
func Rules(family Family) ([]Rule, error) {
	messages, err := dump(unix.RTM_GETRULE, unix.RTM_NEWRULE, routeHeader(family, 0, 0, 0, 0, 0, 0))
	if err != nil {
		return nil, err
	}
	rules := make([]Rule, 0, len(messages))
	for _, m := range messages {
		if len(m) >= unix.SizeofRtMsg {
			rules = append(rules, parseRule(m))
		}
	}
	return rules, nil
}

// Add adds the rule, which must not be there.
func (r *Rule) Add() error { return change(unix.RTM_NEWRULE, create, r.encode(unix.FR_ACT_TO_TBL)) }

// Delete takes away the rule, which was listed or added.
func (r *Rule) Delete() error {
	b := r.message
	if b == nil {
		b = r.encode(unix.FR_ACT_UNSPEC)
	}
	return change(unix.RTM_DELRULE, 0, b)
}

func (r *Rule) encode(action uint8) []byte {
	b := routeHeader(r.Family, 0, max(r.Source.Bits(), 0), 0, 0, action, 0)
	if r.Source.IsValid() {
		b = attribute(b, unix.FRA_SRC, r.Source.Addr().AsSlice())
	}
	b = uint32Attribute(b, unix.FRA_PRIORITY, uint32(r.Priority))
	b = uint32Attribute(b, unix.FRA_TABLE, uint32(r.Table))
	if r.Interface != "" {
		b = attribute(b, unix.FRA_OIFNAME, append([]byte(r.Interface), 0))
	}
	return attribute(b, unix.FRA_PROTOCOL, []byte{r.Protocol})
}

func parseRule(message []byte) Rule {
	r := Rule{Family: Family(message[0]), Table: int(message[4]), message: message}
	attributes(message, unix.SizeofRtMsg, func(kind uint16, value []byte) {
		switch kind {
		case unix.FRA_SRC:
			source, _ := netip.AddrFromSlice(value)
			r.Source = netip.PrefixFrom(source, int(message[2]))
		case unix.FRA_PRIORITY:
			r.Priority = int(number(value))
		case unix.FRA_TABLE:
			r.Table = int(number(value))
		case unix.FRA_OIFNAME:
			r.Interface = text(value)
		case unix.FRA_PROTOCOL:
			if len(value) > 0 {
				r.Protocol = value[0]
			}
		}
	})
	return r
}
