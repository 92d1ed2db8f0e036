package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/packet"
	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/csum"
	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
)

// line is the way between the first router and the two behind it
// (testdata/routers.sh), in which frames are held up, lost and changed as a test
// wants it: kernels are built without a queue that delays, and Linux routers
// that know no MPLS do not tell of labels.
type line struct {
	delay time.Duration // each way
	// more is what a frame is held up besides, and with it those behind it.
	more func(frame []byte) time.Duration
	// change returns what leaves instead of a frame, nil for nothing. It is
	// called on several goroutines.
	change func(frame []byte, toFar bool) []byte
}

// lineQueue is how many frames may be on a line, each way.
const lineQueue = 1 << 15

// lineBurst is how many frames leave a line at once: the kernel has room for
// 1000 that were not looked at yet (netdev_max_backlog).
const lineBurst = 64

// held is a frame on its way.
type held struct {
	p   *pkt.Buf
	due time.Time
}

// lay makes the routers with the line in between, and returns the processes in
// their namespaces: of the two in the middle and of the far host.
func (x *line) lay(t *testing.T, l *lab.Lab) (pids []string) {
	t.Helper()
	pids = routers(t, l, "line")
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); wg.Wait() })
	for i := range 2 {
		var ends [2]*packet.Device
		for j, name := range []string{"x", "y"} {
			var err error
			l.Do(func() { ends[j], err = packet.Open(fmt.Sprint(name, i+1)) })
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { ends[j].Close() })
		}
		for j := range 2 {
			from, to, toFar := ends[j], ends[1-j], j == 0
			queue := make(chan held, lineQueue)
			wg.Add(2)
			go func() {
				defer wg.Done()
				defer close(queue)
				err := from.Receive(ctx, 0, func(p *pkt.Buf) {
					if x.change != nil {
						b := x.change(p.Bytes(), toFar)
						if b == nil {
							p.Put()
							return
						}
						if &b[0] != &p.Bytes()[0] {
							p.Put()
							p = pkt.From(b)
						}
					}
					due := time.Now().Add(x.delay)
					if x.more != nil {
						due = due.Add(x.more(p.Bytes()))
					}
					queue <- held{p, due}
				}, func() {})
				if ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
					t.Error(err)
				}
			}()
			go func() {
				defer wg.Done()
				n := 0
				for h := range queue {
					if wait := time.Until(h.due); wait > 0 {
						time.Sleep(wait)
						n = 0
					}
					if n++; n == lineBurst {
						time.Sleep(time.Millisecond)
						n = 0
					}
					_, _ = to.Send(0, []*pkt.Buf{h.p}) // a line that loses a frame is a line
				}
			}()
		}
	}
	return pids
}

// within runs f in the network of a process, on this goroutine.
func within(t *testing.T, pid string, f func() error) {
	t.Helper()
	n, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	there, err := netns.GetFromPid(n)
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	if err := netns.Set(there); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if netns.Set(home) == nil {
			runtime.UnlockOSThread() // else the thread ends with the goroutine
		}
	}()
	if err := f(); err != nil {
		t.Fatal(err)
	}
}

// labelled adds labels of MPLS to time exceeded messages, as the routers of
// RFC 4950 do: the quote is filled up to length bytes, and says so in its length
// field (RFC 4884 §4) if told is set. Other frames stay as they are.
func labelled(frame []byte, length int, told bool, labels ...uint32) []byte {
	const link = ether.HeaderLen
	typ := ether.Type(binary.BigEndian.Uint16(frame[12:]))
	six := typ == ether.TypeIPv6
	at, unit := link+ipv4.HeaderLen, 4
	if six {
		at, unit = link+ipv6.HeaderLen, 8
	}
	switch {
	case len(frame) < at+icmp.HeaderLen:
		return frame
	case six && (frame[link+6] != ipv6.ProtoICMPv6 || frame[at] != icmp.TypeTimeExceeded6):
		return frame
	case !six && (typ != ether.TypeIPv4 || frame[link+9] != ipv4.ProtoICMP || frame[at] != icmp.TypeTimeExceeded4):
		return frame
	}
	quote := make([]byte, length)
	copy(quote, frame[at+icmp.HeaderLen:])
	x := []byte{2 << 4, 0, 0, 0, 0, byte(4 + 4*len(labels)), 1, 1}
	for _, l := range labels {
		x = binary.BigEndian.AppendUint32(x, l)
	}
	binary.BigEndian.PutUint16(x[2:], csum.Checksum(x, 0))
	b := append(append(append([]byte{}, frame[:at+icmp.HeaderLen]...), quote...), x...)
	m := b[at:]
	if six {
		if m[4] = 0; told {
			m[4] = byte(length / unit)
		}
		binary.BigEndian.PutUint16(b[link+4:], uint16(len(m)))
		icmp.SetChecksum6(m, ipv6.Header(b[link:]).Src(), ipv6.Header(b[link:]).Dst())
		return b
	}
	if m[5] = 0; told {
		m[5] = byte(length / unit)
	}
	h := b[link:at]
	binary.BigEndian.PutUint16(h[2:], uint16(len(b)-link))
	h[10], h[11] = 0, 0
	binary.BigEndian.PutUint16(h[10:], csum.Checksum(h, 0))
	icmp.SetChecksum4(m)
	return b
}

// label is an entry of a stack of labels.
func label(value, tc, bottom, ttl uint32) uint32 { return value<<12 | tc<<9 | bottom<<8 | ttl }

// names is a command that runs another one with a list of host names of the
// test's own: those of the far host, and of nobody else.
func names(t *testing.T, ctx context.Context, argv ...string) *exec.Cmd {
	t.Helper()
	hosts := t.TempDir() + "/hosts"
	if err := os.WriteFile(hosts, []byte("127.0.0.1 localhost\n::1 localhost ip6-localhost\n2001:4860:4860::8888 google-public-dns-a.google.com far.example\n8.8.8.8 far.example\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return exec.CommandContext(ctx, "unshare", append([]string{"--mount", "sh", "-c", `mount --bind "$0" /etc/hosts && exec "$@"`, hosts}, argv...)...)
}
