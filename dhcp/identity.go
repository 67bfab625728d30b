package dhcp

import (
	"crypto/sha256"
	"encoding/binary"
	"net"
)

// DUID types of RFC 8415 §11 and RFC 6355.
const (
	duidLL   = 3
	duidUUID = 4
)

// DUID returns the identity of a device towards DHCP servers: with a serial number a DUID-UUID derived from it, which stays
// the same on every interface, in every boot and after every image; without one a DUID-LL of the hardware address.
// The serial number cannot be read back from it.
func DUID(serial string, mac net.HardwareAddr) []byte {
	if serial == "" {
		duid := binary.BigEndian.AppendUint16(nil, duidLL)
		duid = binary.BigEndian.AppendUint16(duid, 1) // Ethernet
		return append(duid, mac...)
	}
	sum := sha256.Sum256([]byte("ztp DUID-UUID\x00" + serial))
	uuid := sum[:16]
	uuid[6] = uuid[6]&0x0f | 0x80 // version 8 of RFC 9562
	uuid[8] = uuid[8]&0x3f | 0x80 // its variant
	return append(binary.BigEndian.AppendUint16(nil, duidUUID), uuid...)
}

// IAID names one interface of a device (RFC 8415 §12): it is the same in every boot for the same interface name.
func IAID(ifname string) [4]byte {
	sum := sha256.Sum256([]byte(ifname))
	return [4]byte(sum[:4])
}

// ClientID returns the DHCPv4 client identifier of RFC 4361: both families then know the device by the same DUID, and two
// interfaces on one link do not get one lease.
func ClientID(duid []byte, iaid [4]byte) []byte {
	return append(append([]byte{255}, iaid[:]...), duid...)
}
