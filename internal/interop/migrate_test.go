package interop

// A live connection moves from stack to stack, and the kernel at its other end
// does not notice.

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
)

const (
	migrated = 4 << 20 // bytes that are echoed
	moves    = 4
	ahead    = 200_000 // bytes on their way when it moves
)

func TestMigrate(t *testing.T) {
	t.Parallel()
	eachFamily(t, func(t *testing.T, fam family) {
		t.Parallel()
		program(t, "nft")
		l := newLab(t)
		o := hostOptions{parallel: true, nic: stack.InterfaceConfig{NoDAD: true}}
		h := newHost(t, l, o)
		ours, kernel := h.bothEnds(t, h.ourSide(), fam)
		echoed := make(chan error, 1)
		go func() {
			_, err := io.Copy(kernel, struct{ io.Reader }{kernel})
			kernel.CloseWrite()
			echoed <- err
		}()
		data := make([]byte, migrated)
		random := rand.NewChaCha8([32]byte{7})
		random.Read(data)
		got := make([]byte, 0, migrated)
		read := func(n int) {
			t.Helper()
			must(t, ours.SetReadDeadline(time.Now().Add(endurance)))
			b := make([]byte, n)
			n, err := ours.Recv(b, socket.MSG_WAITALL)
			must(t, err)
			got = append(got, b[:n]...)
		}
		full := 0
		for sent := 0; sent < migrated; {
			n := min(ahead/4, migrated-sent)
			must(t, ours.SetWriteDeadline(time.Now().Add(endurance)))
			m, err := ours.Send(data[sent:sent+n], 0)
			must(t, err)
			if before := sent / (migrated / moves); (sent+m)/(migrated/moves) != before {
				p, err := ours.Checkpoint()
				must(t, err)
				if len(p.Send)+len(p.Receive) > 0 {
					full++
				}
				// Nothing may come where the connection is not: it would be
				// answered with resets.
				must(t, l.Loss(l.Ports[0], 1000))
				must(t, h.nic.DelAddr(fam.ours.Addr()))
				h.expect("what comes while a connection is in repair mode, or to an address and a host that are gone",
					"tcp.drop.repair", "tcp.drop.no-connection", "ipv4.drop.foreign-ip", "ipv6.drop.foreign-ip", "ipv4.drop.no-route", "ipv6.drop.no-route",
					"ether.drop.device", "ether.drop.link-down")
				must(t, ours.Close())
				must(t, h.stack.Close())
				h = newHost(t, l, o)
				h.expect("what was sent again", "tcp.drop.out-of-window")
				ours, err = socket.Restore(h.stack, p)
				must(t, err)
				must(t, l.Loss(l.Ports[0], 0))
			}
			if sent += m; sent-len(got) > ahead {
				read(ahead / 4)
			}
		}
		must(t, ours.Shutdown(socket.SHUT_WR))
		read(migrated - len(got))
		must(t, <-echoed)
		if !bytes.Equal(got, data) {
			t.Error("the echo is not what was sent")
		}
		if full != moves {
			t.Errorf("%d of %d moves had something in a queue", full, moves)
		}
		must(t, ours.Close())
		kernel.Close()
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
