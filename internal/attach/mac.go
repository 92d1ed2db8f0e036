package attach

import (
	"crypto/sha256"
	"os"

	"github.com/tapstack/tapstack/ether"
)

// machineID identifies this host for as long as it is installed
// (machine-id(5)). It must not become public, hence the hash.
const machineID = "/etc/machine-id"

// stableMAC makes a MAC address of the names of host and device: the same at
// every start, so that neighbours and DHCP servers know us again, and others
// elsewhere, so that two hosts on one segment do not meet.
func stableMAC(device string) ether.Addr {
	host, _ := os.Hostname() // without a name, or an identity, the rest must do
	id, _ := os.ReadFile(machineID)
	return hashMAC(string(id), host, device)
}

func hashMAC(parts ...string) ether.Addr {
	h := sha256.New()
	h.Write([]byte("tapstack MAC address"))
	for _, p := range parts {
		h.Write([]byte{0})
		h.Write([]byte(p))
	}
	a := ether.Addr(h.Sum(nil)[:6])
	a[0] = a[0]&^0x01 | 0x02 // individual, locally administered (IEEE 802)
	return a
}
