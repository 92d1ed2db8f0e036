package interop

// A station that floods, in a process of its own, so that the scheduler of this
// one has nothing to do with it: frames that were made beforehand leave in small
// batches at an even rate, by one system call each, and what is measured beside
// it is not the making of frames.

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/internal/lab"
)

// envFlood names the device that a process of this program is to flood.
const envFlood = "TAPSTACK_TEST_FLOOD"

// floodBatch is how many frames leave together: at 20,000 a second there are
// 2000 batches.
const floodBatch = 10

// flooder is the process.
type flooder struct {
	t   *testing.T
	in  io.WriteCloser
	out *bufio.Reader
}

// newFlooder starts the process, which sends from a port of the bridge.
func newFlooder(t *testing.T, l *lab.Lab, dev string) *flooder {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), envFlood+"="+dev)
	cmd.Stderr = os.Stderr
	f := &flooder{t: t}
	if f.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	f.out = bufio.NewReader(out)
	if err := l.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.in.Close() // which ends it
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// load gives the process the frames to send.
func (f *flooder) load(frames [][]byte) {
	f.t.Helper()
	w := bufio.NewWriterSize(f.in, 1<<16)
	fmt.Fprintf(w, "load %d\n", len(frames))
	for _, b := range frames {
		w.Write(binary.BigEndian.AppendUint16(nil, uint16(len(b))))
		w.Write(b)
	}
	if err := w.Flush(); err != nil {
		f.t.Fatal(err)
	}
}

// send sends frames number from to to, rate of them in a second, and returns the
// CPU time that took. What a full queue drops is lost.
func (f *flooder) send(from, to, rate int) (cpu time.Duration) {
	f.t.Helper()
	fmt.Fprintf(f.in, "send %d %d %d\n", from, to, rate)
	if _, err := fmt.Fscanf(f.out, "%d\n", &cpu); err != nil {
		f.t.Fatal(err)
	}
	return cpu
}

// floodMain is the process. It ends with its standard input.
func floodMain(dev string) error {
	port, err := net.InterfaceByName(dev)
	if err != nil {
		return err
	}
	// It only sends: a socket that received would have a copy of all that passes
	// the port.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: port.Index}); err != nil {
		return err
	}
	in := bufio.NewReaderSize(os.Stdin, 1<<16)
	var frames [][]byte
	for {
		var n, to, rate int
		line, err := in.ReadString('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := fmt.Sscanf(line, "load %d", &n); err == nil {
			frames = make([][]byte, n)
			for i := range frames {
				var size [2]byte
				if _, err := io.ReadFull(in, size[:]); err != nil {
					return err
				}
				frames[i] = make([]byte, binary.BigEndian.Uint16(size[:]))
				if _, err := io.ReadFull(in, frames[i]); err != nil {
					return err
				}
			}
			continue
		}
		if _, err := fmt.Sscanf(line, "send %d %d %d", &n, &to, &rate); err != nil {
			return err
		}
		used := cpuTime()
		if err := flood(fd, frames[n:to], rate); err != nil {
			return err
		}
		fmt.Println(int64(cpuTime() - used))
	}
}

// mmsghdr is struct mmsghdr of sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// flood sends the frames.
func flood(fd int, frames [][]byte, rate int) error {
	var iov [floodBatch]unix.Iovec
	var msgs [floodBatch]mmsghdr
	for i := range msgs {
		msgs[i].hdr.Iov = &iov[i]
		msgs[i].hdr.SetIovlen(1)
	}
	began := time.Now()
	for from := 0; from < len(frames); from += floodBatch {
		if wait := time.Until(began.Add(time.Duration(from) * time.Second / time.Duration(rate))); wait > 0 {
			// Not time.Sleep, whose timers wake up all that became due in a
			// millisecond together.
			ts := unix.NsecToTimespec(int64(wait))
			unix.Nanosleep(&ts, nil)
		}
		batch := frames[from:min(from+floodBatch, len(frames))]
		for i, b := range batch {
			iov[i].Base = &b[0]
			iov[i].SetLen(len(b))
		}
		for sent := 0; sent < len(batch); {
			n, _, e := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&msgs[sent])), uintptr(len(batch)-sent), 0, 0, 0)
			switch e {
			case 0:
				sent += int(n)
			case unix.ENOBUFS:
				sent++
			case unix.EINTR:
			default:
				return e
			}
		}
	}
	return nil
}

// cpuTime is the CPU time of this process.
func cpuTime() time.Duration {
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
		panic(err)
	}
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
