package socket_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// mover is a connection of which one end, 10.77.0.1, moves from stack to stack.
type mover struct {
	t      *testing.T
	seg    *wire.Segment
	cfg    stack.Config
	host   *stack.Stack
	c      *socket.FD // the end that moves
	s      *socket.FD // the one that does not
	server *stack.Stack
	port   *wire.Port // of the host
}

func newMover(t *testing.T, o wire.Options, cfg stack.Config) *mover {
	o.Pull = true
	m := &mover{t: t, seg: wire.New(nil, o), cfg: cfg}
	m.host, _, m.port = newHost(t, m.seg, 1, cfg)
	m.server, _, _ = newHost(t, m.seg, 2, cfg)
	t.Cleanup(func() {
		m.host.Close()
		m.server.Close()
		m.seg.Close()
	})
	p := &pair{a: m.host, b: m.server}
	m.c, m.s = p.connected(t)
	return m
}

// mute loses what the host sends from now on.
func (m *mover) mute() { m.port.SetImpairment(wire.Impairment{Loss: 1}) }

// move takes the connection to a new host of the same name, by way of a byte
// slice. The address is nowhere for a time.
func (m *mover) move(pause time.Duration) *socket.Checkpoint {
	m.t.Helper()
	p, err := m.c.Checkpoint()
	must(m.t, err)
	written, err := json.Marshal(p)
	must(m.t, err)
	must(m.t, m.c.Close())
	m.host.Close()
	time.Sleep(pause)
	m.host, _, m.port = newHost(m.t, m.seg, 1, m.cfg)
	var q socket.Checkpoint
	must(m.t, json.Unmarshal(written, &q))
	m.c, err = socket.Restore(m.host, &q)
	must(m.t, err)
	return p
}

// TestMigrate moves one end of a connection with both queues full, again and
// again, while the other end goes on writing and reading: it notices nothing.
func TestMigrate(t *testing.T) {
	for _, c := range []struct {
		name string
		o    wire.Options
		cfg  stack.Config
	}{
		{"plain", wire.Options{Delay: time.Millisecond}, stack.Config{}},
		{"far", wire.Options{Delay: 40 * time.Millisecond, Rate: 50_000_000}, stack.Config{}},
		{"lossy", wire.Options{Delay: 5 * time.Millisecond, Loss: 0.02, Seed: 3}, stack.Config{}},
		{"without options", wire.Options{Delay: time.Millisecond}, stack.Config{TCP: stack.TCPConfig{NoTimestamps: true, NoSACK: true, NoWScale: true}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				const total = 3 << 20
				m := newMover(t, c.o, c.cfg)
				rng := rand.New(rand.NewPCG(1, 2))
				data := pattern(total)
				in, out := make(chan []byte, 1), make(chan error, 1)
				go func() {
					b, _ := recvAll(m.s)
					in <- b
				}()
				go func() {
					_, err := m.s.Send(data, 0)
					out <- err
					m.s.Shutdown(socket.SHUT_WR)
				}()
				var got []byte
				sent, moves, full := 0, 0, 0
				buf := make([]byte, 100_000)
				for len(got) < total || sent < total {
					if sent < total {
						n, err := m.c.Send(data[sent:min(sent+1+rng.IntN(300_000), total)], socket.MSG_DONTWAIT)
						if err != nil && err != syscall.EAGAIN {
							t.Fatalf("after %d moves: send: %v", moves, err)
						}
						sent += max(n, 0)
					}
					time.Sleep(time.Duration(rng.IntN(40)) * time.Millisecond)
					if moves < 12 && rng.IntN(3) == 0 {
						p := m.move(time.Duration(rng.IntN(3000)) * time.Millisecond)
						moves++
						if len(p.Send) > p.Unsent && len(p.Receive) > 0 {
							full++
						}
					}
					n, err := m.c.Recv(buf[:1+rng.IntN(len(buf))], socket.MSG_DONTWAIT)
					if err != nil && err != syscall.EAGAIN && len(got) < total {
						t.Fatalf("after %d moves: recv: %v", moves, err)
					}
					got = append(got, buf[:max(n, 0)]...)
				}
				must(t, <-out)
				if !bytes.Equal(got, data) {
					t.Error("what the other end sent did not come whole")
				}
				must(t, m.c.Close())
				if b := <-in; !bytes.Equal(b, data) {
					t.Errorf("the other end received %d bytes, or wrong ones", len(b))
				}
				if moves != 12 || full == 0 {
					t.Errorf("%d moves, %d with both queues full", moves, full)
				}
				m.s.Close()
			})
		})
	}
}

// TestMigrateStates moves a connection in each state in which it has a peer, with
// FINs that were sent, lost, received, or wait behind text.
func TestMigrateStates(t *testing.T) {
	for _, c := range []struct {
		name  string
		make  func(m *mover)
		state tcp.State
	}{
		{"established", func(m *mover) {}, tcp.Established},
		{"the FIN was lost", func(m *mover) { m.mute(); m.c.Shutdown(socket.SHUT_WR) }, tcp.FinWait1},
		{"the FIN waits behind text", func(m *mover) {
			m.mute()
			m.c.Send(pattern(120_000), socket.MSG_DONTWAIT)
			m.c.Shutdown(socket.SHUT_WR)
		}, tcp.FinWait1},
		{"the FIN was acknowledged", func(m *mover) { m.c.Shutdown(socket.SHUT_WR) }, tcp.FinWait2},
		{"a FIN was received", func(m *mover) { m.s.Shutdown(socket.SHUT_WR) }, tcp.CloseWait},
		{"both, ours lost", func(m *mover) {
			m.s.Shutdown(socket.SHUT_WR)
			time.Sleep(10 * time.Millisecond)
			m.mute()
			m.c.Shutdown(socket.SHUT_WR)
		}, tcp.LastAck},
		{"both, ours lost first", func(m *mover) {
			m.mute()
			m.c.Shutdown(socket.SHUT_WR)
			time.Sleep(10 * time.Millisecond)
			m.s.Shutdown(socket.SHUT_WR)
		}, tcp.Closing},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				m := newMover(t, wire.Options{Delay: time.Millisecond}, stack.Config{})
				must(t, m.s.SetNoDelay(true))
				m.s.Send([]byte("for the mover"), 0)
				m.c.Send([]byte("for the server"), 0)
				time.Sleep(10 * time.Millisecond)
				c.make(m)
				time.Sleep(10 * time.Millisecond)
				q := m.move(time.Second)
				if q.State != c.state {
					t.Errorf("moved in %v, want %v", q.State, c.state)
				}
				m.s.Send([]byte(", more"), 0)
				m.s.Shutdown(socket.SHUT_WR)
				m.c.Send([]byte(", more"), 0)
				m.c.Shutdown(socket.SHUT_WR)
				finIn := q.State == tcp.CloseWait || q.State == tcp.LastAck || q.State == tcp.Closing
				finOut := q.State != tcp.Established && q.State != tcp.CloseWait
				for _, e := range []struct {
					name string
					f    *socket.FD
					want string
					over bool
				}{{"mover", m.c, "for the mover", finIn}, {"server", m.s, "for the server", finOut}} {
					want := e.want
					if e.f == m.s && c.name == "the FIN waits behind text" {
						want += string(pattern(120_000))
					}
					if !e.over {
						want += ", more"
					}
					if b, err := recvAll(e.f); string(b) != want || err != nil {
						t.Errorf("%s: %d bytes, want %d: %v", e.name, len(b), len(want), err)
					}
				}
				must(t, m.c.Close())
				must(t, m.s.Close())
				time.Sleep(time.Minute + time.Second)
				if n := counter(m.server, "tcp.reset-in") + counter(m.server, "tcp.reset-out"); n != 0 {
					t.Errorf("%d resets: %v", n, fmt.Sprint(m.server.Counters()))
				}
			})
		})
	}
}
