package rtnetlink

import (
	"bytes"
	"encoding/binary"
	"net"

	"golang.org/x/sys/unix"
)

// Link is an interface.
type Link struct {
	Index        int
	Name         string
	Type         uint16           // of the hardware: ARPHRD_ETHER, …
	Flags        uint32           // IFF_UP, …
	HardwareAddr net.HardwareAddr // nil when there is none or it is all zeros
	MTU          int
	OperState    uint8 // RFC 2863; IF_OPER_UP, …
	Master       int   // index of the bridge, bond or VRF that it belongs to, or 0
	Parent       int   // index of what it was made on top of, or 0
	Foreign      bool  // the parent is in another network namespace
	Kind         string
	Port         string // devlink's name of a port of a switch
	Switched     bool   // it is a port of a switch
	Carriers     uint32 // how often it has got its carrier; always 0 before Linux 4.16
	Inet6Flags   uint32 // what router advertisements said: IF_RA_RCVD, …
}

// Device is the kind of a link that was not made by request, so that no driver has given it another.
const Device = "device"

// extFilterSkipStats is RTEXT_FILTER_SKIP_STATS (include/uapi/linux/rtnetlink.h): counters are most of such a message.
const extFilterSkipStats = 1 << 3

// Links lists all interfaces.
func Links() ([]Link, error) {
	messages, err := dump(unix.RTM_GETLINK, unix.RTM_NEWLINK,
		uint32Attribute(infoHeader(0, 0, 0), unix.IFLA_EXT_MASK, extFilterSkipStats))
	if err != nil {
		return nil, err
	}
	links := make([]Link, len(messages))
	for i, m := range messages {
		links[i] = parseLink(m)
	}
	return links, nil
}

// SetUp brings an interface up.
func SetUp(index int) error {
	return change(unix.RTM_NEWLINK, 0, infoHeader(index, unix.IFF_UP, unix.IFF_UP))
}

// SetDown takes an interface down.
func SetDown(index int) error { return change(unix.RTM_NEWLINK, 0, infoHeader(index, 0, unix.IFF_UP)) }

// infoHeader is struct ifinfomsg.
func infoHeader(index int, flags, changed uint32) []byte {
	b := make([]byte, 4, unix.SizeofIfInfomsg)
	b = binary.NativeEndian.AppendUint32(b, uint32(index))
	b = binary.NativeEndian.AppendUint32(b, flags)
	return binary.NativeEndian.AppendUint32(b, changed)
}

func parseLink(message []byte) Link {
	l := Link{Kind: Device}
	if len(message) >= unix.SizeofIfInfomsg {
		l.Type = binary.NativeEndian.Uint16(message[2:])
		l.Index = int(int32(binary.NativeEndian.Uint32(message[4:])))
		l.Flags = binary.NativeEndian.Uint32(message[8:])
	}
	attributes(message, unix.SizeofIfInfomsg, func(kind uint16, value []byte) {
		switch kind {
		case unix.IFLA_IFNAME:
			l.Name = text(value)
		case unix.IFLA_ADDRESS:
			if !bytes.Equal(value, make([]byte, len(value))) {
				l.HardwareAddr = value
			}
		case unix.IFLA_MTU:
			l.MTU = int(number(value))
		case unix.IFLA_OPERSTATE:
			if len(value) > 0 {
				l.OperState = value[0]
			}
		case unix.IFLA_MASTER:
			l.Master = int(number(value))
		case unix.IFLA_LINK:
			l.Parent = int(number(value))
		case unix.IFLA_LINK_NETNSID:
			l.Foreign = true
		case unix.IFLA_PHYS_SWITCH_ID:
			l.Switched = true
		case unix.IFLA_PHYS_PORT_NAME:
			l.Port = text(value)
		case unix.IFLA_CARRIER_UP_COUNT:
			l.Carriers = number(value)
		case unix.IFLA_LINKINFO:
			l.readInfo(value)
		case unix.IFLA_AF_SPEC:
			l.readFamilies(value)
		}
	})
	return l
}

func (l *Link) readInfo(info []byte) {
	attributes(info, 0, func(kind uint16, value []byte) {
		if kind == unix.IFLA_INFO_KIND {
			l.Kind = text(value)
		}
	})
}

func (l *Link) readFamilies(families []byte) {
	attributes(families, 0, func(family uint16, specific []byte) {
		if family != unix.AF_INET6 {
			return
		}
		attributes(specific, 0, func(kind uint16, value []byte) {
			if kind == unix.IFLA_INET6_FLAGS {
				l.Inet6Flags = number(value)
			}
		})
	})
}
