package workloads

// QUIC over our net.PacketConn: the other transport protocol in user space, on
// top of datagrams, which brings its own recovery, windows and path MTU.

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/quic-go/quic-go"
)

func TestQUIC(t *testing.T) {
	each(t, func(t *testing.T, h *hosts) {
		a := newAuthority(t)
		transport := func(n interface {
			ListenPacket(network, address string) (net.PacketConn, error)
		}, address string) *quic.Transport {
			pc, err := n.ListenPacket("udp", address)
			must(t, err)
			tr := &quic.Transport{Conn: pc}
			t.Cleanup(func() {
				if err := errors.Join(tr.Close(), pc.Close()); err != nil {
					t.Errorf("close: %v", err)
				}
			})
			return tr
		}
		config := &quic.Config{EnableDatagrams: true}
		l, err := transport(h.server, h.at(443)).Listen(&tls.Config{
			Certificates: []tls.Certificate{a.server(h)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.pool,
			NextProtos: []string{"echo"},
		}, config)
		must(t, err)
		t.Cleanup(func() { l.Close() })
		client := transport(h.client, ":0")
		to := &net.UDPAddr{IP: h.ip.AsSlice(), Port: 443}
		dial := &tls.Config{RootCAs: a.pool, ServerName: h.ip.String(), NextProtos: []string{"echo"}, Certificates: []tls.Certificate{a.client("anna")}}
		connected := func(t *testing.T) (c, s *quic.Conn) {
			t.Helper()
			c, err := client.Dial(h.ctx, to, dial, config)
			must(t, err)
			s, err = l.Accept(h.ctx)
			must(t, err)
			return c, s
		}

		t.Run("streams", func(t *testing.T) {
			c, s := connected(t)
			// The server sends back what comes on each stream.
			go func() {
				for {
					st, err := s.AcceptStream(h.ctx)
					if err != nil {
						return
					}
					go func() {
						io.Copy(st, st)
						st.Close()
					}()
				}
			}()
			const streams = 20
			errs := make(chan error, 2*streams)
			for i := range streams {
				st, err := c.OpenStreamSync(h.ctx)
				must(t, err)
				n := h.size(30_000, 10_000) * i
				go func() {
					_, err := io.Copy(st, noise(i, n))
					errs <- errors.Join(err, st.Close())
				}()
				go func() {
					got, err := sum(st)
					if want := noiseSum(i, n); err == nil && got != want {
						err = fmt.Errorf("stream %d: %s, want %s", i, got, want)
					}
					errs <- err
				}()
			}
			join(t, 2*streams, errs)
			must(t, c.CloseWithError(7, "enough"))
			<-s.Context().Done()
			var told *quic.ApplicationError
			if _, err := s.AcceptStream(h.ctx); !errors.As(err, &told) || told.ErrorCode != 7 || told.ErrorMessage != "enough" {
				t.Errorf("the server is told %v", err)
			}
		})
		t.Run("bulk each way", func(t *testing.T) {
			c, s := connected(t)
			n := h.size(8<<20, 2<<20)
			errs := make(chan error, 4)
			for i, from := range []*quic.Conn{c, s} {
				to := []*quic.Conn{s, c}[i]
				go func() {
					st, err := from.OpenUniStreamSync(h.ctx)
					if err == nil {
						_, err = io.Copy(st, noise(i, n))
						err = errors.Join(err, st.Close())
					}
					errs <- err
				}()
				go func() {
					st, err := to.AcceptUniStream(h.ctx)
					var got string
					if err == nil {
						got, err = sum(st)
					}
					if want := noiseSum(i, n); err == nil && got != want {
						err = fmt.Errorf("%s, want %s", got, want)
					}
					errs <- err
				}()
			}
			join(t, 4, errs)
			must(t, c.CloseWithError(0, ""))
			<-s.Context().Done()
		})
		t.Run("datagrams", func(t *testing.T) {
			c, s := connected(t)
			// They are lost with the frames they are in: sent until one comes.
			got := make(chan []byte, 1)
			go func() {
				b, _ := s.ReceiveDatagram(h.ctx)
				got <- b
			}()
			want := noiseBytes(1, 900)
			for done := false; !done; {
				must(t, c.SendDatagram(want))
				select {
				case b := <-got:
					if !bytes.Equal(b, want) {
						t.Errorf("%d bytes came, want %d", len(b), len(want))
					}
					done = true
				case <-h.ctx.Done():
					t.Fatal("none came")
				default:
				}
			}
			must(t, c.CloseWithError(0, ""))
			<-s.Context().Done()
		})
		t.Run("reset", func(t *testing.T) {
			c, s := connected(t)
			st, err := c.OpenStreamSync(h.ctx)
			must(t, err)
			_, err = st.Write([]byte("x"))
			must(t, err)
			other, err := s.AcceptStream(h.ctx)
			must(t, err)
			st.CancelWrite(9)
			var told *quic.StreamError
			if _, err := io.Copy(io.Discard, other); !errors.As(err, &told) || told.ErrorCode != 9 || !told.Remote {
				t.Errorf("the server is told %v", err)
			}
			must(t, c.CloseWithError(0, ""))
			<-s.Context().Done()
		})
	})
}
