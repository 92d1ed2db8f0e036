package main

import (
	"context"
	"errors"
	"net/netip"
	"syscall"
	"time"

	"github.com/tapstack/tapstack/socket"
)

// This file owns nc -z: many ports at once, told in order.

// scanAtOnce is how many ports are looked at together.
const scanAtOnce = 64

// scanPorts looks at many ports at once, and tells of them in their order.
func (n *netcat) scanPorts(ctx context.Context, host string, addrs []netip.Addr, ports []uint16) (ok bool, err error) {
	type result struct {
		lines []string
		open  bool
		err   error
	}
	results := make([]chan result, len(ports))
	turn := make(chan struct{}, scanAtOnce)
	if n.port != 0 {
		turn = make(chan struct{}, 1) // they share a port
	}
	for i := range results {
		results[i] = make(chan result, 1)
	}
	go func() {
		for i, port := range ports {
			turn <- struct{}{}
			go func() {
				defer func() { <-turn }()
				s, a, lines, err := n.dial(ctx, addrs, host, port)
				r := result{lines: lines, err: err}
				if s != nil {
					if r.open = !n.udp || n.udpOpen(ctx, s); r.open {
						r.lines = append(r.lines, n.success(host, a, port))
					}
					// A reset: an end in both directions would be waited for.
					if x, ok := s.(interface{ SetLinger(sec int) error }); ok && !n.udp {
						_ = x.SetLinger(0)
					}
					s.Close()
				}
				results[i] <- r
			}()
		}
	}()
	for _, c := range results {
		r := <-c
		for _, line := range r.lines {
			n.say("%s", line)
		}
		ok = ok || r.open
		if err == nil {
			err = r.err
		}
	}
	return ok, err
}

// udpOpen sends a byte a few times and waits for a refusal: silence counts as
// open, as nobody can know better.
func (n *netcat) udpOpen(ctx context.Context, s socket.Berkeley) bool {
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	pause := time.Duration(n.timeout) / 3
	if pause <= 0 || pause > time.Second {
		pause = time.Second / 3
	}
	for range 3 {
		if _, err := s.Send([]byte("X"), 0); err != nil {
			return false
		}
		_ = s.SetReadDeadline(time.Now().Add(pause))
		_, err := s.Recv(make([]byte, 1), 0)
		if err == nil {
			return true
		}
		var e syscall.Errno
		if errors.As(err, &e) && e != syscall.EAGAIN && e != syscall.ETIMEDOUT {
			return false
		}
	}
	return true
}
