package socket_test

import (
	"slices"
	"syscall"
	"testing"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/tcp"
)

// TestSetTrace: a listener hears of a connection from its SYN on, whether the
// socket is bound or not, and of errors about it; one that comes later hears
// from then on, and one that is taken away nothing more.
func TestSetTrace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		listen(t, p.b, "0.0.0.0:7", 8)
		type heard struct {
			kinds []string
			syns  int
			icmp  []tcp.TraceEvent
		}
		var h heard
		hear := func(e *tcp.TraceEvent) {
			h.kinds = append(h.kinds, e.Kind.String())
			if e.Kind == tcp.TraceSent && e.Segment.Flags&tcp.FlagSYN != 0 {
				h.syns++
			}
			if e.Kind == tcp.TraceICMP {
				h.icmp = append(h.icmp, *e)
			}
		}
		for _, local := range []string{"", "10.77.0.1:1234"} {
			h = heard{}
			f := tcp4(t, p.a)
			must(t, f.SetTrace(hear, true))
			if local != "" {
				must(t, f.Bind(ap(local)))
			}
			must(t, f.Connect(bg, ap("10.77.0.2:7")))
			must(t, f.SetTrace(nil, false)) // what was heard may be looked at from here on
			if name, _ := f.Getsockname(); local != "" && name != ap(local) {
				t.Errorf("connected from %v", name)
			}
			if h.syns != 1 || h.kinds[0] != "state" || !slices.Contains(h.kinds, "received") {
				t.Errorf("from %q: %v", local, h.kinds)
			}
			n := len(h.kinds)
			f.Send([]byte("x"), 0)
			if len(h.kinds) != n {
				t.Errorf("after the end: %v", h.kinds[n:])
			}
			must(t, f.SetTrace(hear, true))
			f.SetNoDelay(true)
			f.Send([]byte("x"), 0)
			must(t, f.SetTrace(nil, false))
			if !slices.Contains(h.kinds[n:], "sent") {
				t.Errorf("later: %v", h.kinds[n:])
			}
		}
		// Nobody has the address: the host tells itself, which names no sender.
		h = heard{}
		f := tcp4(t, p.a)
		must(t, f.SetTrace(hear, false))
		wantErr(t, "connect", f.Connect(bg, ap("10.77.0.99:7")), syscall.EHOSTUNREACH)
		if len(h.icmp) == 0 || h.icmp[0].From != "" || h.icmp[0].Reason != syscall.EHOSTUNREACH.Error() || slices.Contains(h.kinds, "sent") {
			t.Errorf("%v, %+v", h.kinds, h.icmp)
		}

		u := udp4(t, p.a)
		wantErr(t, "of datagrams", u.SetTrace(hear, false), syscall.ENOPROTOOPT)
		f.Close()
		if err := f.SetTrace(hear, false); err == nil {
			t.Error("a closed socket was listened to")
		}
	})
}
