package interop

// A station that floods: frames that were made beforehand leave in small
// batches at an even rate, by one system call each, so that what is measured
// beside it is not the making of frames.

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/internal/lab"
)

// floodBatch is how many frames leave together: at 20,000 a second there are
// 2000 batches.
const floodBatch = 10

// flooder sends frames from a port of the bridge.
type flooder struct {
	t  *testing.T
	fd int
}

// newFlooder opens a socket that only sends: one that received would have a
// copy of all that passes the port.
func newFlooder(t *testing.T, l *lab.Lab, dev string) *flooder {
	t.Helper()
	f := &flooder{t: t}
	inLab(t, l, func() error {
		port, err := net.InterfaceByName(dev)
		if err != nil {
			return err
		}
		if f.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.Bind(f.fd, &unix.SockaddrLinklayer{Ifindex: port.Index})
	})
	t.Cleanup(func() { unix.Close(f.fd) })
	return f
}

// mmsghdr is struct mmsghdr of sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// send sends the frames at rate frames a second, and returns the CPU time that
// took. What a full queue drops is lost.
func (f *flooder) send(frames [][]byte, rate int) (cpu time.Duration) {
	f.t.Helper()
	var iov [floodBatch]unix.Iovec
	var msgs [floodBatch]mmsghdr
	for i := range msgs {
		msgs[i].hdr.Iov = &iov[i]
		msgs[i].hdr.SetIovlen(1)
	}
	var err error
	paced(len(frames), floodBatch, rate, func(from, to int) bool {
		batch := frames[from:to]
		for i, b := range batch {
			iov[i].Base = &b[0]
			iov[i].SetLen(len(b))
		}
		for sent := 0; sent < len(batch); {
			n, _, e := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(f.fd), uintptr(unsafe.Pointer(&msgs[sent])), uintptr(len(batch)-sent), 0, 0, 0)
			switch e {
			case 0:
				sent += int(n)
			case unix.ENOBUFS:
				sent++
			case unix.EINTR:
			default:
				err = e
				return false
			}
		}
		return true
	}, &cpu)
	if err != nil {
		f.t.Fatal(err)
	}
	return cpu
}

// paced calls f for numbers below n, batch after batch, at rate numbers a
// second, on a thread of its own whose CPU time it adds to cpu. It ends early
// when f returns false.
func paced(n, batch, rate int, f func(from, to int) bool, cpu *time.Duration) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	used := threadTime()
	began := time.Now()
	for from := 0; from < n; from += batch {
		if wait := time.Until(began.Add(time.Duration(from) * time.Second / time.Duration(rate))); wait > 0 {
			// Not time.Sleep, whose timers wake up all that became due in a
			// millisecond together.
			ts := unix.NsecToTimespec(int64(wait))
			unix.Nanosleep(&ts, nil)
		}
		if !f(from, min(from+batch, n)) {
			break
		}
	}
	*cpu += threadTime() - used
}

// threadTime is the CPU time of the calling thread.
func threadTime() time.Duration {
	var ru unix.Rusage
	unix.Getrusage(unix.RUSAGE_THREAD, &ru)
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// linkLoss are frames that a device of the lab dropped, and kernelLoss the
// segments that the lab's kernel sent again.
func linkLoss(t *testing.T, l *lab.Lab, dev string) (n uint64) {
	t.Helper()
	inLab(t, l, func() error {
		b, err := os.ReadFile("/proc/thread-self/net/dev")
		if err != nil {
			return err
		}
		for _, line := range strings.Split(string(b), "\n") {
			f := strings.Fields(line)
			if len(f) < 17 || f[0] != dev+":" {
				continue
			}
			var d uint64
			if _, err := fmt.Sscan(f[12], &d); err != nil {
				return err
			}
			n += d
		}
		return nil
	})
	return n
}

func kernelLoss(t *testing.T, l *lab.Lab) (n uint64) {
	t.Helper()
	inLab(t, l, func() error {
		b, err := os.ReadFile("/proc/thread-self/net/snmp")
		if err != nil {
			return err
		}
		var names []string
		for _, line := range strings.Split(string(b), "\n") {
			f := strings.Fields(line)
			if len(f) == 0 || f[0] != "Tcp:" {
				continue
			}
			if names == nil {
				names = f
				continue
			}
			for i, name := range names {
				if name == "RetransSegs" {
					_, err := fmt.Sscan(f[i], &n)
					return err
				}
			}
		}
		return os.ErrNotExist
	})
	return n
}
