package pipe

// This file owns the descriptor that keeps messages apart: one read is one
// frame, and waiting, cancelling and counting are fdloop's.

import (
	"io"
	"os"
	"syscall"

	"github.com/tapstack/tapstack/ether/internal/fdloop"
	"github.com/tapstack/tapstack/internal/pkt"
	"golang.org/x/sys/unix"
)

func openLoop(f *os.File, o *Options) (*fdloop.Loop, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	seq := false
	if e := conn.Control(func(fd uintptr) {
		// A file that was made of a blocking descriptor is one that the
		// poller does not watch: fdloop.New refuses it.
		kind, e := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TYPE)
		seq = e == nil && kind == unix.SOCK_SEQPACKET
		if e == nil && kind == unix.SOCK_STREAM {
			err = syscall.EPROTOTYPE
		}
	}); e != nil {
		err = e
	}
	if err != nil {
		return nil, err
	}
	// One byte more than may come shows what was cut off.
	opt, size := *o, o.size()+1
	return fdloop.New(f, fdloop.Ops{
		Size: size,
		Read: func(fd int, b *pkt.Buf) error {
			n, err := unix.Read(fd, b.Room()[:size])
			switch {
			case err == unix.ECONNRESET:
				return io.EOF // the other end went with frames unread
			case err != nil:
				return err
			case n == 0 && seq:
				return io.EOF
			case n == 0 || n == size:
				return fdloop.ErrSkip
			}
			b.SetLen(n)
			if !opt.finish(b) {
				b.SetLen(0)
				return fdloop.ErrSkip
			}
			return nil
		},
		Write: func(fd int, b *pkt.Buf) error {
			_, err := unix.Write(fd, opt.strip(b))
			return err
		},
	})
}
