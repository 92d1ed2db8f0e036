package pktscript

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/socket"
)

// This file owns the system calls: a table by name, how one that blocks is
// tried again, and how results are compared.

// file is a descriptor of the script.
type file struct {
	fd        *socket.FD
	epoll     *epoll
	stream    bool
	listening bool
	served    bool // a connection has come; the next packets are its
	async     bool // O_NONBLOCK as the script sees it
	ownText   bool // the script writes text of its own
	wrote     uint32
	read      uint32
}

// awaits reports a socket whose next packet begins a connection: one that
// listens, or one that was made and never connected.
func (f *file) awaits() bool { return f.stream && !f.served }

// errBlocks is what a call returns that would have to wait.
var errBlocks = errors.New("the call blocks")

// sysCall is a call under way.
type sysCall struct {
	*Call
	at    *Event
	r     *runner
	begun mono.Time
	limit mono.Time // poll: when the wait is over
	done  int       // bytes written so far
	first bool      // the first attempt
}

// pendingCall is the call that blocks; there is at most one, as a program with
// one thread has it.
type pendingCall struct {
	c     *sysCall
	until mono.Time
}

// Unsupported names that are calls all the same.
var callTable map[string]func(c *sysCall) (int64, error)

func init() {
	callTable = map[string]func(c *sysCall) (int64, error){
		"socket": (*sysCall).socket, "bind": (*sysCall).bind, "listen": (*sysCall).listen, "accept": (*sysCall).accept,
		"connect": (*sysCall).connect, "close": (*sysCall).close, "shutdown": (*sysCall).shutdown,
		"read": (*sysCall).recv, "recv": (*sysCall).recv, "recvfrom": (*sysCall).recv, "readv": (*sysCall).recvVector,
		"recvmsg": (*sysCall).recvVector,
		"write":   (*sysCall).send, "send": (*sysCall).send, "sendto": (*sysCall).send, "writev": (*sysCall).sendVector,
		"sendmsg": (*sysCall).sendVector,
		"fcntl":   (*sysCall).fcntl, "ioctl": (*sysCall).ioctl,
		"getsockopt": (*sysCall).getsockopt, "setsockopt": (*sysCall).setsockopt,
		"poll": (*sysCall).poll, "epoll_create": (*sysCall).epollCreate, "epoll_ctl": (*sysCall).epollCtl,
		"epoll_wait": (*sysCall).epollWait,
	}
}

// call begins a call and, unless it blocks, ends it.
func (r *runner) call(e *Event) error {
	if err := r.settlePending(); err != nil {
		return err
	}
	f, ok := callTable[e.Call.Name]
	if !ok {
		return &Unsupported{Reason: e.Call.Name + "()"}
	}
	c := &sysCall{Call: e.Call, at: e, r: r, begun: r.net.Now(), first: true}
	n, err := f(c)
	c.first = false
	if err == errBlocks {
		if !e.At.Blocks {
			return fmt.Errorf("%s() blocks", c.Name)
		}
		until := r.begin.Add(e.At.Until)
		if e.At.Kind == Relative {
			until = r.planned.Add(e.At.Until - e.At.From)
		}
		r.pending = &pendingCall{c, until}
		r.settle()
		return r.retry()
	}
	return r.finishCall(c, n, err)
}

// retry tries the call that blocks again.
func (r *runner) retry() error {
	p := r.pending
	if p == nil {
		return nil
	}
	n, err := callTable[p.c.Name](p.c)
	if err == errBlocks {
		return nil
	}
	r.pending = nil
	line := r.event
	r.event = p.c.at
	if e := r.finishCall(p.c, n, err); e != nil {
		return fmt.Errorf("line %d: %w", p.c.at.Line, e)
	}
	r.event = line
	now := r.net.Now()
	tol := max(r.tolerance(p.until), time.Duration(r.cfg.tolerancePercent/100*float64(p.until.Sub(p.c.begun))))
	if d := now.Sub(p.until); d > tol || d < -tol {
		return fmt.Errorf("line %d: %s() returned at %v instead of %v", p.c.at.Line, p.c.Name, now.Sub(r.begin), p.until.Sub(r.begin))
	}
	return nil
}

// settlePending waits for the call that blocks: its thread makes the next.
func (r *runner) settlePending() error {
	p := r.pending
	if p == nil {
		return nil
	}
	var err error
	limit := p.until.Add(r.tolerance(p.until) + time.Second)
	r.net.Until(max(0, limit.Sub(r.net.Now())), func() bool {
		err = r.retry()
		return err != nil || r.pending == nil
	})
	if err == nil && r.pending != nil {
		err = fmt.Errorf("line %d: %s() still blocks", p.c.at.Line, p.c.Name)
	}
	return err
}

// finishCall compares the result of a call and lets happen what it caused.
func (r *runner) finishCall(c *sysCall, n int64, err error) error {
	var un *Unsupported
	if errors.As(err, &un) {
		return err
	}
	r.trace("%s() = %s", c.Name, resultString(n, err))
	var wrong *wrongResult
	switch {
	case errors.As(err, &wrong):
		return err
	case c.Result.Kind == ExprAny:
	case err != nil:
		errno, ok := errnoOf(err)
		if !ok {
			return fmt.Errorf("%s(): %w", c.Name, err)
		}
		want, e := c.Result.number()
		if e != nil {
			return e
		}
		if want != -1 || c.Errno != "" && errnos[c.Errno] != errno {
			if errno == syscall.EOPNOTSUPP || errno == syscall.ENOPROTOOPT {
				return &Unsupported{Reason: fmt.Sprintf("%s() with these flags or options", c.Name)}
			}
			return fmt.Errorf("%s() = -1 %s, not %s %s", c.Name, errnoName(errno), c.Result, c.Errno)
		}
	default:
		want, e := c.Result.number()
		if e != nil {
			return e
		}
		if want != n {
			return fmt.Errorf("%s() = %d, not %s %s", c.Name, n, c.Result, c.Errno)
		}
	}
	r.settle()
	return nil
}

// wrongResult is a difference in something that a call returned by reference.
type wrongResult struct{ text string }

func (w *wrongResult) Error() string { return w.text }

func wrong(format string, a ...any) error { return &wrongResult{fmt.Sprintf(format, a...)} }

func resultString(n int64, err error) string {
	if errno, ok := errnoOf(err); ok {
		return "-1 " + errnoName(errno)
	}
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(n)
}

func errnoOf(err error) (syscall.Errno, bool) {
	var e syscall.Errno
	if errors.Is(err, net.ErrClosed) {
		return syscall.EBADF, true
	}
	return e, errors.As(err, &e)
}

// arg returns argument i.
func (c *sysCall) arg(i int) *Expr {
	if i >= len(c.Args) {
		panicBug := &Expr{Kind: ExprAny}
		return panicBug
	}
	return c.Args[i]
}

// num returns argument i as a number; "..." is def.
func (c *sysCall) num(i int, def int64) (int64, error) {
	if c.arg(i).Kind == ExprAny {
		return def, nil
	}
	return c.arg(i).number()
}

// file returns the descriptor that is argument 0.
func (c *sysCall) file() (*file, error) { return c.fileAt(0) }

func (c *sysCall) fileAt(i int) (*file, error) {
	n, err := c.num(i, -1)
	if err != nil {
		return nil, err
	}
	f := c.r.files[int(n)]
	if f == nil {
		return nil, syscall.EBADF
	}
	return f, nil
}

// sock is file for calls on sockets.
func (c *sysCall) sock() (*file, error) {
	f, err := c.file()
	if err == nil && f.fd == nil {
		err = syscall.ENOTSOCK
	}
	return f, err
}

// newFD is the number that the script gives to what a call made.
func (c *sysCall) newFD() (int64, error) {
	n, err := c.Result.number()
	if err == nil && n >= 0 && c.r.files[int(n)] != nil {
		err = fmt.Errorf("descriptor %d is in use", n)
	}
	return n, err
}

// blocked translates EAGAIN for a descriptor that waits.
func (c *sysCall) blocked(f *file, err error, dontWait bool) error {
	if err == syscall.EAGAIN && !f.async && !dontWait {
		return errBlocks
	}
	return err
}

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

// maxText is the longest buffer a script may ask for.
const maxText = 64 << 20

// recv is read(fd, buf, n), recv(..., flags), recvfrom(..., from, len).
func (c *sysCall) recv() (int64, error) {
	f, err := c.sock()
	if err != nil {
		return 0, err
	}
	size, err := c.num(2, 0)
	if err != nil || size < 0 || size > maxText {
		return 0, err
	}
	flags, err := c.num(3, 0)
	if err != nil {
		return 0, err
	}
	if e := c.arg(1); e.Kind == ExprWord && e.Text == "NULL" && size > 0 {
		return 0, syscall.EFAULT
	}
	return c.receive(f, int(size), int(flags))
}

func (c *sysCall) receive(f *file, size, flags int) (int64, error) {
	b := make([]byte, size)
	n, err := f.fd.Recv(b, flags)
	if err == io.EOF {
		return 0, nil
	}
	if err != nil {
		return 0, c.blocked(f, err, flags&socket.MSG_DONTWAIT != 0)
	}
	special := symbols["MSG_TRUNC"] | symbols["MSG_OOB"]
	if !f.stream || int64(flags)&special != 0 {
		if int64(flags)&symbols["MSG_OOB"] == 0 {
			f.read += uint32(n)
		}
		return int64(n), nil
	}
	for i, x := range b[:n] {
		if x != streamByte(f.read+uint32(i)) && !f.ownText && !c.r.urgent() {
			return 0, wrong("byte %d of the stream is not what was sent there", f.read+uint32(i))
		}
	}
	if int64(flags)&symbols["MSG_PEEK"] == 0 {
		f.read += uint32(n)
	}
	if e := c.arg(1); e.Kind == ExprString && string(b[:n]) != e.Text {
		return 0, wrong("the text read is %q", b[:n])
	}
	return int64(n), nil
}

// urgent reports whether the script uses urgent data, which leaves the stream.
func (r *runner) urgent() bool {
	for _, e := range r.script.Events {
		if e.Packet != nil && e.Packet.Urg != 0 {
			return true
		}
	}
	return false
}

// vector sums up the lengths of an array of {..., n}.
func (c *sysCall) vector(i int) (size, flags int64, err error) {
	e := c.arg(i)
	if e.Kind == ExprStruct {
		if x := e.Field("msg_control"); x != nil && len(x.List) > 0 {
			return 0, 0, &Unsupported{Reason: "control messages"}
		}
		if x := e.Field("msg_flags"); x != nil {
			if flags, err = x.number(); err != nil {
				return 0, 0, err
			}
		}
		e = e.Field("msg_iov")
	}
	if e == nil || e.Kind != ExprList {
		return 0, 0, &Unsupported{Reason: c.Name + "() with these arguments"}
	}
	for _, v := range e.List {
		if len(v.List) != 2 {
			return 0, 0, &Unsupported{Reason: c.Name + "() with these arguments"}
		}
		n, err := v.List[1].number()
		if err != nil {
			return 0, 0, err
		}
		size += n
	}
	if size > maxText {
		err = &Unsupported{Reason: "a buffer this large"}
	}
	return size, flags, err
}

func (c *sysCall) recvVector() (int64, error) {
	f, err := c.sock()
	if err != nil {
		return 0, err
	}
	size, _, err := c.vector(1)
	if err != nil {
		return 0, err
	}
	flags, err := c.num(2, 0)
	if c.Name == "readv" {
		flags = 0
	}
	if err != nil {
		return 0, err
	}
	return c.receive(f, int(size), int(flags))
}

// send is write(fd, buf, n), send(..., flags), sendto(..., to, len).
func (c *sysCall) send() (int64, error) {
	f, err := c.sock()
	if err != nil {
		return 0, err
	}
	size, err := c.num(2, 0)
	if err != nil || size < 0 || size > maxText {
		return 0, err
	}
	flags, err := c.num(3, 0)
	if err != nil {
		return 0, err
	}
	if e := c.arg(1); e.Kind == ExprWord && e.Text == "NULL" && size > 0 {
		return 0, syscall.EFAULT
	}
	b := make([]byte, size)
	if e := c.arg(1); e.Kind == ExprString {
		f.ownText = true
		copy(b, e.Text)
	} else {
		fill(b, f.wrote-uint32(c.done))
	}
	var to netip.AddrPort
	if c.Name == "sendto" && !f.stream {
		if to, err = c.address(4, c.r.cfg.remote, c.r.cfg.connectPort); err != nil {
			return 0, err
		}
		c.beginFlow(f, to)
	}
	return c.transmit(f, b, int(flags), to)
}

func (c *sysCall) transmit(f *file, b []byte, flags int, to netip.AddrPort) (int64, error) {
	for {
		var n int
		var err error
		if to.IsValid() {
			n, err = f.fd.SendTo(b[c.done:], flags, to)
		} else {
			n, err = f.fd.Send(b[c.done:], flags)
		}
		if err == nil {
			f.wrote += uint32(n)
			c.done += n
		}
		switch {
		case err == nil && (c.done == len(b) || f.async):
			return int64(c.done), nil
		case err == syscall.EAGAIN && c.done > 0 && (f.async || flags&socket.MSG_DONTWAIT != 0):
			return int64(c.done), nil
		case err == syscall.EAGAIN:
			return 0, c.blocked(f, err, flags&socket.MSG_DONTWAIT != 0)
		case err != nil && c.done > 0:
			return int64(c.done), nil
		case err != nil:
			return 0, err
		}
	}
}

func (c *sysCall) sendVector() (int64, error) {
	f, err := c.sock()
	if err != nil {
		return 0, err
	}
	size, _, err := c.vector(1)
	if err != nil {
		return 0, err
	}
	flags, err := c.num(2, 0)
	if c.Name == "writev" {
		flags = 0
	}
	if err != nil {
		return 0, err
	}
	b := make([]byte, size)
	fill(b, f.wrote-uint32(c.done))
	return c.transmit(f, b, int(flags), netip.AddrPort{})
}

func (c *sysCall) fcntl() (int64, error) {
	f, err := c.file()
	if err != nil {
		return 0, err
	}
	cmd, err := c.num(1, 0)
	if err != nil {
		return 0, err
	}
	switch cmd {
	case symbols["F_GETFL"]:
		n := symbols["O_RDWR"]
		if f.async {
			n |= symbols["O_NONBLOCK"]
		}
		return n, nil
	case symbols["F_SETFL"]:
		v, err := c.num(2, 0)
		f.async = v&symbols["O_NONBLOCK"] != 0
		return 0, err
	}
	return 0, &Unsupported{Reason: "fcntl() with this command"}
}
