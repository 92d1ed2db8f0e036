// Package fdloop moves frames between pkt.Bufs and a non-blocking file
// descriptor: the part that a TAP and a packet socket have in common. What one
// read or write looks like is the device's business, everything about waiting,
// cancelling, closing and counting is here.
package fdloop

import (
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/pkt"
	"golang.org/x/sys/unix"
)

// smallFrame is the capacity of pkt's small class.
const smallFrame = pkt.SmallSlab - pkt.Headroom

// ErrSkip is what a read function returns for a frame that is to be counted in
// RxDropped and otherwise ignored.
var ErrSkip = errors.New("fdloop: frame skipped")

// Ops are the system calls of a device.
type Ops struct {
	// Size is the number of bytes a receive buffer has to hold.
	Size int
	// Read reads one frame into the empty b, without blocking. EAGAIN means
	// that there is none, ErrSkip that it was unusable; EINTR is retried, and
	// any other error ends Receive.
	Read func(fd int, b *pkt.Buf) error
	// Write writes one frame without blocking. It may change b.
	Write func(fd int, b *pkt.Buf) error
	// BusyPoll is how long Receive goes on looking for frames, at the price
	// of a core, before it sleeps in the poller; what comes in that time is
	// spared the wake-up.
	BusyPoll time.Duration
}

// Stats counts what went through since the device was opened.
type Stats struct {
	RxFrames  uint64
	RxDropped uint64 // too long for the buffer, or not to be understood
	TxFrames  uint64
	TxBusy    uint64 // the kernel's queue was full (EAGAIN, ENOBUFS)
	TxDown    uint64 // the interface was down (EIO, ENETDOWN)
	TxErrors  uint64 // anything else
}

// Add adds the counters of another queue of the same device.
func (s *Stats) Add(o Stats) {
	s.RxFrames += o.RxFrames
	s.RxDropped += o.RxDropped
	s.TxFrames += o.TxFrames
	s.TxBusy += o.TxBusy
	s.TxDown += o.TxDown
	s.TxErrors += o.TxErrors
}

// Loop is an open device. Its methods are safe for concurrent use, as far as
// ether.Device asks for.
type Loop struct {
	file *os.File
	conn syscall.RawConn
	ops  Ops

	size   atomic.Int32 // Ops.Size, or what SetSize said since
	closed atomic.Bool
	failed atomic.Pointer[error]

	rxFrames, rxDropped, txFrames, txBusy, txDown, txErrors atomic.Uint64

	tx sender
}

// New takes file, whose descriptor must be in non-blocking mode.
func New(file *os.File, ops Ops) (*Loop, error) {
	conn, err := file.SyscallConn()
	if err != nil {
		return nil, err
	}
	// Only a file that the poller watches has deadlines, and only then can a
	// waiting Receive be interrupted.
	if err := file.SetReadDeadline(time.Time{}); err != nil {
		return nil, err
	}
	l := &Loop{file: file, conn: conn, ops: ops}
	l.size.Store(int32(ops.Size))
	l.tx.loop = l
	l.tx.step = l.tx.write
	return l, nil
}

// Stats returns the counters.
func (l *Loop) Stats() Stats {
	return Stats{
		RxFrames: l.rxFrames.Load(), RxDropped: l.rxDropped.Load(),
		TxFrames: l.txFrames.Load(), TxBusy: l.txBusy.Load(),
		TxDown: l.txDown.Load(), TxErrors: l.txErrors.Load(),
	}
}

// Close releases the descriptor; a second call returns net.ErrClosed.
func (l *Loop) Close() error {
	if l.closed.Swap(true) {
		return net.ErrClosed
	}
	return l.file.Close()
}

// Fail makes Receive return err, now and from now on: for a device that learns
// by other means that no frame will ever come again.
func (l *Loop) Fail(err error) {
	l.failed.Store(&err)
	// It fails only when the file is closed, which wakes Receive too.
	_ = l.file.SetReadDeadline(past)
}

// SetSize changes Ops.Size. A frame that is there already may still find the
// smaller buffer.
func (l *Loop) SetSize(n int) { l.size.Store(int32(n)) }

// Control calls f with the descriptor, unless the device is closed.
func (l *Loop) Control(f func(fd int)) error {
	return l.conn.Control(func(fd uintptr) { f(int(fd)) })
}

// past is a deadline that is over: setting it wakes a reader.
var past = time.Unix(1, 0)

// receiver is the state of one Receive call.
type receiver struct {
	loop *Loop
	b    *pkt.Buf // read into, kept from one attempt to the next
	size int      // that b was got for
	err  error
	wait bool // sleep in the poller when there is no frame
}

// Receive implements ether.Device for the one queue a descriptor is.
func (l *Loop) Receive(ctx context.Context, deliver func(*pkt.Buf), idle func()) error {
	if err := l.begin(ctx); err != nil {
		return err
	}
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		// It fails only when the file is closed, which wakes Receive too.
		_ = l.file.SetReadDeadline(past)
		close(woken)
	})
	defer func() {
		if !stop() {
			// The next Receive must not find this one's deadline.
			<-woken
		}
	}()
	r := receiver{loop: l}
	r.renew()
	defer func() { r.b.Put() }()
	return r.run(ctx, deliver, idle)
}

// Poll implements ether.Poller for devices whose Ops.Read may run on several
// goroutines. It leaves the poller alone: a Receive that sleeps is woken for a
// frame that Poll takes, and finds none. A failure is Receive's to report.
func (l *Loop) Poll(most int, deliver func(*pkt.Buf)) {
	r := receiver{loop: l}
	r.renew()
	for n := 0; n < most; n++ {
		if l.Control(func(fd int) { r.err = l.ops.Read(fd, r.b) }) != nil {
			break // closed
		}
		if r.err == ErrSkip {
			l.rxDropped.Add(1)
			continue
		}
		if r.err != nil {
			break
		}
		l.rxFrames.Add(1)
		deliver(r.take())
	}
	r.b.Put()
}

func (l *Loop) begin(ctx context.Context) error {
	if l.closed.Load() {
		return net.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := l.file.SetReadDeadline(time.Time{}); err != nil {
		return l.cause(ctx, err)
	}
	if err := l.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// cause finds out why the poller gave up.
func (l *Loop) cause(ctx context.Context, err error) error {
	if l.closed.Load() {
		return net.ErrClosed
	}
	if cerr := ctx.Err(); cerr != nil {
		return cerr
	}
	if ferr := l.failed.Load(); ferr != nil {
		return *ferr
	}
	return err
}

// run hands over one frame at a time rather than filling a batch first: the
// frame is still in the cache when the stack looks at it. It leaves the
// descriptor between frames, so Close and Send may be called from deliver.
func (r *receiver) run(ctx context.Context, deliver func(*pkt.Buf), idle func()) error {
	l := r.loop
	read := r.read
	r.wait = true
	var spinUntil mono.Time
	for n := 0; ; {
		r.err = nil
		if err := l.conn.Read(read); err != nil {
			return l.cause(ctx, r.ask(err))
		}
		switch r.err {
		case nil:
			l.rxFrames.Add(1)
			deliver(r.take())
			n++
			r.wait = false
		case ErrSkip:
			l.rxDropped.Add(1)
			continue
		case unix.EAGAIN:
			// Only here when the read was not to sleep: there were frames, or
			// it is busy.
			if n > 0 {
				idle()
				n = 0
				if l.ops.BusyPoll > 0 {
					spinUntil = mono.Now().Add(l.ops.BusyPoll)
				}
			}
			r.wait = l.ops.BusyPoll == 0 || ctx.Err() != nil || mono.Now() >= spinUntil
			if !r.wait {
				runtime.Gosched() // the application may have something to say
			}
			continue
		case unix.EINTR:
			continue
		default:
			return l.cause(ctx, r.err)
		}
		if n == ether.MaxBatch {
			idle()
			n, r.wait = 0, true
			if l.ops.BusyPoll > 0 {
				r.wait, spinUntil = false, mono.Now().Add(l.ops.BusyPoll)
			}
		}
	}
}

// read runs inside the poller's lock. Returning false sleeps until the
// descriptor is readable, then it is called again.
func (r *receiver) read(fd uintptr) bool {
	if int(r.loop.size.Load()) > r.size { // since it began to wait
		r.b.Put()
		r.renew()
	}
	r.err = r.loop.ops.Read(int(fd), r.b)
	return r.err != unix.EAGAIN || !r.wait
}

// renew gets a buffer to read into.
func (r *receiver) renew() {
	r.size = int(r.loop.size.Load())
	r.b = pkt.Get(r.size)
}

// ask finds the kernel's word for what the poller met: it only knows that the
// descriptor has failed, for example because its interface was deleted.
func (r *receiver) ask(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	// A closed file is not asked, and keeps the poller's error.
	_ = r.loop.conn.Control(func(fd uintptr) {
		errno, ok := r.loop.ops.Read(int(fd), r.b).(syscall.Errno)
		if ok && errno != unix.EAGAIN && errno != unix.EINTR {
			err = errno
		}
	})
	return err
}

// take returns the frame just read. Where the receive buffer is of the large
// class a small frame is copied out of it, so that one waiting in a queue does
// not pin 68 KB.
func (r *receiver) take() *pkt.Buf {
	b := r.b
	if r.size > smallFrame && b.Len() <= smallFrame {
		small := pkt.From(b.Bytes())
		small.GSO, small.Csum = b.GSO, b.Csum
		b.Put()
		b = small
	}
	// Not even a buffer that was only copied from is used again as it is: the
	// device may have moved its front.
	r.renew()
	return b
}

// sender writes one batch at a time. It lives in the Loop so that a batch
// allocates nothing.
type sender struct {
	mu     sync.Mutex // guards the fields below during one batch
	loop   *Loop
	step   func(fd uintptr) bool
	frames []*pkt.Buf
	sent   int
	err    error
}

// Send implements ether.Device.
func (l *Loop) Send(frames []*pkt.Buf) (sent int, err error) {
	s := &l.tx
	s.mu.Lock()
	s.frames, s.sent, s.err = frames, 0, nil
	if err := l.conn.Write(s.step); err != nil {
		s.err = err
		if l.closed.Load() {
			s.err = net.ErrClosed
		}
	}
	sent, err = s.sent, s.err
	s.frames = nil
	s.mu.Unlock()
	for _, b := range frames {
		b.Put()
	}
	l.txFrames.Add(uint64(sent))
	return sent, err
}

// write never sleeps: a frame for which the kernel has no room is lost here as
// it would be in a full queue further on.
func (s *sender) write(fd uintptr) bool {
	l := s.loop
	for _, b := range s.frames {
		err := l.ops.Write(int(fd), b)
		for err == unix.EINTR {
			err = l.ops.Write(int(fd), b)
		}
		switch err {
		case nil:
			s.sent++
			continue
		case unix.EAGAIN, unix.ENOBUFS:
			l.txBusy.Add(1)
		case unix.EIO, unix.ENETDOWN:
			l.txDown.Add(1)
		default:
			l.txErrors.Add(1)
		}
		if s.err == nil {
			s.err = err
		}
	}
	return true
}
