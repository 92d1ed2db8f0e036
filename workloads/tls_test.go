package workloads

// TLS 1.3 where both sides show a certificate: the handshake's flights cross,
// one side may refuse after the other believes to be done, and the end of the
// stream is said twice, by close_notify and by FIN.

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/tapstack/tapstack/socket"
)

func TestTLS(t *testing.T) {
	each(t, func(t *testing.T, h *hosts) {
		a, other := newAuthority(t), newAuthority(t)
		l := h.listen(t, 443)
		config := &tls.Config{
			Certificates: []tls.Certificate{a.server(h)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.pool,
			MinVersion: tls.VersionTLS13,
		}
		// The server tells each client its name, then sends back what it gets
		// until the client has ended its side.
		var serving sync.WaitGroup
		serving.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				serving.Go(func() {
					defer c.Close()
					s := tls.Server(c, config)
					if s.HandshakeContext(h.ctx) != nil {
						return
					}
					name := s.ConnectionState().PeerCertificates[0].Subject.CommonName
					fmt.Fprintf(s, "%10s", name)
					if _, err := io.Copy(s, s); err == nil {
						s.CloseWrite()
						c.(*socket.Conn).CloseWrite()
						io.Copy(io.Discard, c)
					}
				})
			}
		})
		defer serving.Wait()
		defer l.Close()
		dial := func(t *testing.T, c *tls.Config) *tls.Conn {
			t.Helper()
			raw, err := h.client.DialContext(h.ctx, "tcp", h.at(443))
			must(t, err)
			t.Cleanup(func() { raw.Close() })
			return tls.Client(raw, c)
		}

		sessions := tls.NewLRUClientSessionCache(0)
		anna := &tls.Config{RootCAs: a.pool, ServerName: h.ip.String(), Certificates: []tls.Certificate{a.client("anna")}, ClientSessionCache: sessions}
		for _, resumed := range []bool{false, true} {
			t.Run(fmt.Sprintf("known, resumed=%v", resumed), func(t *testing.T) {
				c := dial(t, anna)
				must(t, c.HandshakeContext(h.ctx))
				if s := c.ConnectionState(); s.Version != tls.VersionTLS13 || s.DidResume != resumed {
					t.Errorf("version %#x, resumed %v", s.Version, s.DidResume)
				}
				n := h.size(8<<20, 3<<20)
				errs := make(chan error, 1)
				go func() {
					_, err := io.Copy(c, noise(1, n))
					errs <- errors.Join(err, c.CloseWrite())
				}()
				name := make([]byte, 10)
				if _, err := io.ReadFull(c, name); err != nil || string(name) != "      anna" {
					t.Errorf("the server says %q, %v", name, err)
				}
				if got, err := sum(c); err != nil || got != noiseSum(1, n) {
					t.Errorf("%s, %v; want %s", got, err, noiseSum(1, n))
				}
				join(t, 1, errs)
				must(t, c.Close())
			})
		}

		for _, c := range []struct {
			name   string
			config *tls.Config
		}{
			{"nobody", &tls.Config{RootCAs: a.pool, ServerName: h.ip.String()}},
			{"a stranger", &tls.Config{RootCAs: a.pool, ServerName: h.ip.String(), Certificates: []tls.Certificate{other.client("eve")}}},
		} {
			t.Run(c.name, func(t *testing.T) {
				// In TLS 1.3 the client is done before it is refused: the alert
				// has to come through before the end of the connection.
				s := dial(t, c.config)
				must(t, s.HandshakeContext(h.ctx))
				_, err := s.Read(make([]byte, 1))
				var alert *net.OpError
				if !errors.As(err, &alert) || alert.Op != "remote error" {
					t.Errorf("read: %v, want an alert", err)
				}
			})
		}
		t.Run("the wrong server", func(t *testing.T) {
			var unknown *tls.CertificateVerificationError
			if err := dial(t, &tls.Config{RootCAs: other.pool, ServerName: h.ip.String()}).HandshakeContext(h.ctx); !errors.As(err, &unknown) {
				t.Errorf("handshake: %v", err)
			}
		})
	})
}
