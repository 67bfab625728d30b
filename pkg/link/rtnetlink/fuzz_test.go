package rtnetlink

import (
	"bytes"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Whatever a message holds, attributes are those that the library reads, as far as it can, and no decoder panics.
func FuzzMessages(f *testing.F) {
	f.Add((&Rule{Family: IPv4, Interface: "eth0", Table: 7}).encode(unix.FR_ACT_TO_TBL))
	f.Add(uint32Attribute(infoHeader(7, unix.IFF_UP, unix.IFF_UP), unix.IFLA_MTU|unix.NLA_F_NESTED, 1500))
	hop := attribute([]byte{16, 0, 0, 0, 7, 0, 0, 0}, unix.RTA_GATEWAY, []byte{192, 0, 2, 1})
	f.Add(attribute(routeHeader(IPv4, 24, 0, 0, 0, 1, 0), unix.RTA_MULTIPATH, append(hop, hop...)))
	f.Add(append(attribute(make([]byte, unix.SizeofIfAddrmsg), unix.IFA_LOCAL, []byte{192, 0, 2}), 9, 0, 1, 0))
	f.Fuzz(func(t *testing.T, message []byte) {
		parseLink(message)
		parseAddress(message)
		if len(message) < unix.SizeofRtMsg {
			return
		}
		parseRoute(message)
		parseRule(message)

		var kinds []uint16
		var values [][]byte
		attributes(message, unix.SizeofRtMsg, func(kind uint16, value []byte) {
			kinds, values = append(kinds, kind), append(values, value)
		})
		if len(message)%unix.RTA_ALIGNTO != 0 { // the library panics when padding is missing at the end
			return
		}
		theirs, err := nl.ParseRouteAttr(message[unix.SizeofRtMsg:])
		if err != nil {
			return
		}
		if len(theirs) != len(kinds) {
			t.Fatalf("%d attributes, the library reads %d", len(kinds), len(theirs))
		}
		for i, a := range theirs {
			if a.Attr.Type&kindMask != kinds[i] || !bytes.Equal(a.Value, values[i]) {
				t.Errorf("attribute %d is %#x with %x, the library reads %#x with %x", i, kinds[i], values[i], a.Attr.Type, a.Value)
			}
		}
	})
}
