package main

// This file owns what every server runs, whatever its stack: the services of
// `tapstack up`, and small ones of the benchmarks' own by which memory is
// weighed.

import (
	"errors"
	"net"
	"os"
	"runtime/debug"
	"strconv"
	"sync"

	"github.com/tapstack/tapstack/internal/service"
)

// services are those of the package service; command runs them too.
var services = []string{"echo", "discard", "chargen"}

const (
	echoPort    = 7
	discardPort = 9
	chargenPort = 19
	// holdPort accepts connections and keeps them, without a goroutine or a
	// buffer for each: what they weigh is the stack's.
	holdPort = 1001
	// hangUpPort closes at once, so that the server's side is in TIME-WAIT.
	hangUpPort = 1002
	// weighPort collects garbage and answers with the resident memory of the
	// process in bytes.
	weighPort = 1003
)

// servers are what startServices has started.
type servers struct {
	set       *service.Set
	listeners []net.Listener
	mu        sync.Mutex // guards held
	held      []net.Conn
}

func startServices(n service.Network) (*servers, error) {
	set, err := service.Start(n, services)
	if err != nil {
		return nil, err
	}
	s := &servers{set: set}
	for port, f := range map[int]func(net.Conn){holdPort: s.hold, hangUpPort: hangUp, weighPort: weigh} {
		ln, err := n.Listen("tcp", ":"+strconv.Itoa(port))
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		s.listeners = append(s.listeners, ln)
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				f(c)
			}
		}()
	}
	return s, nil
}

// Close ends everything. Held connections end with the process.
func (s *servers) Close() error {
	for _, ln := range s.listeners {
		ln.Close()
	}
	return s.set.Close()
}

func (s *servers) hold(c net.Conn) {
	s.mu.Lock()
	s.held = append(s.held, c)
	s.mu.Unlock()
}

func hangUp(c net.Conn) { c.Close() }

// weigh frees twice, because what a sync.Pool holds survives the first time.
func weigh(c net.Conn) {
	debug.FreeOSMemory()
	debug.FreeOSMemory()
	_, _ = c.Write(strconv.AppendFloat(nil, rss(os.Getpid())*mega, 'f', 0, 64))
	c.Close()
}
