package service

// Accepting connections and datagrams, within limits, so that nothing is left
// behind when it ends: Serve and ServePacket return only when every goroutine
// they have started is gone and every connection is closed.

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// Serve answers the connections of ln until ctx ends, which returns nil, or
// ln fails. It closes ln and every connection it has accepted.
func (s *Service) Serve(ctx context.Context, ln net.Listener) error {
	open := conns{set: make(map[net.Conn]struct{})}
	var handlers sync.WaitGroup
	defer handlers.Wait()
	defer open.close()
	defer ln.Close()
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()

	var pause backoff
	for {
		c, err := ln.Accept()
		if err != nil {
			if again, err := pause.after(ctx, err); !again {
				return err
			}
			continue
		}
		pause = 0
		if s.active.Add(1) > int64(s.MaxConns) {
			s.active.Add(-1)
			s.stats.refused.Add(1)
			c.Close()
			continue
		}
		s.stats.accepted.Add(1)
		open.add(c)
		handlers.Go(func() {
			defer s.active.Add(-1)
			defer open.remove(c)
			defer c.Close()
			// How a connection ended is its client's affair.
			_ = s.stream(s, c)
		})
	}
}

// maxDatagram is the largest datagram there can be, and one byte more.
const maxDatagram = 1 << 16

// ServePacket answers the datagrams of pc until ctx ends, which returns nil,
// or pc fails. It closes pc.
func (s *Service) ServePacket(ctx context.Context, pc net.PacketConn) error {
	defer pc.Close()
	stop := context.AfterFunc(ctx, func() { pc.Close() })
	defer stop()

	request, room := make([]byte, maxDatagram), make([]byte, 0, maxDatagram)
	var pause backoff
	for {
		n, from, err := pc.ReadFrom(request)
		if err != nil {
			if again, err := pause.after(ctx, err); !again {
				return err
			}
			continue
		}
		pause = 0
		if s.answer == nil {
			s.stats.answered.Add(1)
			continue
		}
		if wouldLoop(from) {
			s.stats.ignored.Add(1)
			continue
		}
		if _, err := pc.WriteTo(s.answer(s, room, request[:n]), from); err != nil {
			s.stats.failed.Add(1)
			continue
		}
		s.stats.answered.Add(1)
	}
}

// wouldLoop is the classic defence of these services against each other: a
// datagram with a forged source that makes one echo answer another never
// stops. So none of them answers a source port that itself answers everything:
// echo 7, daytime 13, qotd 17 and chargen 19. Port 0 cannot be answered at all.
func wouldLoop(from net.Addr) bool {
	var port uint16
	if u, ok := from.(*net.UDPAddr); ok {
		port = uint16(u.Port)
	} else if a, err := netip.ParseAddrPort(from.String()); err == nil {
		port = a.Port()
	}
	switch port {
	case 0, 7, 13, 17, 19:
		return true
	}
	return false
}

// backoff is the pause before the next try after an error that will pass: too
// many open files, say. It doubles up to a second.
type backoff time.Duration

// after waits and returns true when err is of the passing kind. Otherwise it
// returns false with what the server shall return: nil for an end by ctx.
func (b *backoff) after(ctx context.Context, err error) (again bool, _ error) {
	if ctx.Err() != nil {
		return false, nil
	}
	if !passing(err) {
		return false, err
	}
	*b = min(max(*b*2, backoff(5*time.Millisecond)), backoff(time.Second))
	t := time.NewTimer(time.Duration(*b))
	defer t.Stop()
	select {
	case <-t.C:
		return true, nil
	case <-ctx.Done():
		return false, nil
	}
}

// passing reports errors of one connection or of a shortage, after which a
// listener goes on. Errors by ICMP reach UDP sockets on reading.
func passing(err error) bool {
	for _, e := range []error{
		syscall.ECONNABORTED, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM,
		syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EMSGSIZE,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// conns are the connections being served, so that they can be closed.
type conns struct {
	mu  sync.Mutex // guards set
	set map[net.Conn]struct{}
}

func (o *conns) add(c net.Conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.set[c] = struct{}{}
}

func (o *conns) remove(c net.Conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.set, c)
}

// close closes all of them, which ends their handlers.
func (o *conns) close() {
	o.mu.Lock()
	list := make([]net.Conn, 0, len(o.set))
	for c := range o.set {
		list = append(list, c)
	}
	o.mu.Unlock()
	for _, c := range list {
		c.Close()
	}
}
