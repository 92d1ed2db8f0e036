package main

// This file owns the messages of RFC 1928 and RFC 1929: what a client sends is
// read here and nowhere else, byte by byte as far as the message goes and no
// further, for what follows is not ours to read.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

const (
	version         = 5
	passwordVersion = 1 // of RFC 1929's negotiation

	methodNone     = 0
	methodPassword = 2
	methodRefused  = 0xff
)

type command byte

const (
	cmdConnect   command = 1
	cmdBind      command = 2
	cmdAssociate command = 3
)

func (c command) String() string {
	switch c {
	case cmdConnect:
		return "CONNECT"
	case cmdBind:
		return "BIND"
	case cmdAssociate:
		return "UDP ASSOCIATE"
	}
	return "command " + strconv.Itoa(int(c))
}

// The kinds of address (ATYP).
const (
	atypIPv4 = 1
	atypName = 3
	atypIPv6 = 4
)

// replyCode is the REP of RFC 1928 §6; as an error it is what a request is
// refused with.
type replyCode byte

const (
	replySucceeded replyCode = iota
	replyFailed
	replyForbidden
	replyNoNetwork
	replyNoHost
	replyRefused
	replyTTL
	replyNoCommand
	replyNoAddress
)

func (r replyCode) Error() string {
	switch r {
	case replyNoCommand:
		return "command not supported"
	case replyNoAddress:
		return "address type not supported"
	}
	return "reply " + strconv.Itoa(int(r))
}

// target is an address or a name, with a port. A name has no addr.
type target struct {
	addr netip.Addr
	name string
	port uint16
}

func (t target) String() string {
	host := t.name
	if t.addr.IsValid() {
		host = t.addr.String()
	}
	return net.JoinHostPort(host, strconv.Itoa(int(t.port)))
}

// request is what a client wants (RFC 1928 §4).
type request struct {
	command command
	to      target
}

var errVersion = errors.New("this is not SOCKS version 5")

// readMethods reads the first message of a client.
func readMethods(r io.Reader) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	if head[0] != version {
		return nil, errVersion
	}
	methods := make([]byte, head[1])
	_, err := io.ReadFull(r, methods)
	return methods, err
}

// readPassword reads RFC 1929's name and password.
func readPassword(r io.Reader) (name, password string, err error) {
	var head [1]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return "", "", err
	}
	if head[0] != passwordVersion {
		return "", "", fmt.Errorf("version %d of the password's negotiation", head[0])
	}
	if name, err = readString(r); err == nil {
		password, err = readString(r)
	}
	return name, password, err
}

// readString reads a text with its length in front.
func readString(r io.Reader) (string, error) {
	var buf [256]byte
	if _, err := io.ReadFull(r, buf[:1]); err != nil {
		return "", err
	}
	b := buf[1 : 1+int(buf[0])]
	_, err := io.ReadFull(r, b)
	return string(b), err
}

// readRequest reads what a client wants. An error that is a replyCode is to be
// told to it.
func readRequest(r io.Reader) (q request, err error) {
	var head [3]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return q, err
	}
	if head[0] != version {
		return q, errVersion
	}
	q.command = command(head[1])
	if q.to, err = readTarget(r); err != nil {
		return q, err
	}
	if q.command != cmdConnect && q.command != cmdAssociate {
		return q, fmt.Errorf("%v: %w", q.command, replyNoCommand)
	}
	return q, nil
}

// readTarget reads ATYP, address and port (RFC 1928 §5).
func readTarget(r io.Reader) (t target, err error) {
	var buf [16]byte
	if _, err := io.ReadFull(r, buf[:1]); err != nil {
		return t, err
	}
	switch buf[0] {
	case atypIPv4:
		_, err = io.ReadFull(r, buf[:4])
		t.addr = netip.AddrFrom4([4]byte(buf[:4]))
	case atypIPv6:
		_, err = io.ReadFull(r, buf[:16])
		t.addr = netip.AddrFrom16(buf).Unmap()
	case atypName:
		t.name, err = readString(r)
		// Some programs send an address they were given as if it were a name.
		if a, perr := netip.ParseAddr(t.name); err == nil && perr == nil {
			t.addr, t.name = a.Unmap(), "" // with its zone, for which SOCKS has no other place
		}
	default:
		return t, fmt.Errorf("type %d: %w", buf[0], replyNoAddress)
	}
	if err == nil {
		_, err = io.ReadFull(r, buf[:2])
		t.port = binary.BigEndian.Uint16(buf[:])
	}
	if err == nil && !t.addr.IsValid() && !isName(t.name) {
		err = fmt.Errorf("%q is no name: %w", t.name, replyNoHost)
	}
	return t, err
}

// isName keeps out what would be read as something else behind: no name has a
// colon, a percent sign or a byte that a log could trip over.
func isName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return c <= ' ' || c >= 0x7f || strings.ContainsRune(":%[]/", c)
	})
}

// appendAddr appends ATYP, address and port; an invalid address is 0.0.0.0:0.
func appendAddr(b []byte, a netip.AddrPort) []byte {
	addr := a.Addr().Unmap().WithZone("") // SOCKS knows no zones
	switch {
	case addr.Is4():
		b = append(b, atypIPv4)
	case addr.Is6():
		b = append(b, atypIPv6)
	default:
		return append(b, atypIPv4, 0, 0, 0, 0, 0, 0)
	}
	return binary.BigEndian.AppendUint16(append(b, addr.AsSlice()...), a.Port())
}

// reply is the answer to a request (RFC 1928 §6).
func reply(code replyCode, bound netip.AddrPort) []byte {
	return appendAddr([]byte{version, byte(code), 0}, bound)
}
