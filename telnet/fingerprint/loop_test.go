package fingerprint

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// A connection with a buffer each way, as loopback has, but in the time of a
// bubble: what a scan waits for is then there in time however slow the machine.

// loopRoom is how many bytes may be under way in one direction.
const loopRoom = 64 << 10

// way is one direction.
type way struct {
	mu      sync.Mutex
	changed *sync.Cond
	b       []byte
	ended   bool // by the writer
	deaf    bool // the reader has gone
	// until when it is waited for, on either side
	read, write time.Time
}

func newWay() *way {
	w := new(way)
	w.changed = sync.NewCond(&w.mu)
	return w
}

// change does something that those who wait may wait for.
func (w *way) change(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
	w.changed.Broadcast()
}

func (w *way) limit(which *time.Time, at time.Time) {
	w.change(func() { *which = at })
	if d := time.Until(at); !at.IsZero() && d > 0 {
		time.AfterFunc(d, w.changed.Broadcast)
	}
}

func over(at time.Time) bool { return !at.IsZero() && !time.Now().Before(at) }

// loop is an end of a connection.
type loop struct {
	in, out *way
	local   net.TCPAddr
	remote  net.TCPAddr
}

// loopPair returns the client's end and the server's, which is on a port.
func loopPair(port int) (client, server net.Conn) {
	up, down := newWay(), newWay()
	here := net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000}
	there := net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}
	return &loop{down, up, here, there}, &loop{up, down, there, here}
}

func (l *loop) Read(b []byte) (int, error) {
	w := l.in
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		switch {
		case w.deaf:
			return 0, net.ErrClosed
		case over(w.read):
			return 0, os.ErrDeadlineExceeded
		case len(w.b) > 0 || len(b) == 0:
			n := copy(b, w.b)
			w.b = w.b[n:]
			w.changed.Broadcast()
			return n, nil
		case w.ended:
			return 0, io.EOF
		}
		w.changed.Wait()
	}
}

func (l *loop) Write(b []byte) (n int, err error) {
	w := l.out
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(b) > 0 {
		switch room := loopRoom - len(w.b); {
		case w.ended || w.deaf:
			return n, net.ErrClosed
		case over(w.write):
			return n, os.ErrDeadlineExceeded
		case room > 0:
			k := min(room, len(b))
			w.b = append(w.b, b[:k]...)
			n, b = n+k, b[k:]
			w.changed.Broadcast()
		default:
			w.changed.Wait()
		}
	}
	return n, nil
}

func (l *loop) Close() error {
	l.in.change(func() { l.in.deaf = true })
	l.out.change(func() { l.out.ended = true })
	return nil
}

func (l *loop) LocalAddr() net.Addr  { return &l.local }
func (l *loop) RemoteAddr() net.Addr { return &l.remote }

func (l *loop) SetReadDeadline(t time.Time) error  { l.in.limit(&l.in.read, t); return nil }
func (l *loop) SetWriteDeadline(t time.Time) error { l.out.limit(&l.out.write, t); return nil }
func (l *loop) SetDeadline(t time.Time) error {
	l.SetReadDeadline(t)
	return l.SetWriteDeadline(t)
}
