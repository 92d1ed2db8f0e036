package socket_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
)

// TestHTTP runs the standard library's client and server over two stacks, with
// and without TLS, with bodies both ways.
func TestHTTP(t *testing.T) {
	watch(t)
	p := newPair(t, wire.Options{})
	const size = 20 << 20
	body := make([]byte, size)
	rand.NewChaCha8([32]byte{1}).Read(body)
	sum := sha256.Sum256(body)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			w.Write(body)
			return
		}
		h := sha256.New()
		n, err := io.Copy(h, r.Body)
		fmt.Fprintf(w, "%d %x %v", n, h.Sum(nil), err)
	})
	for _, c := range []struct {
		name, addr string
		tls        bool
	}{{"http", "10.77.0.2:80", false}, {"https", "[fd77::2]:443", true}} {
		t.Run(c.name, func(t *testing.T) {
			l, err := p.nb.Listen("tcp", c.addr)
			must(t, err)
			server := httptest.NewUnstartedServer(handler)
			server.Listener.Close()
			server.Listener = l
			transport := &http.Transport{DialContext: p.na.DialContext}
			if c.tls {
				server.StartTLS()
				transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
			} else {
				server.Start()
			}
			defer server.Close()
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport, Timeout: time.Minute}

			resp, err := client.Get(c.name + "://" + c.addr)
			must(t, err)
			h := sha256.New()
			n, err := io.Copy(h, resp.Body)
			resp.Body.Close()
			if n != size || !bytes.Equal(h.Sum(nil), sum[:]) || err != nil {
				t.Errorf("got %d bytes, %v", n, err)
			}
			resp, err = client.Post(c.name+"://"+c.addr, "application/octet-stream", bytes.NewReader(body))
			must(t, err)
			text, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if want := fmt.Sprintf("%d %x %v", size, sum, nil); string(text) != want {
				t.Errorf("post: %s, want %s", text, want)
			}
		})
	}
}

// TestCopyBothWays moves data in both directions at once, on a clean segment
// and on a bad one.
func TestCopyBothWays(t *testing.T) {
	for _, c := range []struct {
		name string
		o    wire.Options
		size int
	}{
		{"clean", wire.Options{}, 8 << 20},
		{"loss and reordering", wire.Options{Seed: 7, Loss: 0.01, Reorder: 0.01, Duplicate: 0.01, ReorderBy: time.Millisecond}, 256 << 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			watch(t)
			p := newPair(t, c.o)
			c1, c2, stop, err := conns(t, p.na, p.nb, "tcp", "[fd77::2]:7")
			must(t, err)
			defer stop()
			data := pattern(c.size)
			done := make(chan error, 4)
			for _, conn := range []net.Conn{c1, c2} {
				go func() {
					n, err := io.Copy(conn, bytes.NewReader(data))
					if err == nil && n != int64(len(data)) {
						err = io.ErrShortWrite
					}
					conn.(*socket.Conn).CloseWrite()
					done <- err
				}()
				go func() {
					got, err := io.ReadAll(conn)
					if err == nil && !bytes.Equal(got, data) {
						err = fmt.Errorf("%d bytes arrived otherwise", len(got))
					}
					done <- err
				}()
			}
			for range 4 {
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
			// Readers take the time once for many frames, writers for each
			// call: no connection's clock may run backward because of that.
			for _, s := range []*stack.Stack{p.a, p.b} {
				if n := counter(s, "tcp.drop.paws"); n != 0 && c.o.Reorder == 0 {
					t.Errorf("%d segments came with an old timestamp", n)
				}
			}
		})
	}
}
