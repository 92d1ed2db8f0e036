package pktscript

import (
	"context"
	"net/netip"
	"syscall"

	"github.com/tapstack/tapstack/socket"
)

// This file owns the calls that make, connect and end sockets.

func (c *sysCall) socket() (int64, error) {
	def := int64(socket.AF_INET)
	if c.r.cfg.v6 || c.r.cfg.mapped {
		def = socket.AF_INET6
	}
	domain, err := c.num(0, def)
	if err != nil {
		return 0, err
	}
	typ, err := c.num(1, socket.SOCK_STREAM)
	if err != nil {
		return 0, err
	}
	proto, err := c.num(2, 0)
	if err != nil {
		return 0, err
	}
	fd, err := socket.Socket(c.r.stack, int(domain), int(typ)&0xf, int(proto))
	if err != nil {
		return 0, err
	}
	n, err := c.newFD()
	if err != nil {
		return 0, err
	}
	for _, o := range c.r.set0.socket {
		fd.SetsockoptInt(o[0], o[1], o[2]) // those that it has
	}
	fd.SetNonblock(true)
	f := &file{fd: fd, stream: typ&0xf == socket.SOCK_STREAM, async: typ&symbols["SOCK_NONBLOCK"] != 0}
	c.r.files[int(n)] = f
	c.r.curFile, c.r.cur = f, nil
	return n, nil
}

// address makes a socket address: "..." is the default.
func (c *sysCall) address(i int, ip netip.Addr, port uint16) (netip.AddrPort, error) {
	e := c.arg(i)
	if e.Kind == ExprStruct {
		p, err := e.Field("sin_port").orZero().number()
		if err != nil {
			return netip.AddrPort{}, err
		}
		a := e.Field("sin_addr")
		if a == nil {
			a = e.Field("sin6_addr")
		}
		if a == nil || a.Kind != ExprString {
			return netip.AddrPort{}, &Unsupported{Reason: "address " + e.String()}
		}
		if ip, err = netip.ParseAddr(a.Text); err != nil {
			return netip.AddrPort{}, &Unsupported{Reason: "address " + a.Text}
		}
		port = uint16(p)
	}
	if c.r.cfg.mapped && ip.Is4() {
		ip = netip.AddrFrom16(ip.As16())
	}
	return netip.AddrPortFrom(ip, port), nil
}

func (e *Expr) orZero() *Expr {
	if e == nil {
		return &Expr{}
	}
	return e
}

func (c *sysCall) bind() (int64, error) {
	f, err := c.sock()
	if err != nil {
		return 0, err
	}
	a, err := c.address(1, c.r.cfg.local.Addr(), c.r.cfg.bindPort)
	if err != nil {
		return 0, err
	}
	return 0, f.fd.Bind(a)
}

func (c *sysCall) listen() (int64, error) {
	f, err := c.sock()
	if err != nil {
		return 0, err
	}
	n, err := c.num(1, 1)
	if err != nil {
		return 0, err
	}
	if err := f.fd.Listen(int(n)); err != nil {
		return 0, err
	}
	f.listening, f.served = true, false
	return 0, nil
}

func (c *sysCall) accept() (int64, error) {
	f, err := c.sock()
	if err != nil {
		return 0, err
	}
	g, from, err := f.fd.Accept(context.Background())
	if err != nil {
		return 0, c.blocked(f, err, false)
	}
	n, err := c.newFD()
	if err != nil {
		return 0, err
	}
	g.SetNonblock(true)
	c.r.files[int(n)] = &file{fd: g, stream: true, served: true}
	from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	for _, w := range c.r.flows {
		if w.remote == from && w.fd < 0 {
			w.fd = int(n)
		}
	}
	return n, nil
}

func (c *sysCall) connect() (int64, error) {
	f, err := c.sock()
	if err != nil {
		return 0, err
	}
	if e := c.arg(1); e.Kind == ExprWord && e.Text == "AF_UNSPEC" {
		return 0, &Unsupported{Reason: "connect(AF_UNSPEC)"}
	}
	a, err := c.address(1, c.r.cfg.remote, c.r.cfg.connectPort)
	if err != nil {
		return 0, err
	}
	if c.first {
		c.beginFlow(f, a)
	}
	err = f.fd.Connect(context.Background(), a)
	if err == syscall.EALREADY && !c.first {
		return 0, errBlocks
	}
	if err == syscall.EINPROGRESS && !f.async {
		return 0, errBlocks
	}
	return 0, err
}

// beginFlow makes the flow of a socket that connects.
func (c *sysCall) beginFlow(f *file, to netip.AddrPort) {
	r := c.r
	n, _ := c.num(0, -1)
	for _, w := range r.flows {
		if w.fd == int(n) && w.active {
			return
		}
	}
	w := &flow{fd: int(n), active: true, remote: netip.AddrPortFrom(to.Addr().Unmap(), to.Port())}
	if !f.stream {
		w.proto = UDP
	}
	if a, err := f.fd.Getsockname(); err == nil && a.Port() != 0 {
		w.local = netip.AddrPortFrom(r.cfg.local.Addr(), a.Port())
	}
	f.served = true
	r.flows = append(r.flows, w)
	r.cur = w
}

func (c *sysCall) close() (int64, error) {
	n, err := c.num(0, -1)
	if err != nil {
		return 0, err
	}
	f, err := c.file()
	if err != nil {
		return 0, err
	}
	delete(c.r.files, int(n))
	for _, w := range c.r.flows {
		if w.fd == int(n) {
			w.fd = -2 // gone, and not to be accepted again
		}
	}
	if f.fd == nil {
		return 0, nil
	}
	return 0, f.fd.Close()
}

func (c *sysCall) shutdown() (int64, error) {
	f, err := c.sock()
	if err != nil {
		return 0, err
	}
	how, err := c.num(1, 0)
	if err != nil {
		return 0, err
	}
	return 0, f.fd.Shutdown(int(how))
}
