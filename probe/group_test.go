package probe_test

import (
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/probe"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/stack/simnet"
)

// TestPingGroup: of the answers of a group the first is the answer and the others
// are duplicates, as ping counts them; they make a flood no denser.
func TestPingGroup(t *testing.T) {
	n := simnet.New(3)
	seg := n.Segment(wire.Options{MTU: 1500, Delay: time.Millisecond})
	a, _ := n.Host(seg, stack.Config{}, nil, "10.0.0.1/24", "fd00::1/64")
	ends := []*stack.Stack{a}
	for _, s := range []string{"2", "3", "4"} {
		b, _ := n.Host(seg, stack.Config{}, nil, "10.0.0."+s+"/24", "fd00::"+s+"/64")
		ends = append(ends, b)
	}
	p, err := probe.New(a, probe.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Close()
		for _, s := range ends {
			s.Close()
		}
		n.RunFor(time.Second)
	})
	for _, flood := range []bool{false, true} {
		var r *probe.PingResult
		q := probe.PingRequest{Request: probe.Request{Dst: addr("ff02::1%eth0")}, Count: 20, Flood: flood}
		if list := a.Interfaces(); len(list) > 0 {
			q.Dst = addr("ff02::1").WithZone(list[len(list)-1].Name())
		}
		most := 0
		p.StartPing(q, func(probe.PingPacket) { most = max(most, p.InFlight()) }, func(x probe.PingResult) { r = &x })
		if !n.Until(5*time.Minute, func() bool { return r != nil }) {
			t.Fatal("no end")
		}
		if r.Sent != 20 || r.Received != 20 || r.Duplicates < 20 || r.Lost() != 0 || r.Stats.Count != 20 {
			t.Errorf("flood %v: %d sent, %d received, %d duplicates, %d round trips", flood, r.Sent, r.Received, r.Duplicates, r.Stats.Count)
		}
		n.RunFor(time.Minute)
	}
}

// TestPingTakenNumber: a sequence number that is waited for is passed over.
func TestPingTakenNumber(t *testing.T) {
	w := newWorld(t, 2, probe.Options{})
	for _, seq := range []uint16{2, 3} {
		w.p.Send(probe.Request{Dst: addr(far4), EchoID: 77, EchoSeq: seq, TTL: 1, Watch: time.Hour, Timeout: time.Hour}, func(probe.Result) {})
	}
	var r *probe.PingResult
	w.p.StartPing(probe.PingRequest{Request: probe.Request{Dst: addr(far4), EchoID: 77}, Count: 5}, nil, func(x probe.PingResult) { r = &x })
	w.Until(time.Minute, func() bool { return r != nil })
	if r == nil || r.Received != 5 || r.Errors != 0 || r.Err != nil {
		t.Errorf("%+v", r)
	}
}
