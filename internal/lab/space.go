package lab

// This file is the lab as the tests of one process use it: a namespace held
// open by a descriptor, entered by one goroutine at a time on a locked thread.

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"runtime"
	"sync"

	"github.com/vishvananda/netns"
)

// Lab is a private network of this process. Its methods are safe for
// concurrent use.
type Lab struct {
	Layout
	ns netns.NsHandle

	mu     sync.Mutex // guards cmds and closed
	cmds   []*exec.Cmd
	closed bool
}

// New builds a lab with one host.
func New() (*Lab, error) { return NewWith(Options{}) }

// NewWith builds a lab. The caller needs the right to make network namespaces:
// root, or a process that Main has put into a user namespace.
func NewWith(o Options) (*Lab, error) {
	o, err := o.check()
	if err != nil {
		return nil, err
	}
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("lab: %w", err)
	}
	defer leave(home)
	ns, err := netns.New()
	if err != nil {
		return nil, fmt.Errorf("lab: make a network namespace: %w", explain(err))
	}
	layout, err := build(o)
	if err != nil {
		ns.Close()
		return nil, explain(err)
	}
	return &Lab{Layout: *layout, ns: ns}, nil
}

// leave returns the locked thread to its own namespace. A thread for which
// that fails stays locked, so the runtime ends it together with its goroutine
// and no other goroutine ever runs in the wrong network.
func leave(home netns.NsHandle) {
	if netns.Set(home) == nil {
		runtime.UnlockOSThread()
	}
	home.Close()
}

// Do runs f in the lab's network, on this goroutine. Sockets, devices and
// processes made by f itself belong to the lab for good; goroutines that f
// starts run outside. Calls may nest and may run in parallel.
func (l *Lab) Do(f func()) {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		panic("lab: " + err.Error())
	}
	defer leave(home)
	if err := netns.Set(l.ns); err != nil {
		panic("lab: enter the namespace: " + err.Error())
	}
	f()
}

// DialKernel is net.Dialer.DialContext on the lab's kernel host. The address
// has to be numeric.
func (l *Lab) DialKernel(ctx context.Context, network, address string) (c net.Conn, err error) {
	l.Do(func() { c, err = new(net.Dialer).DialContext(ctx, network, address) })
	return c, err
}

// ListenKernel is net.Listen on the lab's kernel host.
func (l *Lab) ListenKernel(network, address string) (ln net.Listener, err error) {
	l.Do(func() { ln, err = net.Listen(network, address) })
	return ln, err
}

// ListenPacketKernel is net.ListenPacket on the lab's kernel host.
func (l *Lab) ListenPacketKernel(network, address string) (c net.PacketConn, err error) {
	l.Do(func() { c, err = net.ListenPacket(network, address) })
	return c, err
}

// Start starts a command in the lab; Close kills it if it still runs.
func (l *Lab) Start(cmd *exec.Cmd) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return net.ErrClosed
	}
	var err error
	l.Do(func() { err = cmd.Start() })
	if err == nil {
		l.cmds = append(l.cmds, cmd)
	}
	return err
}

// Output runs a program in the lab to its end and returns what it wrote to
// both of its streams.
func (l *Lab) Output(ctx context.Context, name string, args ...string) ([]byte, error) {
	var out []byte
	var err error
	l.Do(func() { out, err = exec.CommandContext(ctx, name, args...).CombinedOutput() })
	return out, err
}

// Loss loses permille of 1000 frames on a port, each way, at random; 0 ends it.
// It needs the nft program.
func (l *Lab) Loss(port string, permille int) (err error) {
	l.Do(func() { err = setLoss(port, permille) })
	return err
}

// Close kills what Start started and lets go of the network, which disappears
// once the last socket in it is closed.
func (l *Lab) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	for _, c := range l.cmds {
		// An error means that it has ended already.
		_ = c.Process.Kill()
	}
	return l.ns.Close()
}
