// Package workloads runs protocols of programs that were not written for this
// stack over its sockets: HTTP/1.1, HTTP/2, TLS with both sides known to each
// other, websocket, gRPC, ssh and QUIC, each over a link that harms nothing
// and over one that loses a frame in a hundred each way. It has tests only.
// This file holds what they share: two hosts on a link, data that tells where
// it was damaged, certificates, and the look for what is left behind.
package workloads

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
)

// patience bounds each test: what takes longer hangs.
const patience = 60 * time.Second

// TestMain checks that all tests together leave nothing behind.
func TestMain(m *testing.M) {
	// quic-go would say once that it cannot have the receive buffer it wants.
	os.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true")
	goroutines := runtime.NumGoroutine()
	code := m.Run()
	if err := settled(goroutines); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, "after all tests:", err)
		code = 1
	}
	os.Exit(code)
}

// settled waits until there are no more goroutines than there were, and no
// frames.
func settled(goroutines int) error {
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		if runtime.NumGoroutine() <= goroutines && pkt.Live() == 0 {
			return nil
		}
		if time.Now().After(end) {
			buf := make([]byte, 1<<17)
			return fmt.Errorf("%d goroutines, were %d; %d buffers\n%s", runtime.NumGoroutine(), goroutines,
				pkt.Live(), buf[:runtime.Stack(buf, true)])
		}
	}
}

// hosts are two stacks on one link. The server is at ip.
type hosts struct {
	client, server *socket.Network
	ip             netip.Addr
	lossy          bool
	ctx            context.Context
	// ports are the two ends of the link, which count what it loses.
	ports []*wire.Port
}

// links are what each workload runs over. The first carries super-frames, as a
// TAP with the virtio-net header does, the second plain ones.
var links = []struct {
	name string
	ip   string
	o    wire.Options
}{
	{"clean", "fd77::2", wire.Options{GSO: true}},
	{"1% loss", "10.77.0.2", wire.Options{Loss: 0.01, Seed: 7}},
}

// each runs a workload over each link.
func each(t *testing.T, f func(t *testing.T, h *hosts)) {
	for _, l := range links {
		t.Run(l.name, func(t *testing.T) {
			h := connect(t, l.o)
			h.ip = netip.MustParseAddr(l.ip)
			f(t, h)
		})
	}
}

// connect makes two hosts, 10.77.0.1 and 10.77.0.2 or fd77::1 and fd77::2. They
// end with the test, which fails when it leaves goroutines or frames.
func connect(t *testing.T, o wire.Options) *hosts {
	t.Helper()
	goroutines := runtime.NumGoroutine()
	t.Cleanup(func() {
		if err := settled(goroutines); err != nil {
			t.Error(err)
		}
	})
	o.Pull = true
	segment := wire.New(nil, o)
	h := &hosts{lossy: o.Loss > 0}
	host := func(n byte) *socket.Network {
		mac := ether.Addr{2, 0, 0, 0, 0, n}
		s := stack.New(stack.Config{})
		t.Cleanup(func() { s.Close() })
		port := segment.Attach(fmt.Sprintf("host%d", n), mac)
		h.ports = append(h.ports, port)
		nic, err := s.AddInterface(stack.InterfaceConfig{Name: "eth0", Device: port, MAC: mac, NoDAD: true})
		must(t, err)
		must(t, nic.AddAddr(netip.MustParsePrefix(fmt.Sprintf("10.77.0.%d/24", n))))
		must(t, nic.AddAddr(netip.MustParsePrefix(fmt.Sprintf("fd77::%d/64", n))))
		return socket.Net(s)
	}
	h.client, h.server = host(1), host(2)
	t.Cleanup(func() {
		if h.lossy {
			h.met(t)
		}
		segment.Close()
	})
	var cancel context.CancelFunc
	h.ctx, cancel = context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return h
}

// met fails a test over a lossy link that has lost nothing: it has shown
// nothing.
func (h *hosts) met(t *testing.T) {
	t.Helper()
	var sent, lost uint64
	for _, p := range h.ports {
		s := p.Stats()
		sent, lost = sent+s.Sent, lost+s.Lost
	}
	if lost == 0 {
		t.Errorf("none of %d frames was lost", sent)
	}
	t.Logf("%d of %d frames lost", lost, sent)
}

// listen waits on the server's TCP port.
func (h *hosts) listen(t *testing.T, port uint16) net.Listener {
	t.Helper()
	l, err := h.server.Listen("tcp", h.at(port))
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

// at is a port of the server as package net writes it.
func (h *hosts) at(port uint16) string { return netip.AddrPortFrom(h.ip, port).String() }

// size is clean bytes over the clean link, and lossy ones over the other.
func (h *hosts) size(clean, lossy int) int {
	if h.lossy {
		return lossy
	}
	return clean
}

// join waits for n goroutines' results and fails the test with each error.
func join(t *testing.T, n int, errs <-chan error) {
	t.Helper()
	for range n {
		select {
		case err := <-errs:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			buf := make([]byte, 1<<17)
			t.Fatalf("hangs\n%s", buf[:runtime.Stack(buf, true)])
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// noise is n bytes of a seed's.
func noise(seed, n int) io.Reader {
	return io.LimitReader(mathrand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}), int64(n))
}

// noiseBytes is noise in memory.
func noiseBytes(seed, n int) []byte {
	b, _ := io.ReadAll(noise(seed, n))
	return b
}

// sum is the SHA-256 of what r holds, with its length.
func sum(r io.Reader) (string, error) {
	h := sha256.New()
	n, err := io.Copy(h, r)
	return fmt.Sprintf("%d %s", n, hex.EncodeToString(h.Sum(nil))), err
}

// noiseSum is the sum of noise.
func noiseSum(seed, n int) string {
	s, _ := sum(noise(seed, n))
	return s
}

// authority signs certificates for one test.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
	next int64
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t, pool: x509.NewCertPool(), next: 1}
	c := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	})
	a.cert, a.key = c.Leaf, c.PrivateKey.(*ecdsa.PrivateKey)
	a.pool.AddCert(a.cert)
	return a
}

// sign completes a certificate; the first is signed by itself.
func (a *authority) sign(c *x509.Certificate) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(a.t, err)
	c.SerialNumber = big.NewInt(a.next)
	a.next++
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	must(a.t, err)
	leaf, err := x509.ParseCertificate(der)
	must(a.t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// server is a certificate for the server's address.
func (a *authority) server(h *hosts) tls.Certificate {
	return a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "server"}, IPAddresses: []net.IP{h.ip.AsSlice()},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
}

// client is a certificate for somebody of that name.
func (a *authority) client(name string) tls.Certificate {
	return a.sign(&x509.Certificate{
		Subject:  pkix.Name{CommonName: name},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}
