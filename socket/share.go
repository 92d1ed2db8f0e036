package socket

// This file owns who shares what with others: SO_REUSEADDR and SO_REUSEPORT,
// which let several bind one port, and SO_BINDTODEVICE, which leaves the other
// interfaces to others. The rules of conflicts are in stack/ports.go.

import (
	"net"
	"syscall"

	"github.com/tapstack/tapstack/stack"
)

// SetReuseAddr lets others who say so too bind the same address and port, of
// streams unless one of them listens (SO_REUSEADDR); in TIME-WAIT of connections
// that were so, others may bind and listen.
func (f *FD) SetReuseAddr(on bool) error { return f.share(stack.ShareAddr, on) }

// SetReusePort lets others who say so too bind the same address and port
// (SO_REUSEPORT). What comes in is spread over those whose address and device are
// the same: by a hash of the peer's address and port, so that each peer stays
// with one as long as they remain the same.
func (f *FD) SetReusePort(on bool) error { return f.share(stack.SharePort, on) }

func (f *FD) share(bit stack.Sharing, on bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed.Load() {
		return net.ErrClosed
	}
	f.sharing &^= bit
	if on {
		f.sharing |= bit
	}
	switch {
	case f.dgram != nil:
		f.dgram.SetSharing(f.sharing)
	case f.bind != nil:
		f.bind.SetSharing(f.sharing)
	}
	if f.conn != nil {
		f.conn.SetSharing(f.sharing)
	}
	return nil
}

func (f *FD) shares(bit stack.Sharing) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if bit == stack.ShareAddr && f.sharing&stack.ShareForce != 0 {
		return 2, nil // SK_FORCE_REUSE of Linux
	}
	return b2i(f.sharing&bit != 0), nil
}

// reuse is the option of a bit.
func reuse(bit stack.Sharing) option {
	return option{
		func(f *FD, v int) error { return f.share(bit, v != 0) },
		func(f *FD) (int, error) { return f.shares(bit) },
	}
}

// BindToDevice pins a socket to one interface, nil to any (SO_BINDTODEVICE): it
// sends there and receives what comes in there. What a host sends to itself
// comes in by its loopback interface. A stream has to be told before it
// connects: EISCONN afterwards, where Linux moves the connection.
func (f *FD) BindToDevice(i *stack.Interface) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed.Load():
		return net.ErrClosed
	case f.dgram == nil && f.conn != nil:
		return syscall.EISCONN
	case f.dgram != nil:
		f.dgram.SetInterface(i)
	case f.bind != nil:
		f.bind.SetDevice(i)
	}
	if i != nil || f.settings != nil {
		f.changeLocked().device = i
	}
	return nil
}

// Device returns what BindToDevice set.
func (f *FD) Device() (*stack.Interface, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed.Load() {
		return nil, net.ErrClosed
	}
	return f.settingsLocked().device, nil
}

// setIfIndex is SO_BINDTOIFINDEX: the interface by its number, 0 for any.
func (f *FD) setIfIndex(v int) error {
	if v < 0 {
		return syscall.EINVAL
	}
	var i *stack.Interface
	if v > 0 {
		if i = f.stack.InterfaceByIndex(v); i == nil {
			return syscall.ENODEV
		}
	}
	return f.BindToDevice(i)
}

func (f *FD) ifIndex() (int, error) {
	i, err := f.Device()
	if i == nil || err != nil {
		return 0, err
	}
	return i.Index(), nil
}
