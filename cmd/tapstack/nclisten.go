package main

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/socket"
)

// This file owns nc -l: one connection after the other, or the datagrams of one
// peer, with -k of all.

// serve listens and moves bytes until it is over.
func (n *netcat) serve(ctx context.Context, host string, port uint16) error {
	local := netip.IPv4Unspecified() // as netcat, without -6
	if n.v6 {
		local = netip.IPv6Unspecified()
	}
	if host != "" {
		list, err := n.addresses(ctx, host)
		if err != nil {
			return err
		}
		local = list[0]
	}
	domain, typ := socket.AF_INET, socket.SOCK_STREAM
	if local.Is6() {
		domain = socket.AF_INET6
	}
	if n.udp {
		typ = socket.SOCK_DGRAM
	}
	for {
		s, err := n.net.Socket(domain, typ, 0)
		if err != nil {
			return err
		}
		// Without a listener meanwhile nobody would wait for us.
		err = n.listenOn(ctx, s, netip.AddrPortFrom(local, port))
		s.Close()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil || !n.keep {
			return err
		}
	}
}

func (n *netcat) listenOn(ctx context.Context, s socket.Berkeley, local netip.AddrPort) error {
	err := s.SetsockoptInt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
	if err == nil {
		err = s.Bind(local)
	}
	if err != nil {
		return attach.Usagef("%s", errorWords(err))
	}
	if local, err = s.Getsockname(); err != nil {
		return err
	}
	serving(&n.attach, n.udp, local.Port())
	if n.udp {
		n.say("Bound on %v %d", local.Addr(), local.Port())
		return n.datagrams(ctx, s)
	}
	if err := s.Listen(8); err != nil {
		return fmt.Errorf("listen: %s", errorWords(err))
	}
	n.say("Listening on %v %d", local.Addr(), local.Port())
	for {
		c, from, err := s.Accept(ctx)
		if err != nil {
			return err
		}
		n.say("Connection received on %v %d", from.Addr().Unmap(), from.Port())
		if !n.keep {
			s.Close()
		}
		n.pump(ctx, c)
		if !n.keep || ctx.Err() != nil {
			return nil
		}
	}
}

// datagrams makes the first peer the only one, or with -k hears all.
func (n *netcat) datagrams(ctx context.Context, s socket.Berkeley) error {
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if n.keep {
		n.pump(ctx, s)
		return nil
	}
	_, from, err := s.RecvFrom(make([]byte, 1), socket.MSG_PEEK)
	if err == nil {
		err = s.Connect(ctx, from)
	}
	if err != nil {
		return err
	}
	n.say("Connection received on %v %d", from.Addr().Unmap(), from.Port())
	n.pump(ctx, s)
	return nil
}
