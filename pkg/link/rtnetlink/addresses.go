package rtnetlink

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Address is an address of an interface.
type Address struct {
	Index  int          // of the interface
	Prefix netip.Prefix // of a single address on links with a peer
	Flags  uint32       // IFA_F_PERMANENT, …
	// Seconds that a new address is valid, and may be used for new connections.
	Valid, Preferred uint32

	message []byte
}

// Addresses lists the addresses of all interfaces.
func Addresses() ([]Address, error) {
	messages, err := dump(unix.RTM_GETADDR, unix.RTM_NEWADDR, make([]byte, unix.SizeofIfAddrmsg))
	if err != nil {
		return nil, err
	}
	addresses := make([]Address, len(messages))
	for i, m := range messages {
		addresses[i] = parseAddress(m)
	}
	return addresses, nil
}

// Add gives the interface the address, which it must not have. IPv4 addresses get the usual broadcast address.
func (a *Address) Add() error { return change(unix.RTM_NEWADDR, create, a.encode()) }

// Replace does what Add does, and changes an address that is there.
func (a *Address) Replace() error { return change(unix.RTM_NEWADDR, replace, a.encode()) }

// Delete takes away an address that was listed.
func (a *Address) Delete() error { return change(unix.RTM_DELADDR, 0, a.message) }

func (a *Address) encode() []byte {
	ip, bits := a.Prefix.Addr(), a.Prefix.Bits()
	b := []byte{byte(familyOf(ip)), byte(bits), 0, unix.RT_SCOPE_UNIVERSE} // struct ifaddrmsg; flags have an attribute
	b = binary.NativeEndian.AppendUint32(b, uint32(a.Index))
	b = attribute(b, unix.IFA_LOCAL, ip.AsSlice())
	b = attribute(b, unix.IFA_ADDRESS, ip.AsSlice())
	b = uint32Attribute(b, unix.IFA_FLAGS, a.Flags)
	if ip.Is4() && bits < 31 { // RFC 3021
		network := ip.As4()
		host := uint32(1)<<(32-bits) - 1
		binary.BigEndian.PutUint32(network[:], binary.BigEndian.Uint32(network[:])|host)
		b = attribute(b, unix.IFA_BROADCAST, network[:])
	}
	info := binary.NativeEndian.AppendUint32(nil, a.Preferred) // struct ifa_cacheinfo
	info = binary.NativeEndian.AppendUint32(info, a.Valid)
	return attribute(b, unix.IFA_CACHEINFO, append(info, make([]byte, 8)...))
}

func parseAddress(message []byte) Address {
	a := Address{message: message}
	var bits int
	if len(message) >= unix.SizeofIfAddrmsg {
		bits = int(message[1])
		a.Flags = uint32(message[2])
		a.Index = int(binary.NativeEndian.Uint32(message[4:]))
	}
	var local, peer netip.Addr
	attributes(message, unix.SizeofIfAddrmsg, func(kind uint16, value []byte) {
		switch kind {
		case unix.IFA_LOCAL:
			local, _ = netip.AddrFromSlice(value)
		case unix.IFA_ADDRESS:
			peer, _ = netip.AddrFromSlice(value)
		case unix.IFA_FLAGS:
			a.Flags = number(value)
		}
	})
	switch {
	case !local.IsValid(): // IPv6 without a peer
		local = peer
	case local != peer || local.Is6(): // the prefix is the peer's
		bits = local.BitLen()
	}
	a.Prefix = netip.PrefixFrom(local, bits)
	return a
}
