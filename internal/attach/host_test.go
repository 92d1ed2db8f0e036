package attach

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
)

// TestNetHost: a program gets the host's own network, and no stack.
func TestNetHost(t *testing.T) {
	_, o, err := parse(t, nil, "--net", "host")
	if err != nil {
		t.Fatal(err)
	}
	ended := false
	err = o.Run(func(ctx context.Context, h *Host) error {
		if h.Stack != nil || h.Interface != nil || len(h.Counters()) != 0 {
			t.Errorf("there is a stack: %+v", h)
		}
		if err := h.NeedStack(); err == nil || !strings.Contains(err.Error(), "needs one") {
			t.Errorf("NeedStack: %v", err)
		}
		if line := h.ReadyLine("echo"); !strings.HasPrefix(line, "ready interface=host mac=none addresses=") || !strings.Contains(line, "127.0.0.1/8") ||
			!strings.Contains(line, " services=echo ms=") {
			t.Error(line)
		}
		l, err := h.Net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer l.Close()
		if _, ok := l.(*net.TCPListener); !ok {
			t.Errorf("a %T is not the host's", l)
		}
		go func() {
			if c, err := l.Accept(); err == nil {
				io.WriteString(c, "hello")
				c.Close()
			}
		}()
		c, err := h.Net.DialContext(ctx, "tcp", l.Addr().String())
		if err != nil {
			return err
		}
		defer c.Close()
		if b, err := io.ReadAll(c); string(b) != "hello" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		ended = true
		return nil
	})
	if err != nil || !ended {
		t.Error(err)
	}
}

func TestDNSFlag(t *testing.T) {
	p, _, err := parse(t, map[string]string{"DNS": "10.77.0.1,fd77::1,fe80::1%tap7"})
	if err != nil || len(p.dns) != 3 || p.dns[1].String() != "fd77::1" || p.dns[2].String() != "fe80::1%tap7" {
		t.Errorf("%v, %v", p, err)
	}
}
