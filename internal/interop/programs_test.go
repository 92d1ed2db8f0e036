package interop

// Programs that move much data: iperf3 as client and as server, and curl with a
// web server of the standard library.

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/tapstack/tapstack/ether/tap"
	"github.com/tapstack/tapstack/internal/iperf3"
	"github.com/tapstack/tapstack/internal/lab"
)

// TestIperf3 measures by bytes, so that nothing depends on the machine's speed,
// and checks that both sides counted the same.
func TestIperf3(t *testing.T) {
	program(t, "iperf3")
	l := newLab(t)
	h := newHost(t, l, hostOptions{offload: tap.OffloadRequire})
	// iperf3 stops a stream in the middle when it has had enough.
	h.expect("what is under way when a test ends", "tcp.drop.no-connection", "tcp.drop.closed", "tcp.drop.out-of-window")

	t.Run("its client", func(t *testing.T) {
		ln, err := h.net.Listen("tcp", ":5201")
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		sums := make(chan iperf3.Summary, 10)
		served := make(chan error, 1)
		go func() {
			served <- iperf3.Serve(ctx, ln, func(s iperf3.Summary, err error) {
				if err != nil {
					t.Errorf("server: %v", err)
				}
				sums <- s
			})
		}()
		for _, flags := range [][]string{{}, {"-R"}, {"-P", "4"}, {"-P", "4", "-R"}, {"-6"}} {
			to := our4.Addr()
			if len(flags) > 0 && flags[0] == "-6" {
				to = our6.Addr()
			}
			out := run(t, within(t, endurance), l, append([]string{"iperf3", "-c", to.String(), "-n", "50M"}, flags...)...)
			sum := <-sums
			if moved := max(sum.Sent, sum.Received); moved < 50<<20 {
				t.Errorf("%v: %v\n%s", flags, sum, out)
			}
		}
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})

	t.Run("its server", func(t *testing.T) {
		for _, p := range []iperf3.Params{{}, {Reverse: true}, {Streams: 4}, {Streams: 4, Reverse: true}} {
			ctx := within(t, endurance)
			ended := make(chan string, 1)
			go func() {
				out, err := l.Output(ctx, "iperf3", "-s", "-1")
				ended <- fmt.Sprintf("%v\n%s", err, out)
			}()
			p.Bytes = 50e6
			sum, err := iperf3.Run(ctx, h.untilListening("10.77.0.1:5201"), p)
			if out := <-ended; err != nil || max(sum.Sent, sum.Received) < p.Bytes {
				t.Errorf("%+v: %v, %v\n%s", p, sum, err, out)
			}
		}
	})
}

// untilListening dials again while nobody listens yet.
func (h *host) untilListening(address string) iperf3.Dial {
	return func(ctx context.Context) (c net.Conn, err error) {
		eventually(h.t, patience, "a connection to "+address, func() bool {
			c, err = h.net.DialContext(ctx, "tcp", address)
			return err == nil || ctx.Err() != nil
		})
		return c, err
	}
}

// TestCurl fetches a large file, over both families, with the right SHA-256;
// and one over a link that loses 2 % of the frames each way.
func TestCurl(t *testing.T) {
	program(t, "curl")
	const large, lossy = 1e9, 200e6
	l := newLab(t)
	h := newHost(t, l, hostOptions{offload: tap.OffloadRequire})
	h.expect("what was sent again through the loss", "tcp.drop.out-of-window", "tcp.drop.no-connection", "tcp.drop.closed")
	ln, err := h.net.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{n}", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.ParseInt(r.PathValue("n"), 10, 64)
		w.Header().Set("Content-Length", r.PathValue("n"))
		_, _ = io.Copy(w, file(n))
	})
	server := &http.Server{Handler: mux}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	get := func(t *testing.T, a netip.Addr, n int64) {
		t.Helper()
		fetch := fmt.Sprintf("curl -sS -g http://%s/%d | sha256sum", netip.AddrPortFrom(a, 80), n)
		out := run(t, within(t, endurance), l, "sh", "-c", fetch)
		if got, want := strings.Fields(out)[0], sum(t, file(n)); got != want {
			t.Errorf("SHA-256 %s, want %s", got, want)
		}
	}
	t.Run("a gigabyte", func(t *testing.T) { get(t, our4.Addr(), large) })
	t.Run("IPv6", func(t *testing.T) { get(t, our6.Addr(), large/10) })
	t.Run("2 % loss", func(t *testing.T) {
		program(t, "nft")
		inLab(t, l, func() error {
			br, err := netlink.LinkByName(lab.Bridge)
			if err != nil {
				return err
			}
			return netlink.LinkSetGSOMaxSegs(br, 1)
		})
		if err := l.Loss(l.Ports[0], lossPermille); err != nil {
			t.Fatal(err)
		}
		get(t, our4.Addr(), lossy)
	})
	server.Close()
	if err := <-served; err != http.ErrServerClosed {
		t.Error(err)
	}
}

// file is n bytes, a block that tells its place again and again: cheap to make,
// and wrong when anything is missing or moved.
func file(n int64) io.Reader { return io.LimitReader(&blocks{}, n) }

type blocks struct {
	n   uint64
	b   []byte
	off int
}

func (b *blocks) Read(p []byte) (int, error) {
	if b.b == nil {
		b.b = bytes.Repeat([]byte("0123456789abcdef"), 4096)
	}
	if b.off == 0 {
		copy(b.b, fmt.Sprintf("%016x", b.n))
		b.n++
	}
	n := copy(p, b.b[b.off:])
	b.off = (b.off + n) % len(b.b)
	return n, nil
}

func sum(t *testing.T, r io.Reader) string {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}
