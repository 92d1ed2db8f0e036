package dhcp

// This file owns who the client says it is: RFC 4361, by which a host has one
// identity in DHCPv4 and DHCPv6, an identifier of the host (DUID, RFC 8415 §11)
// and a number of the interface (IAID).

import (
	"encoding/binary"

	"github.com/tapstack/tapstack/ether"
)

const (
	// clientIDNode is the type of a client identifier by RFC 4361 §6.1.
	clientIDNode = 255
	// duidLL is the type of a DUID made of a link-layer address.
	duidLL = 3
)

// NodeID returns the client identifier of RFC 4361 §6.1 for an interface by its
// number and the host's DUID.
func NodeID(iaid uint32, duid []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{clientIDNode}, iaid)
	return append(b, duid...)
}

// DUIDLL is the identifier of a host that is known by a link-layer address
// (RFC 8415 §11.4). It needs no memory, as the address is the host's for good.
func DUIDLL(mac ether.Addr) []byte {
	return append([]byte{0, duidLL, 0, htypeEthernet}, mac[:]...)
}

// defaultID is what a client is called that was not told. The number of its
// interface is the end of the MAC address, as with ISC's and others' clients:
// RFC 4361 wants it to be the same at each start, which an index is not.
func defaultID(mac ether.Addr) []byte {
	return NodeID(binary.BigEndian.Uint32(mac[2:]), DUIDLL(mac))
}

// HardwareID is the client identifier from before RFC 4361: the hardware type
// and the MAC address (RFC 2132 §9.14).
func HardwareID(mac ether.Addr) []byte { return append([]byte{htypeEthernet}, mac[:]...) }
