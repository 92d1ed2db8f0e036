package vnet

// This file owns writing: a frame behind its header in one system call, its
// borrowed pieces gathered, and what becomes of a super-frame that the kernel
// refuses.

import (
	"sync/atomic"
	"unsafe"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/gso"
	"github.com/tapstack/tapstack/internal/pkt"
	"golang.org/x/sys/unix"
)

// GSOMax is the payload of the largest super-frame that may be written.
const GSOMax = 1<<16 - 1

// Room is what a buffer needs for the longest frame that the kernel hands over
// with a header: an IP packet of 64 KB and what stands before it. A pkt.Buf has
// some more, so that a frame which fills it was too long and has been cut off.
const Room = Len + ether.HeaderLen + vlanTag + 1<<16

const vlanTag = 4

// Sender writes frames. The zero Sender is ready; its methods are safe for
// concurrent use.
type Sender struct {
	// Notice, unless nil, is told once that the kernel does not take
	// super-frames although it said so.
	Notice func(error)
	// Packets: the descriptor takes IP packets; what stands before them in a
	// frame is not written.
	Packets bool

	tcp, udp atomic.Bool // refused: to be cut from now on
	cut      atomic.Uint64
}

// Cut is how many super-frames were segmented in software.
func (s *Sender) Cut() uint64 { return s.cut.Load() }

// Write writes one frame, without blocking; b is afterwards what it was. When
// the kernel refuses a super-frame, which some do although they said they
// would not, this and all later ones of its kind are cut here.
func (s *Sender) Write(fd int, b *pkt.Buf) error {
	if b.GSO.Type == pkt.GSONone {
		return s.write(fd, b)
	}
	refused := &s.tcp
	if b.GSO.Type == pkt.GSOUDP {
		refused = &s.udp
	}
	if refused.Load() {
		return s.writeCut(fd, b)
	}
	err := s.write(fd, b)
	if err != unix.EINVAL && err != unix.EIO {
		return err
	}
	// EIO may also mean that the interface is down; then the pieces do not
	// leave either.
	again := s.writeCut(fd, b)
	if again == nil && !refused.Swap(true) && s.Notice != nil {
		s.Notice(err)
	}
	return again
}

// writeCut segments a super-frame in software.
func (s *Sender) writeCut(fd int, b *pkt.Buf) (err error) {
	s.cut.Add(1)
	ok := gso.Cut(b, func(p *pkt.Buf) {
		if e := s.write(fd, p); err == nil {
			err = e
		}
		p.Put()
	})
	if !ok {
		return unix.EINVAL
	}
	return err
}

func (s *Sender) write(fd int, b *pkt.Buf) error {
	if !s.Packets {
		return write(fd, b, ether.NetworkOffset(b.Bytes()))
	}
	var header [ether.HeaderLen]byte
	copy(header[:], b.Pull(ether.HeaderLen))
	err := write(fd, b, 0)
	copy(b.Push(ether.HeaderLen), header[:]) // the other header stood in its place
	return err
}

func write(fd int, b *pkt.Buf, link int) (err error) {
	var h [Len]byte
	put(h[:], b, link)
	copy(b.Push(Len), h[:])
	if x, y := b.Borrowed(); len(x) == 0 {
		_, err = unix.Write(fd, b.Bytes())
	} else {
		err = writev(fd, b.Bytes(), x, y)
	}
	b.Pull(Len)
	return err
}

// writev writes one frame that lies in up to three pieces, of which the first
// two are not empty. It is unix.Writev without its allocation.
func writev(fd int, pieces ...[]byte) error {
	var iov [3]unix.Iovec
	n := 0
	for _, p := range pieces {
		if len(p) > 0 {
			iov[n].Base = &p[0]
			iov[n].SetLen(len(p))
			n++
		}
	}
	if _, _, errno := unix.Syscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&iov[0])), uintptr(n)); errno != 0 {
		return errno
	}
	return nil
}
