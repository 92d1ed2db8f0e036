// Package socket is how programs use the stack: the Berkeley calls (FD), and
// on top of the same code Go's net.Conn, net.Listener and net.PacketConn
// (Network). It is the only place of the project that blocks; the stack below
// never waits.
//
// Errors are the kernel's: a syscall.Errno, found with errors.Is, inside a
// *net.OpError where package net would wrap it; os.ErrDeadlineExceeded when a
// deadline passes; net.ErrClosed after Close, of the socket or of its stack.
package socket

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/bpf"

	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// The names and numbers of the Berkeley interface, as Linux has them.
const (
	AF_INET        = 2
	AF_INET6       = 10
	SOCK_STREAM    = 1
	SOCK_DGRAM     = 2
	SOCK_RAW       = 3
	IPPROTO_ICMP   = 1
	IPPROTO_TCP    = 6
	IPPROTO_UDP    = 17
	IPPROTO_ICMPV6 = 58
	SHUT_RD        = 0
	SHUT_WR        = 1
	SHUT_RDWR      = 2
	SOMAXCONN      = 4096
)

// Flags of Send and Recv; any other is EOPNOTSUPP.
const (
	MSG_OOB        = 0x1     // of a stream, Send: the last byte is urgent; Recv: the byte at the mark
	MSG_PEEK       = 0x2     // Recv, RecvFrom: leave it there
	MSG_DONTROUTE  = 0x4     // Send: of a datagram, only to a host on a link
	MSG_CTRUNC     = 0x8     // of Msg.Flags: there was no room for a control message
	MSG_TRUNC      = 0x20    // Recv, RecvFrom: a datagram's whole length; a stream's bytes are thrown away
	MSG_DONTWAIT   = 0x40    // EAGAIN instead of waiting
	MSG_EOR        = 0x80    // Send: a record ends here, no segment has the text of two. Streams only
	MSG_WAITALL    = 0x100   // Recv: wait for as much as was asked for
	MSG_ERRQUEUE   = 0x2000  // Recvmsg: an error from the queue
	MSG_NOSIGNAL   = 0x4000  // nothing to do: there is no SIGPIPE here
	MSG_MORE       = 0x8000  // Send: more follows: send no small segment for now, or collect for one datagram
	MSG_WAITFORONE = 0x10000 // Recvmmsg: wait for the first message only
	MSG_FASTOPEN   = 1 << 29 // Send, SendTo: connect, with the beginning of the data in the SYN
)

// FD is a socket. Its methods may be called from any goroutine; those that
// wait end with net.ErrClosed when the socket is closed. Several can be one
// socket, see Dup.
type FD struct {
	*file
	closed atomic.Bool
}

// file is what the descriptors of one socket share.
type file struct {
	stack  *stack.Stack
	domain int32
	typ    int32
	proto  int32
	refs   atomic.Int32 // descriptors that are open, see dup.go
	async  atomic.Bool  // O_NONBLOCK, see nonblock.go

	read, write half
	dgram       *stack.Datagram     // nil for a stream; never changes
	packet      *stack.PacketSocket // of AF_PACKET alone; never changes
	late        atomic.Bool         // Connect has returned EINPROGRESS by SO_SNDTIMEO
	held        atomic.Bool         // a stream's SYN waits for the first bytes
	fastBegun   atomic.Bool         // and the handshake of a MSG_FASTOPEN goes on without waiting
	shut        atomic.Uint32       // of a datagram socket: 1<<SHUT_RD, 1<<SHUT_WR
	bcast       atomic.Bool         // SO_BROADCAST
	sharing     stack.Sharing       // SO_REUSEADDR, SO_REUSEPORT; guarded by mu
	want        atomic.Uint32       // of a datagram socket: the control messages it was asked for

	mu         sync.Mutex // guards everything below
	only6      bool
	listening  bool
	connecting bool // conn's handshake is under way
	bind       *stack.TCPListener
	conn       *stack.TCPConn
	settings   *settings // nil: the defaults
	watchers   *watcher  // who polls, see watch.go
}

// settings are those of a socket for the connections to come. One that was
// accepted needs none.
type settings struct {
	knobs       tcp.Knobs
	headers     stack.HeaderOptions  // IP_OPTIONS, IPV6_HOPOPTS and its like
	congestion  string               // TCP_CONGESTION; "": the stack's
	fastQueue   int                  // TCP_FASTOPEN
	fastKeys    [][16]byte           // TCP_FASTOPEN_KEY
	fastConnect bool                 // TCP_FASTOPEN_CONNECT
	device      *stack.Interface     // SO_BINDTODEVICE
	trace       tcp.Trace            // SetTrace
	segments    bool                 // with every segment
	pair        *pairStack           // Socketpair's
	program     []bpf.RawInstruction // SO_ATTACH_FILTER; nil: none
	filter      stack.Filter         // which runs it
	filterLock  bool                 // SO_LOCK_FILTER
	repair      repairing            // TCP_REPAIR
	cookie      uint64               // SO_COOKIE; 0: nobody has asked
}

// changeLocked returns the settings, to change them.
func (f *FD) changeLocked() *settings {
	if f.settings == nil {
		f.settings = new(settings)
	}
	return f.settings
}

// settingsLocked returns the settings, to read them.
func (f *FD) settingsLocked() *settings {
	if f.settings == nil {
		return new(settings)
	}
	return f.settings
}

// Socket is socket(2): AF_INET or AF_INET6; SOCK_STREAM, or SOCK_DGRAM with
// protocol 0, IPPROTO_UDP, or IPPROTO_ICMP and IPPROTO_ICMPV6 for echo ("ping")
// sockets, or SOCK_RAW with an IP protocol (see raw.go); AF_PACKET (see packet.go)
// with SOCK_RAW or SOCK_DGRAM and a protocol in network byte order. Errors:
// EAFNOSUPPORT, EPROTONOSUPPORT, ESOCKTNOSUPPORT, ENETDOWN, EINVAL for a type that
// does not exist. SOCK_NONBLOCK and SOCK_CLOEXEC may be added to the type.
func Socket(s *stack.Stack, domain, typ, proto int) (*FD, error) {
	typ, nonblock := typeFlags(typ)
	switch domain {
	case AF_INET, AF_INET6:
	case AF_PACKET:
		return newPacketFD(s, typ, proto, nonblock)
	default:
		return nil, syscall.EAFNOSUPPORT
	}
	f := newFD(s, domain, typ, proto)
	f.async.Store(nonblock)
	var err error
	switch {
	case typ == SOCK_STREAM && (proto == 0 || proto == IPPROTO_TCP):
		return f, nil
	case typ == SOCK_DGRAM && (proto == 0 || proto == IPPROTO_UDP):
		f.dgram, err = s.NewUDP(domain == AF_INET6)
	case typ == SOCK_DGRAM && (proto == IPPROTO_ICMP && domain == AF_INET || proto == IPPROTO_ICMPV6 && domain == AF_INET6):
		f.dgram, err = s.NewPing()
		f.only6 = domain == AF_INET6
	case typ == SOCK_RAW && (proto < 0 || proto > 255):
		return nil, syscall.EINVAL
	case typ == SOCK_RAW && proto != 0:
		f.dgram, err = s.NewRaw(uint8(proto), domain == AF_INET6)
		f.only6 = domain == AF_INET6
	case typ == SOCK_STREAM || typ == SOCK_DGRAM || typ == SOCK_RAW:
		return nil, syscall.EPROTONOSUPPORT
	case typ < 0 || typ > 10:
		return nil, syscall.EINVAL
	default:
		return nil, syscall.ESOCKTNOSUPPORT
	}
	if err != nil {
		return nil, err
	}
	if domain == AF_INET6 {
		f.dgram.Set(stack.DatagramAll, 0) // as Linux begins
	}
	return f, nil
}

func newFD(s *stack.Stack, domain, typ, proto int) *FD {
	x := &struct { // in one piece
		fd   FD
		file file
	}{file: file{stack: s, domain: int32(domain), typ: int32(typ), proto: int32(proto)}}
	x.file.refs.Store(1)
	x.fd.file = &x.file
	return &x.fd
}

// toStack checks an address given by the user and unmaps IPv4-mapped ones.
func (f *FD) toStack(a netip.AddrPort) (netip.AddrPort, error) {
	ip := a.Addr()
	switch {
	case f.packet != nil:
		return a, syscall.EINVAL // another family's address
	case !ip.IsValid():
		return a, syscall.EINVAL
	case f.domain == AF_INET && !ip.Unmap().Is4():
		return a, syscall.EAFNOSUPPORT
	case f.domain == AF_INET6 && ip.Is4():
		return a, syscall.EINVAL // Linux: too short to be a sockaddr_in6
	case ip.Is4In6() && f.isOnly6():
		return a, syscall.ENETUNREACH
	}
	if !ip.IsLinkLocalUnicast() && !ip.IsMulticast() {
		ip = ip.WithZone("") // it says nothing of an address that is the same on all links
	}
	return netip.AddrPortFrom(ip.Unmap(), a.Port()), nil
}

func (f *FD) isOnly6() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.only6
}

// fromStack shows an IPv4 address as the socket's family does.
func (f *FD) fromStack(a netip.AddrPort) netip.AddrPort {
	if f.domain == AF_INET6 && a.Addr().Is4() {
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr().As16()), a.Port())
	}
	return a
}

// SetV6Only keeps an AF_INET6 socket from IPv4 (IPV6_V6ONLY). Errors: EINVAL
// once it is bound, ENOPROTOOPT on AF_INET.
func (f *FD) SetV6Only(on bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed.Load():
		return net.ErrClosed
	case f.domain != AF_INET6:
		return syscall.ENOPROTOOPT
	case f.bind != nil || f.conn != nil:
		return syscall.EINVAL
	case f.dgram != nil:
		if err := f.dgram.SetV6Only(on); err != nil {
			return err
		}
	}
	f.only6 = on
	return nil
}

// SetBroadcast permits a datagram socket to send to broadcast addresses
// (SO_BROADCAST). On a stream it is accepted, as Linux does, and means nothing.
func (f *FD) SetBroadcast(on bool) error {
	if f.closed.Load() {
		return net.ErrClosed
	}
	f.bcast.Store(on)
	if f.dgram != nil {
		return f.dgram.Set(stack.DatagramBroadcast, b2i(on))
	}
	return nil
}

// Bind is bind(2). Errors: EINVAL when already bound, EADDRINUSE,
// EADDRNOTAVAIL, EAFNOSUPPORT.
func (f *FD) Bind(local netip.AddrPort) error {
	if f.closed.Load() {
		return net.ErrClosed
	}
	a, err := f.toStack(local)
	if err == syscall.ENETUNREACH {
		err = syscall.EINVAL // Linux: an IPv4 address makes no sense on an IPv6-only socket
	}
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed.Load() {
		return net.ErrClosed
	}
	switch {
	case f.dgram != nil:
		err = ofStack(f.dgram.Bind(a))
	case f.bind != nil || f.conn != nil:
		return syscall.EINVAL
	default:
		err = f.bindLocked(a)
	}
	if err == nil && a.Addr().Is6() && !a.Addr().IsUnspecified() {
		f.only6 = true // as Linux shows it
	}
	if ip := a.Addr(); err == nil && (ip.Zone() != "" || ip.IsLinkLocalUnicast()) {
		f.pinnedLocked()
	}
	return err
}

// pinnedLocked notes the interface that the zone of an address has pinned the
// socket to: SO_BINDTODEVICE shows it, as on Linux.
func (f *FD) pinnedLocked() {
	var dev *stack.Interface
	if f.dgram != nil {
		dev = f.dgram.Device()
	} else if f.bind != nil {
		dev = f.bind.Device()
	}
	if dev != nil {
		f.changeLocked().device = dev
	}
}

// bindLocked holds a port for a stream.
func (f *FD) bindLocked(a netip.AddrPort) error {
	l, err := f.stack.BindTCPWith(a, stack.BindOptions{
		Only6: f.only6 || f.domain == AF_INET, Sharing: f.sharing, Device: f.settingsLocked().device,
	})
	if err != nil {
		return err
	}
	l.SetKnobs(f.settingsLocked().knobs)
	l.SetHeaderOptions(f.settingsLocked().headers)
	l.SetFilter(f.settingsLocked().filter)
	f.bind = l
	return nil
}

// any is the wildcard address of the socket's family.
func (f *FD) any() netip.Addr {
	if f.domain == AF_INET {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// ofStack makes of the stack's EBADF, which says that the endpoint was closed
// below us together with its stack, what Go calls that.
func ofStack(err error) error {
	if err == syscall.EBADF {
		return net.ErrClosed
	}
	return err
}

// Close is close(2). Data written is still sent, and SetLinger says whether
// Close waits for that or throws it away; calls that wait return. The socket
// itself lives on while it has another descriptor (Dup).
func (f *FD) Close() error {
	if !f.closed.CompareAndSwap(false, true) {
		return net.ErrClosed
	}
	f.unwatchAll()
	if f.refs.Add(-1) > 0 {
		f.read.look()
		f.write.look()
		return nil
	}
	f.read.end()
	f.write.end()
	f.mu.Lock()
	bind, conn := f.bind, f.conn
	var pair *pairStack
	if f.settings != nil {
		pair = f.settings.pair
	}
	f.mu.Unlock()
	if bind != nil {
		bind.Close()
	}
	if conn != nil {
		closeStream(conn)
	}
	if f.dgram != nil {
		f.dgram.Close()
	}
	if f.packet != nil {
		f.packet.Close()
	}
	if pair != nil {
		pair.release()
	}
	return nil
}

// Getsockname returns the local address, with port 0 while unbound.
func (f *FD) Getsockname() (netip.AddrPort, error) {
	if f.closed.Load() {
		return netip.AddrPort{}, net.ErrClosed
	}
	if f.packet != nil {
		return netip.AddrPort{}, syscall.EAFNOSUPPORT // see PacketName
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	a := netip.AddrPortFrom(f.any(), 0)
	switch {
	case f.conn != nil:
		a = f.conn.LocalAddr()
	case f.bind != nil:
		a = f.bind.Addr()
	case f.dgram != nil:
		if b := f.dgram.LocalAddr(); b.IsValid() {
			a = b
		}
	}
	return f.fromStack(a), nil // link-local addresses with their zone (RFC 4007 §11)
}

// Getpeername returns the peer's address; ENOTCONN without one, which is also
// when the connection has ended.
func (f *FD) Getpeername() (netip.AddrPort, error) {
	if f.closed.Load() {
		return netip.AddrPort{}, net.ErrClosed
	}
	if f.packet != nil {
		return netip.AddrPort{}, syscall.EOPNOTSUPP
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conn != nil {
		if st := f.conn.State(); st != tcp.Closed && st != tcp.SynSent {
			return f.fromStack(f.conn.RemoteAddr()), nil
		}
	}
	if f.dgram != nil {
		if a := f.dgram.RemoteAddr(); a.Port() != 0 {
			return f.fromStack(a), nil
		}
	}
	return netip.AddrPort{}, syscall.ENOTCONN
}

// Stream returns the connection below, for its Info; nil when there is none.
func (f *FD) Stream() *stack.TCPConn {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.conn
}

// SetDeadline sets both deadlines; the zero time removes them.
func (f *FD) SetDeadline(t time.Time) error {
	if err := f.SetReadDeadline(t); err != nil {
		return err
	}
	return f.SetWriteDeadline(t)
}

// SetReadDeadline is for Recv, RecvFrom and Accept.
func (f *FD) SetReadDeadline(t time.Time) error { return f.read.set(t) }

// SetWriteDeadline is for Send, SendTo and Connect.
func (f *FD) SetWriteDeadline(t time.Time) error { return f.write.set(t) }
