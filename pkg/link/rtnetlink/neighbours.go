package rtnetlink

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Neighbour is a host on the link of an interface.
type Neighbour struct {
	Index        int // of the interface
	Address      netip.Addr
	HardwareAddr net.HardwareAddr // nil while it is not known
}

// Neighbours lists those of a family.
func Neighbours(family Family) ([]Neighbour, error) {
	messages, err := dump(unix.RTM_GETNEIGH, unix.RTM_NEWNEIGH, neighbourHeader(family, 0, 0))
	if err != nil {
		return nil, err
	}
	neighbours := make([]Neighbour, len(messages))
	for i, m := range messages {
		n := &neighbours[i]
		if len(m) >= unix.SizeofNdMsg {
			n.Index = int(binary.NativeEndian.Uint32(m[4:]))
		}
		attributes(m, unix.SizeofNdMsg, func(kind uint16, value []byte) {
			switch kind {
			case unix.NDA_DST:
				n.Address, _ = netip.AddrFromSlice(value)
			case unix.NDA_LLADDR:
				n.HardwareAddr = value
			}
		})
	}
	return neighbours, nil
}

// LookFor has the kernel look for a neighbour, unless it knows it.
func LookFor(index int, address netip.Addr) error {
	b := neighbourHeader(familyOf(address), index, unix.NTF_USE)
	return change(unix.RTM_NEWNEIGH, create, attribute(b, unix.NDA_DST, address.AsSlice()))
}

// neighbourHeader is struct ndmsg.
func neighbourHeader(family Family, index int, flags uint8) []byte {
	b := binary.NativeEndian.AppendUint32([]byte{byte(family), 0, 0, 0}, uint32(index))
	return append(b, 0, 0, flags, 0) // state, flags and type
}
