package stack

import (
	"syscall"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/tcp/cc"
)

// This file owns the choice of congestion control: of the stack by
// TCPConfig.NewController, of a listener for the connections that it accepts,
// and of a connection at any time.

// newController is what connections of this stack begin with.
func (s *Stack) newController() cc.New {
	if s.tcpcfg.NewController != nil {
		return s.tcpcfg.NewController
	}
	return cc.NewCubic
}

// Congestion returns the name of the congestion control that connections of
// this stack have unless another is chosen.
func (s *Stack) Congestion() string { return s.newController()(minMSSForName).Name() }

// minMSSForName is a segment size for a controller that is only asked its name.
const minMSSForName = 536

// HasCongestion reports whether there is a congestion control of that name.
func (s *Stack) HasCongestion(name string) bool {
	_, ok := cc.ByName(name)
	return ok
}

// SetCongestion changes the congestion control, one of cc.Names; window and
// threshold go on as they are. ENOENT when there is none of that name.
func (c *TCPConn) SetCongestion(name string) (err error) {
	c.act(func(now mono.Time) { err = c.core.SetCongestion(now, name) })
	return err
}

// Congestion returns the name of the congestion control.
func (c *TCPConn) Congestion() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.core.Congestion()
}

// SetCongestion chooses the congestion control of connections whose handshake
// ends from now on. ENOENT when there is none of that name.
func (l *TCPListener) SetCongestion(name string) error {
	f, ok := cc.ByName(name)
	if !ok {
		return syscall.ENOENT
	}
	l.mu.Lock()
	l.controller = f
	l.mu.Unlock()
	return nil
}

// Congestion returns the name of the congestion control that accepted
// connections begin with.
func (l *TCPListener) Congestion() string { return l.newController()(minMSSForName).Name() }

func (l *TCPListener) newController() cc.New {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.controller != nil {
		return l.controller
	}
	return l.stack.newController()
}
