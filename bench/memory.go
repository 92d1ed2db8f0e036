package main

// This file owns the weighing of connections.

import (
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// descriptors are left for other things than the connections to weigh.
const descriptors = 200

// memory opens connections and keeps them, then opens as many that the server
// closes at once. What the process grows by, after collecting garbage, is what
// they weigh: in the first case the stack's state and the socket around it, but
// no goroutine of an application. The connections are idle for a while before.
func memory(p peer, l lengths, cc string) ([]float64, error) {
	n := l.idle
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil && limit.Cur < uint64(n+descriptors) {
		n = int(limit.Cur) - descriptors
	}
	before, err := weight(p, cc)
	if err != nil {
		return nil, err
	}
	open := make([]socket, 0, n)
	defer func() {
		for _, s := range open {
			s.close()
		}
	}()
	begin := time.Now()
	for range n {
		s, err := dial(netip.AddrPortFrom(p.addr(), holdPort), cc)
		if err != nil {
			return nil, fmt.Errorf("connection %d: %w", len(open)+1, err)
		}
		open = append(open, s)
	}
	rate := float64(n) / time.Since(begin).Seconds()
	time.Sleep(l.rest)
	held, err := weight(p, cc)
	if err != nil {
		return nil, err
	}
	for range n {
		s, err := dial(netip.AddrPortFrom(p.addr(), hangUpPort), cc)
		if err != nil {
			return nil, err
		}
		_, err = s.all()
		s.close()
		if err != nil {
			return nil, err
		}
	}
	after, err := weight(p, cc)
	if err != nil {
		return nil, err
	}
	return []float64{rate, (held - before) / float64(n), (after - held) / float64(n)}, nil
}

// weight is the resident memory of a server in bytes, without garbage.
func weight(p peer, cc string) (float64, error) {
	s, err := dial(netip.AddrPortFrom(p.addr(), weighPort), cc)
	if err != nil {
		return 0, err
	}
	defer s.close()
	text, err := s.all()
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(string(text), 64)
}
