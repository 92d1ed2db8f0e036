package iperf3

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener whose connections are pipes in memory.
type pipes struct {
	c    chan net.Conn
	done chan struct{}
}

func newPipes() *pipes { return &pipes{make(chan net.Conn), make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.c:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.done); return nil }
func (p *pipes) Addr() net.Addr { return nil }

func (p *pipes) dial(ctx context.Context) (net.Conn, error) {
	a, b := net.Pipe()
	select {
	case p.c <- b:
		return a, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type ended struct {
	sum Summary
	err error
}

// serve runs a server until the test ends.
func serve(t *testing.T) (*pipes, chan ended) {
	p, tests := newPipes(), make(chan ended, 10)
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- Serve(ctx, p, func(s Summary, err error) { tests <- ended{s, err} }) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return p, tests
}

func TestTransfers(t *testing.T) {
	p, tests := serve(t)
	for _, params := range []Params{{Bytes: 3e6}, {Bytes: 3e6, Reverse: true}, {Bytes: 3e6, Streams: 3}, {Blocks: 10}} {
		got, err := Run(t.Context(), p.dial, params)
		if err != nil {
			t.Fatalf("%+v: %v", params, err)
		}
		theirs := <-tests
		if theirs.err != nil {
			t.Errorf("%+v: server: %v", params, theirs.err)
		}
		want := max(params.Bytes, params.Blocks*128<<10)
		if params.Reverse {
			if got.Received < want {
				t.Errorf("%+v: received %d", params, got.Received)
			}
		} else if got.Sent != want || theirs.sum.Received != want || got.Theirs != want {
			t.Errorf("%+v: sent %d, received %d, told %d", params, got.Sent, theirs.sum.Received, got.Theirs)
		}
	}
}

// TestUnderWay: what was sent before the end of a test is counted, also when it
// arrives later; and nobody waits for what a stream that has ended will not bring.
func TestUnderWay(t *testing.T) {
	for _, late := range []int{1000, 0} {
		synctest.Test(t, func(t *testing.T) {
			p, tests := serve(t)
			c := handshake(t, p, `{"tcp":true,"parallel":1,"len":1000,"num":2000}`)
			stream, err := p.dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			stream.Write(c.name[:])
			for _, s := range []byte{testStart, testRunning} {
				if err := c.await(s); err != nil {
					t.Fatal(err)
				}
			}
			stream.Write(make([]byte, 1000))
			c.sendState(testEnd)
			time.Sleep(time.Second)
			stream.Write(make([]byte, late))
			stream.Close()
			if err := c.await(exchangeResults); err != nil {
				t.Fatal(err)
			}
			c.sendJSON(results{})
			var theirs results
			if err := c.receiveJSON(&theirs); err != nil || len(theirs.Streams) != 1 || theirs.Streams[0].Bytes != uint64(1000+late) {
				t.Errorf("%v, %+v", err, theirs)
			}
			if err := c.await(displayResults); err != nil {
				t.Error(err)
			}
			c.sendState(iperfDone)
			if e := <-tests; e.err != nil || e.sum.Received != uint64(1000+late) {
				t.Errorf("%v, %v", e.sum, e.err)
			}
			c.Close()
		})
	}
}

// hand is a client that is led by hand.
type hand struct {
	control
	name [cookieLen]byte
}

// handshake begins a test, up to where the server wants streams.
func handshake(t *testing.T, p *pipes, params string) hand {
	t.Helper()
	conn, err := p.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := hand{control{conn}, cookie()}
	c.Write(c.name[:])
	err = c.await(paramExchange)
	c.Write(framed(params))
	if err := errors.Join(err, c.await(createStreams)); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestBadClients: a client that does not keep to the protocol costs its own
// test and no more.
func TestBadClients(t *testing.T) {
	p, tests := serve(t)
	for name, c := range map[string]struct {
		params []byte // JSON, or what is sent instead
		want   string
	}{
		"UDP":               {framed(`{"udp":true,"parallel":1,"len":1000}`), "only TCP"},
		"too many streams":  {framed(`{"tcp":true,"parallel":1000000,"len":1000}`), "streams"},
		"no streams":        {framed(`{"tcp":true,"parallel":-1,"len":1000}`), "streams"},
		"huge blocks":       {framed(`{"tcp":true,"parallel":1,"len":2000000000}`), "blocks"},
		"endless":           {framed(`{"tcp":true,"parallel":1,"len":1000,"time":-5}`), "seconds"},
		"not JSON":          {framed(`}{`), "parameters"},
		"too long":          {binary.BigEndian.AppendUint32(nil, 1<<31), "too many"},
		"ends in the midst": {nil, "EOF"},
	} {
		conn, err := p.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		k := cookie()
		conn.Write(k[:])
		io.ReadFull(conn, make([]byte, 1))
		if c.params != nil {
			conn.Write(c.params)
			conn.SetReadDeadline(time.Now().Add(patience))
			io.Copy(io.Discard, conn)
		}
		conn.Close()
		if e := <-tests; e.err == nil || !strings.Contains(e.err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, e.err, c.want)
		}
	}
	if _, err := Run(t.Context(), p.dial, Params{Bytes: 1000}); err != nil {
		t.Error("afterwards:", err)
	}
}

func framed(s string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(s))), s...)
}

func TestRefusals(t *testing.T) {
	for state, want := range map[byte]string{accessDenied: "busy", serverTerminate: "ended", serverError: "error"} {
		p := newPipes()
		go func() {
			c, _ := p.Accept()
			readCookie(c)
			c.Write([]byte{state})
			c.Close()
		}()
		if _, err := Run(t.Context(), p.dial, Params{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("state %d: %v", state, err)
		}
	}
	if _, err := Run(t.Context(), func(context.Context) (net.Conn, error) { return nil, errors.New("no way") }, Params{}); err == nil {
		t.Error("a failed dial is no error")
	}
}

func TestStreamIDs(t *testing.T) {
	for n, want := range []int{1, 3, 4, 5} {
		if got := streamID(n); got != want {
			t.Errorf("stream %d: %d", n, got)
		}
	}
}
