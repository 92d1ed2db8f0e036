package telnet

import (
	"context"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/telnet/engine"
)

// The other end of these is a plain socket of the same process, so each figure
// has the costs of both. The results of a run are in docs/telnet.md.

// streams are what is sent: text, and text in which each 64th byte is an IAC.
var streams = []struct {
	name string
	wire func() []byte // how the peer sends it
}{
	{"plain", func() []byte { return pattern(64<<10, false) }},
	{"iac64", func() []byte { return engine.AppendEscaped(nil, pattern(64<<10, true)) }},
	{"nop64", func() []byte { // a command, which is no data
		b := pattern(64<<10, true)
		for i := 0; i < len(b); i += 64 {
			b[i+1] = byte(engine.NOP)
		}
		return b
	}},
}

func pattern(n int, iac bool) []byte {
	b := make([]byte, n)
	for i := range b {
		if b[i] = byte('a' + i%26); iac && i%64 == 0 {
			b[i] = byte(engine.IAC)
		}
	}
	return b
}

// BenchmarkUpload: a client sends, a Conn receives.
func BenchmarkUpload(b *testing.B) {
	for _, s := range streams {
		b.Run(s.name, func(b *testing.B) {
			near, far := tcpPair(b)
			c := NewServerConn(near, &Config{Passive: true})
			wire, buf := s.wire(), make([]byte, 64<<10)
			b.SetBytes(int64(len(wire)))
			b.ResetTimer()
			go func() {
				for range b.N {
					if _, err := far.Write(wire); err != nil {
						return
					}
				}
				far.(*net.TCPConn).CloseWrite()
			}()
			for {
				if _, err := c.Read(buf); err == io.EOF {
					break
				} else if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDownload: a Conn sends, a client receives.
func BenchmarkDownload(b *testing.B) {
	for name, iac := range map[string]bool{"plain": false, "iac64": true} {
		b.Run(name, func(b *testing.B) {
			near, far := tcpPair(b)
			c := NewServerConn(near, &Config{Passive: true})
			data := pattern(64<<10, iac)
			b.SetBytes(int64(len(data)))
			b.ResetTimer()
			go func() {
				for range b.N {
					if _, err := c.Write(data); err != nil {
						return
					}
				}
				c.Close()
			}()
			buf := make([]byte, 256<<10)
			for {
				if _, err := far.Read(buf); err == io.EOF {
					break
				} else if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkConnections: connect, say WONT TTYPE, get a byte, leave.
func BenchmarkConnections(b *testing.B) {
	addr, _ := serve(b, &Server{Handler: HandlerFunc(func(_ context.Context, c *Conn) { c.Write([]byte(".")) })})
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ResetTimer()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			var got [8]byte
			for left.Add(-1) >= 0 {
				nc, err := net.Dial("tcp", addr)
				if err != nil {
					b.Error(err)
					return
				}
				nc.Write([]byte("\xff\xfc\x18"))
				if n, err := io.ReadFull(nc, got[:4]); err != nil || got[3] != '.' {
					b.Errorf("%q %v", got[:n], err)
				}
				nc.Close()
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "conn/s")
}

// BenchmarkIdleSessions weighs sessions that have negotiated and wait for a
// line.
func BenchmarkIdleSessions(b *testing.B) {
	const sessions = 5000
	waiting := make(chan bool, sessions)
	addr, _ := serve(b, &Server{IdleTimeout: time.Hour, Handler: HandlerFunc(func(_ context.Context, c *Conn) {
		x := c.Text()
		x.Prompt("> ")
		waiting <- true
		x.ReadLine()
	})})
	var peer syscall.SockaddrInet4
	at, err := net.ResolveTCPAddr("tcp4", addr)
	if err != nil {
		b.Fatal(err)
	}
	peer.Port, peer.Addr = at.Port, [4]byte(at.IP.To4())
	for range b.N {
		before := memory()
		var fds []int
		for range sessions { // sockets without a net.Conn, which would be weighed too
			fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
			if err != nil {
				b.Fatal(err)
			}
			fds = append(fds, fd)
			if err := syscall.Connect(fd, &peer); err != nil {
				b.Fatal(err)
			}
			// WILL TTYPE and its name, and all else that is asked refused.
			if _, err := syscall.Write(fd, []byte("\xff\xfb\x18\xff\xfa\x18\x00VT220\xff\xf0\xff\xfa\x18\x00VT220\xff\xf0"+
				"\xff\xfe\x03\xff\xfe\x00\xff\xfc\x1f\xff\xfc\x2a\xff\xfc\x06\xff\xfe\x01\xff\xfc\x06\xff\xfc\x06")); err != nil {
				b.Fatal(err)
			}
		}
		for range sessions {
			<-waiting
		}
		b.ReportMetric(float64(memory()-before)/sessions, "B/session")
		for _, fd := range fds {
			syscall.Close(fd)
		}
	}
}

// memory is what the process uses, when the collector has taken what it can.
func memory() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// allocated is what the process has ever asked for.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// BenchmarkOpenSubnegotiation: 20 MB in a subnegotiation that does not end.
func BenchmarkOpenSubnegotiation(b *testing.B) {
	const size = 20 << 20
	chunk := pattern(64<<10, false)
	b.SetBytes(size)
	for range b.N {
		near, far := tcpPair(b)
		c := NewServerConn(near, &Config{Passive: true})
		before := allocated()
		far.Write([]byte("\xff\xfa\x18"))
		done := make(chan bool)
		go func() {
			for range size / len(chunk) {
				far.Write(chunk)
			}
			far.(*net.TCPConn).CloseWrite()
			close(done)
		}()
		buf := make([]byte, 4096)
		if n, err := c.Read(buf); n != 0 || err != io.EOF {
			b.Fatal(n, err)
		}
		<-done
		b.ReportMetric(float64(allocated()-before), "B-allocated")
		near.Close()
		far.Close()
	}
}
