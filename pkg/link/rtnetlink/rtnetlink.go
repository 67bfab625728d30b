// Package rtnetlink reads and changes the kernel's interfaces, addresses, routes, rules and neighbours (rtnetlink(7)), with
// those attributes of them that a host uses which takes its configuration from DHCP and router advertisements.
package rtnetlink

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Family is an address family as the kernel counts them.
type Family uint8

// The families of IP. Any asks for the addresses of both.
const (
	Any  Family = unix.AF_UNSPEC
	IPv4 Family = unix.AF_INET
	IPv6 Family = unix.AF_INET6
)

func familyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// maxDumps is how often something is listed that changes all the time.
const maxDumps = 5

// dump lists everything of a kind: requests of type get are answered by messages of type is. It begins again when
// something changed meanwhile.
func dump(get, is uint16, request []byte) (messages [][]byte, err error) {
	for range maxDumps {
		req := nl.NewNetlinkRequest(int(get), unix.NLM_F_DUMP)
		req.AddRawData(request)
		if messages, err = req.Execute(unix.NETLINK_ROUTE, is); !errors.Is(err, nl.ErrDumpInterrupted) {
			break
		}
	}
	return messages, err
}

// change has the kernel do what a message says.
func change(do uint16, flags int, message []byte) error {
	req := nl.NewNetlinkRequest(int(do), unix.NLM_F_ACK|flags)
	req.AddRawData(message)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// Flags of requests for something new: it must not be there, or is replaced.
const (
	create  = unix.NLM_F_CREATE | unix.NLM_F_EXCL
	replace = unix.NLM_F_CREATE | unix.NLM_F_REPLACE
)

// attribute appends an attribute (struct rtattr) with its padding.
func attribute(message []byte, kind uint16, value []byte) []byte {
	message = binary.NativeEndian.AppendUint16(message, uint16(unix.SizeofRtAttr+len(value)))
	message = binary.NativeEndian.AppendUint16(message, kind)
	message = append(message, value...)
	for len(message)%unix.RTA_ALIGNTO != 0 {
		message = append(message, 0)
	}
	return message
}

func uint32Attribute(message []byte, kind uint16, value uint32) []byte {
	return attribute(message, kind, binary.NativeEndian.AppendUint32(nil, value))
}

// kindMask takes the flags off an attribute's type.
const kindMask = ^uint16(unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)

// attributes hands over the attributes that follow a header, with their types. What follows one that is malformed is left out.
func attributes(message []byte, header int, each func(kind uint16, value []byte)) {
	if len(message) < header {
		return
	}
	for rest := message[header:]; len(rest) >= unix.SizeofRtAttr; {
		size := int(binary.NativeEndian.Uint16(rest))
		if size < unix.SizeofRtAttr || size > len(rest) {
			return
		}
		each(binary.NativeEndian.Uint16(rest[2:])&kindMask, rest[unix.SizeofRtAttr:size])
		rest = rest[min((size+unix.RTA_ALIGNTO-1)&^(unix.RTA_ALIGNTO-1), len(rest)):]
	}
}

// number reads an attribute of 32 bits, 0 when it is shorter.
func number(value []byte) uint32 {
	if len(value) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(value)
}

// text reads a string up to its final NUL.
func text(value []byte) string { return unix.ByteSliceToString(value) }
