package main

// This file owns UDP ASSOCIATE (RFC 1928 §7): datagrams of the client come to a
// socket of this machine with a header that says where to, and go out by a
// socket of the stack; what comes back there goes to the client with a header
// that says where from. The association lasts as long as its TCP connection.

import (
	"bytes"
	"context"
	"errors"
	"log"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	maxDatagram = 64 << 10
	maxUDPHead  = 3 + 1 + 1 + 255 + 2 // with the longest name
	resolveWait = 5 * time.Second
	// maxNames is how many names of one association are remembered.
	maxNames = 64
)

var errFragment = errors.New("a fragment") // RFC 1928 §7: who does no reassembly drops them

// parseDatagram takes a client's datagram apart.
func parseDatagram(b []byte) (to target, data []byte, err error) {
	if len(b) < 4 {
		return to, nil, errors.New("too short")
	}
	if b[2] != 0 {
		return to, nil, errFragment
	}
	r := bytes.NewReader(b[3:])
	if to, err = readTarget(r); err != nil {
		return to, nil, err
	}
	return to, b[len(b)-r.Len():], nil
}

// association relays the datagrams of one client.
type association struct {
	server *server
	in     *net.UDPConn   // the client's side
	out    net.PacketConn // the stack's side
	// from is the client's address. Until it has sent something the port may
	// be open; datagrams of others are dropped.
	from   atomic.Pointer[netip.AddrPort]
	client netip.Addr
	port   uint16 // 0: that of its first datagram
	names  map[string]netip.AddrPort
}

// associate is UDP ASSOCIATE; wants is where the client says that it will send
// from, with zeros for what it does not know yet.
func (s *server) associate(client net.Conn, wants target) error {
	at := addrPort(client.LocalAddr()).Addr()
	in, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, 0)))
	if err != nil {
		return errors.Join(err, refuse(client, reply(replyFailed, netip.AddrPort{})))
	}
	defer in.Close()
	out, err := s.net.ListenPacket("udp", ":0") // both families
	if err != nil {
		return errors.Join(err, refuse(client, reply(replyFor(err), netip.AddrPort{})))
	}
	defer out.Close()
	a := &association{server: s, in: in, out: out, names: make(map[string]netip.AddrPort),
		client: addrPort(client.RemoteAddr()).Addr(), port: wants.port}
	if _, err := client.Write(reply(replySucceeded, addrPort(in.LocalAddr()))); err != nil {
		return err
	}
	ended := make(chan error, 2)
	for _, relay := range []func() error{a.outward, a.inward} {
		go func() {
			err := relay()
			client.Close() // one without the other is no association
			ended <- err
		}()
	}
	untilClosed(client)
	in.Close()
	out.Close()
	return errors.Join(<-ended, <-ended)
}

// passing reports whether a socket goes on after an error: ICMP's are about
// datagrams sent before, and SOCKS has no word for them.
func passing(err error) bool {
	var e syscall.Errno
	return errors.As(err, &e) && slices.Contains([]syscall.Errno{syscall.ECONNREFUSED, syscall.EHOSTUNREACH,
		syscall.ENETUNREACH, syscall.EMSGSIZE, syscall.EACCES, syscall.EPROTO, syscall.ENOPROTOOPT}, e)
}

// ending turns the error of a socket that was closed on purpose into none.
func ending(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// outward takes what the client sends, until the association ends.
func (a *association) outward() error {
	buf := make([]byte, maxDatagram)
	for {
		n, from, err := a.in.ReadFromUDPAddrPort(buf)
		if err != nil && passing(err) {
			continue
		}
		if err != nil {
			return ending(err)
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		if !a.isClient(from) {
			continue
		}
		to, data, err := parseDatagram(buf[:n])
		if err == nil {
			err = a.send(data, to)
		}
		if ending(err) != nil {
			log.Printf("%v: datagram to %v: %v", from, to, err)
		}
	}
}

// isClient reports whether the client sends from there. The first datagram says
// which port that is, if the request has not.
func (a *association) isClient(from netip.AddrPort) bool {
	if known := a.from.Load(); known != nil {
		return *known == from
	}
	if from.Addr() != a.client || a.port != 0 && a.port != from.Port() {
		return false
	}
	a.from.Store(&from)
	return true
}

func (a *association) send(data []byte, to target) error {
	dst := netip.AddrPortFrom(to.addr, to.port)
	if !to.addr.IsValid() {
		var err error
		if dst, err = a.resolve(to); err != nil {
			return err
		}
	}
	_, err := a.out.WriteTo(data, net.UDPAddrFromAddrPort(dst))
	return err
}

// resolve finds the address of a name, and asks for each once.
func (a *association) resolve(to target) (netip.AddrPort, error) {
	key := to.String()
	if dst, ok := a.names[key]; ok {
		return dst, nil
	}
	limited, cancel := context.WithTimeout(a.server.ctx, resolveWait)
	defer cancel()
	addrs, err := a.server.net.LookupNetIP(limited, "ip", to.name)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if len(a.names) >= maxNames {
		clear(a.names)
	}
	dst := netip.AddrPortFrom(addrs[0].Unmap(), to.port)
	a.names[key] = dst
	return dst, nil
}

// inward takes what comes back for the client, until the association ends.
func (a *association) inward() error {
	buf := make([]byte, maxUDPHead+maxDatagram)
	for {
		n, from, err := a.out.ReadFrom(buf[maxUDPHead:])
		if err != nil && passing(err) {
			continue
		}
		if err != nil {
			return ending(err)
		}
		client := a.from.Load()
		if client == nil {
			continue // nobody has been sent anything
		}
		head := appendAddr([]byte{0, 0, 0}, addrPort(from))
		b := buf[maxUDPHead-len(head) : maxUDPHead+n]
		copy(b, head)
		if _, err := a.in.WriteToUDPAddrPort(b, *client); ending(err) != nil {
			log.Printf("%v: datagram from %v: %v", *client, from, err)
		}
	}
}
