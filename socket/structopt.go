package socket

// This file owns the options of SOL_SOCKET and SOL_TCP whose value is a struct, a
// string or a 64-bit number, in the kernel's layout. Each goes to the method that
// Go programs call.

import (
	"encoding/binary"
	"math"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tapstack/tapstack/stack"
)

// Such options, with Linux's numbers. Both forms of the time-outs have 64-bit
// fields on a 64-bit machine.
const (
	SO_RCVTIMEO     = 20 // struct timeval: see SetReceiveTimeout
	SO_SNDTIMEO     = 21
	SO_BINDTODEVICE = 25 // the interface's name: see BindToDevice
	SO_PEERNAME     = 28 // Getpeername as bytes
	SO_COOKIE       = 57 // a number that no other socket of this process has
	SO_RCVTIMEO_NEW = 66
	SO_SNDTIMEO_NEW = 67

	TCP_CONGESTION   = 13 // a name: see SetCongestion
	TCP_FASTOPEN_KEY = 33 // see SetFastOpenKey
)

const (
	ifNameSize     = 16 // IFNAMSIZ: of an interface's name with the NUL
	congestionSize = 16 // TCP_CA_NAME_MAX
	timevalLen     = 16
)

func init() {
	for opt, h := range map[int]func(*FD) *half{
		SO_RCVTIMEO: (*FD).readHalf, SO_RCVTIMEO_NEW: (*FD).readHalf,
		SO_SNDTIMEO: (*FD).writeHalf, SO_SNDTIMEO_NEW: (*FD).writeHalf,
	} {
		rawOptions[name{SOL_SOCKET, opt}] = rawOption{
			set: func(f *FD, b []byte) error { return f.setTimeval(h(f), b) },
			get: func(f *FD) ([]byte, error) { return timeval(time.Duration(h(f).timeout.Load())), nil },
		}
	}
	rawOptions[name{SOL_SOCKET, SO_BINDTODEVICE}] = rawOption{set: (*FD).setDeviceName, get: (*FD).deviceName}
	rawOptions[name{SOL_SOCKET, SO_PEERNAME}] = rawOption{get: (*FD).peerName, room: (*FD).peerNameFits}
	rawOptions[name{SOL_SOCKET, SO_COOKIE}] = rawOption{get: (*FD).cookie, room: atLeast(8)}
	rawOptions[name{SOL_TCP, TCP_INFO}] = rawOption{get: (*FD).tcpInfo}
	rawOptions[name{SOL_TCP, TCP_CONGESTION}] = rawOption{set: (*FD).setCongestionName, get: (*FD).congestionName}
	rawOptions[name{SOL_TCP, TCP_FASTOPEN_KEY}] = rawOption{set: (*FD).SetFastOpenKey, get: (*FD).fastOpenKey}
}

func (f *FD) readHalf() *half  { return &f.read }
func (f *FD) writeHalf() *half { return &f.write }

// setTimeval takes a struct timeval: 0 is without end, a negative time no time at
// all. EDOM for microseconds that are not below a second.
func (f *FD) setTimeval(h *half, b []byte) error {
	if len(b) < timevalLen {
		return syscall.EINVAL
	}
	sec, usec := int64(binary.NativeEndian.Uint64(b)), int64(binary.NativeEndian.Uint64(b[8:]))
	switch {
	case usec < 0 || usec >= 1_000_000:
		return syscall.EDOM
	case sec < 0:
		return f.setTimeout(h, -1)
	case sec >= math.MaxInt64/int64(time.Second):
		return f.setTimeout(h, 0)
	}
	return f.setTimeout(h, time.Duration(sec)*time.Second+time.Duration(usec)*time.Microsecond)
}

func timeval(d time.Duration) []byte {
	d = max(d, 0) // as Linux shows no time at all
	b := binary.NativeEndian.AppendUint64(nil, uint64(d/time.Second))
	return binary.NativeEndian.AppendUint64(b, uint64(d%time.Second/time.Microsecond))
}

// cString is the beginning of b up to a NUL.
func cString(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}

// setDeviceName is SO_BINDTODEVICE; no name is any interface. ENODEV for one that
// is not there.
func (f *FD) setDeviceName(b []byte) error {
	device := cString(b[:min(len(b), ifNameSize-1)])
	if device == "" {
		return f.BindToDevice(nil)
	}
	for _, i := range f.stack.Interfaces() {
		if i.Name() == device {
			return f.BindToDevice(i)
		}
	}
	return syscall.ENODEV
}

func (f *FD) deviceName() ([]byte, error) {
	i, err := f.Device()
	if i == nil || err != nil {
		return nil, err
	}
	return append([]byte(i.Name()), 0), nil
}

// peerName is that of a connection that has ended, too, which Getpeername does not
// tell.
func (f *FD) peerName() ([]byte, error) {
	a, err := f.Getpeername()
	if c := f.Stream(); err == syscall.ENOTCONN && c != nil {
		a, err = f.fromStack(c.RemoteAddr()), nil
	}
	if err != nil {
		return nil, syscall.ENOTCONN
	}
	b, scope := make([]byte, sockaddrLen6), 0
	if i := f.stack.Zone(a.Addr()); i != nil {
		scope = i.Index()
	}
	return b[:putSockaddr(b, a, scope)], nil
}

// peerNameFits refuses to be asked for more than there is, as Linux does.
func (f *FD) peerNameFits(n int) bool {
	b, err := f.peerName()
	return err != nil || n <= len(b)
}

// lastCookie is the SO_COOKIE that was given last.
var lastCookie atomic.Uint64

// cookie is the socket's number. Those that nobody asks have none.
func (f *FD) cookie() ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	set := f.changeLocked()
	if set.cookie == 0 {
		set.cookie = lastCookie.Add(1)
	}
	return binary.NativeEndian.AppendUint64(nil, set.cookie), nil
}

func (f *FD) tcpInfo() ([]byte, error) {
	i, err := f.TCPInfo()
	if err != nil {
		return nil, err
	}
	return AppendTCPInfo(nil, &i), nil
}

func (f *FD) setCongestionName(b []byte) error {
	return f.SetCongestion(cString(b[:min(len(b), congestionSize-1)]))
}

// congestionName is filled with zeros, as Linux's buffer is.
func (f *FD) congestionName() ([]byte, error) {
	n, err := f.Congestion()
	return append([]byte(n), make([]byte, max(congestionSize-len(n), 0))...), err
}

// fastOpenKey returns the keys that SetFastOpenKey set, if it did.
func (f *FD) fastOpenKey() (b []byte, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, k := range f.settingsLocked().fastKeys {
		b = append(b, k[:]...)
	}
	return b, nil
}

// inqOption is TCP_INQ: a control message of Recvmsg tells how many bytes are left.
var inqOption = option{
	set: func(f *FD, v int) error {
		switch v {
		case 0:
			f.want.And(^uint32(wantInq))
		case 1:
			f.want.Or(wantInq)
		default:
			return syscall.EINVAL
		}
		return nil
	},
	get: func(f *FD) (int, error) { return b2i(f.want.Load()&wantInq != 0), nil },
}

// putInq writes that message. After the peer's FIN there is something to be
// noticed even if no byte is left, which is 1 (Linux).
func (f *FD) putInq(m *Msg, c *stack.TCPConn) {
	left := c.Queued().In
	if left == 0 && c.Ready()&stack.ReadyRdHup != 0 {
		left = 1
	}
	w := controlWriter{b: m.Control}
	w.putInt(SOL_TCP, TCP_CM_INQ, left)
	m.ControlLen = w.n
	if w.cut {
		m.Flags |= MSG_CTRUNC
	}
}
