package pktscript

import (
	"io"
	"net/netip"
	"syscall"

	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/tcp"
)

// This file owns the calls that move text, and fcntl.

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

// receive is receiveOnce, or with MSG_WAITALL as often as it takes.
func (c *sysCall) receive(f *file, size, flags int) (int64, error) {
	const all = socket.MSG_WAITALL
	if flags&(all|socket.MSG_PEEK|socket.MSG_DONTWAIT) != all || !f.stream || f.async {
		return c.receiveOnce(f, size, flags)
	}
	for {
		n, err := c.receiveOnce(f, size-c.done, flags&^all)
		c.done += int(n)
		switch {
		case err == errBlocks, err != nil && c.done == 0:
			return 0, err
		case err != nil, n == 0, c.done == size:
			return int64(c.done), nil
		}
	}
}

func (c *sysCall) receiveOnce(f *file, size, flags int) (int64, error) {
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
	fast := f.stream && flags&socket.MSG_FASTOPEN != 0
	if c.Name == "sendto" && (!f.stream || fast) {
		if to, err = c.address(4, c.r.cfg.remote, c.r.cfg.connectPort); err != nil {
			return 0, err
		}
		c.beginFlow(f, to)
	}
	if fast {
		return c.transmitFast(f, b, int(flags), to)
	}
	return c.transmit(f, b, int(flags), to)
}

// transmitFast is transmit with MSG_FASTOPEN. A call that blocks waits for the
// handshake, whatever the SYN has carried.
func (c *sysCall) transmitFast(f *file, b []byte, flags int, to netip.AddrPort) (int64, error) {
	if e := c.arg(4); e.Kind == ExprWord && e.Text == "AF_UNSPEC" {
		to = netip.AddrPort{}
	}
	if c.first {
		n, err := f.fd.SendTo(b, flags, to)
		f.wrote += uint32(n)
		c.done += n
		switch {
		case f.async || flags&socket.MSG_DONTWAIT != 0:
			return int64(n), err
		case err != nil && err != syscall.EINPROGRESS:
			return 0, err
		}
	}
	switch s := f.fd.Stream(); {
	case s.State() == tcp.SynSent:
		s.Send(b[min(c.done, len(b)):], tcp.SendWait) // takes nothing, but it is known that there is a writer
		return 0, errBlocks
	case s.Err() != nil:
		return 0, f.fd.TakeError()
	case c.done == len(b):
		return int64(c.done), nil
	}
	return c.transmit(f, b, flags&^socket.MSG_FASTOPEN, netip.AddrPort{})
}

func (c *sysCall) transmit(f *file, b []byte, flags int, to netip.AddrPort) (int64, error) {
	for {
		var n int
		var err error
		if to.IsValid() && !f.stream {
			n, err = f.fd.SendTo(b[c.done:], flags, to)
		} else {
			n, err = f.fd.Send(b[c.done:], flags)
		}
		wait := err == syscall.EAGAIN || err == syscall.EINPROGRESS && !f.async
		if err == nil {
			f.wrote += uint32(n)
			c.done += n
		}
		switch {
		case err == nil && (c.done == len(b) || f.async):
			return int64(c.done), nil
		case wait && c.done > 0 && (f.async || flags&socket.MSG_DONTWAIT != 0):
			return int64(c.done), nil
		case wait:
			if s := f.fd.Stream(); s != nil && !f.async && s.State() == tcp.SynSent {
				s.Send(b[c.done:], tcp.SendWait) // as above
			}
			return 0, c.blocked(f, syscall.EAGAIN, flags&socket.MSG_DONTWAIT != 0)
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
