package dhcp6

// This file owns who the host is (RFC 8415 §11): its DHCP unique identifier, which
// is one for all of its interfaces, and is never to change. What is not made of a
// MAC address alone is therefore kept in a file.

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/tapstack/tapstack/dhcp"
	"github.com/tapstack/tapstack/dhcp/internal/both"
	"github.com/tapstack/tapstack/ether"
)

// DUIDKind is how an identifier is made.
type DUIDKind uint16

// The kinds (RFC 8415 §11.2 to §11.4, RFC 6355).
const (
	DUIDLLT  DUIDKind = 1 + iota // of a MAC address and the time
	DUIDEN                       // of an enterprise's number and what it assigns
	DUIDLL                       // of a MAC address
	DUIDUUID                     // of a UUID
)

// String names the kind as ParseDUID does.
func (k DUIDKind) String() string {
	switch k {
	case DUIDLLT:
		return "llt"
	case DUIDEN:
		return "en"
	case DUIDLL:
		return "ll"
	case DUIDUUID:
		return "uuid"
	}
	return fmt.Sprintf("type %d", uint16(k))
}

const htypeEthernet = 1

// duidEpoch is where the time of a DUID-LLT begins (§11.2).
var duidEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// NewDUID makes an identifier of a kind: DUIDLLT, DUIDLL, or DUIDUUID, which
// takes 16 random bytes from random (RFC 9562 §5.4).
func NewDUID(k DUIDKind, mac ether.Addr, now time.Time, random [16]byte) []byte {
	switch k {
	case DUIDLLT:
		b := []byte{0, byte(DUIDLLT), 0, htypeEthernet}
		b = binary.BigEndian.AppendUint32(b, uint32(now.Sub(duidEpoch)/time.Second))
		return append(b, mac[:]...)
	case DUIDUUID:
		random[6], random[8] = random[6]&0x0f|0x40, random[8]&0x3f|0x80
		return append([]byte{0, byte(DUIDUUID)}, random[:]...)
	}
	return dhcp.DUIDLL(mac)
}

// EnterpriseDUID is an identifier that an enterprise assigned (§11.3).
func EnterpriseDUID(enterprise uint32, id []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0, byte(DUIDEN)}, enterprise), id...)
}

// ParseDUID reads what a user says of an identifier: ll, llt or uuid to have one
// made, or its bytes in hexadecimal, with colons or without; then duid is set.
func ParseDUID(s string) (k DUIDKind, duid []byte, err error) {
	for _, k := range []DUIDKind{DUIDLL, DUIDLLT, DUIDUUID} {
		if s == k.String() {
			return k, nil, nil
		}
	}
	var text []byte
	for i := range len(s) {
		if s[i] != ':' {
			text = append(text, s[i])
		}
	}
	duid, err = hex.DecodeString(string(text))
	if err != nil || len(duid) < minDUID || len(duid) > maxDUID {
		return 0, nil, errors.New("want ll, llt, uuid, or 3 to 130 bytes in hexadecimal")
	}
	return DUIDKind(binary.BigEndian.Uint16(duid)), duid, nil
}

// IAID is the number of an interface in its identity associations, made of the
// MAC address as for DHCPv4 (RFC 4361 §6.1), so that it is the same at each start.
func IAID(mac ether.Addr) uint32 { return binary.BigEndian.Uint32(mac[2:]) }

const (
	duidFormat = "tapstack-duid-1"
	duidFile   = "DUID file" // in errors
)

// duidRecord is the content of the file.
type duidRecord struct {
	Format   string `json:"format"`
	DUID     string `json:"duid"`
	Checksum string `json:"sum"`
}

// Sum implements both.Summed.
func (c *duidRecord) Sum() *string { return &c.Checksum }

// KeepDUID returns the identifier in the file; one that is not there yet is made
// by fresh and written. A damaged file is an error and stays as it is: the host
// would else be another one for every server.
func KeepDUID(path string, fresh func() []byte) ([]byte, error) {
	b, err := both.ReadFile(duidFile, path)
	if err != nil {
		return nil, err
	}
	if b != nil {
		return parseDUIDFile(path, b)
	}
	duid := fresh()
	return duid, both.WriteFile(duidFile, path, &duidRecord{Format: duidFormat, DUID: hex.EncodeToString(duid)})
}

func parseDUIDFile(path string, b []byte) ([]byte, error) {
	var c duidRecord
	if err := both.ParseFile(duidFile, path, b, &c); err != nil {
		return nil, err
	}
	duid, err := hex.DecodeString(c.DUID)
	if c.Format != duidFormat || err != nil || len(duid) < minDUID || len(duid) > maxDUID {
		return nil, fmt.Errorf("%s %s: not one of this program", duidFile, path)
	}
	return duid, nil
}
