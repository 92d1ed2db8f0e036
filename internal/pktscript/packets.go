package pktscript

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns the events that are packets: sending the script's, and waiting
// for the stack's.

// inbound sends a packet of the script to the stack.
func (r *runner) inbound(k *Packet) error {
	w, err := r.flowOfInbound(k)
	if err != nil {
		return err
	}
	b, err := w.inbound(k)
	if err != nil {
		return err
	}
	r.trace("%s", k)
	segSize := 0
	if k.Proto == TCP && r.cfg.mss > 0 && k.Len > r.cfg.mss {
		segSize = r.cfg.mss
	}
	r.link.injectIP(b, segSize)
	r.settle()
	return r.retry()
}

// flowOfInbound finds what a packet of the script belongs to.
func (r *runner) flowOfInbound(k *Packet) (*flow, error) {
	if k.SrcPort != 0 {
		for _, w := range r.flows {
			if int(w.remote.Port()) == k.SrcPort && (int(w.local.Port()) == k.DstPort || w.local.Port() == 0) {
				return w, nil
			}
		}
		return r.newFlow(k, uint16(k.SrcPort), uint16(k.DstPort)), nil
	}
	// A listening socket has the flow of the connection that comes.
	if k.Proto == TCP && (r.curFile == nil || r.curFile.awaits()) {
		if r.curFile != nil {
			r.curFile.served = true
		}
		r.ports++
		return r.newFlow(k, r.ports, r.cfg.bindPort), nil
	}
	if r.cur == nil && k.Proto == UDP {
		r.ports++
		return r.newFlow(k, r.cfg.connectPort, r.cfg.bindPort), nil
	}
	if r.cur == nil {
		return nil, errors.New("the packet belongs to no socket")
	}
	return r.cur, nil
}

func (r *runner) newFlow(k *Packet, remote, local uint16) *flow {
	w := &flow{proto: k.Proto, fd: -1, local: netip.AddrPortFrom(r.cfg.local.Addr(), local),
		remote: netip.AddrPortFrom(r.cfg.remote, remote)}
	r.flows = append(r.flows, w)
	r.cur = w
	return w
}

// flowOfOutbound finds what a packet that is expected belongs to.
func (r *runner) flowOfOutbound(k *Packet) (*flow, error) {
	if k.DstPort != 0 {
		for _, w := range r.flows {
			if int(w.remote.Port()) == k.DstPort && (int(w.local.Port()) == k.SrcPort || w.local.Port() == 0) {
				return w, nil
			}
		}
		return nil, fmt.Errorf("nothing is known of the ports %d and %d", k.SrcPort, k.DstPort)
	}
	if r.cur == nil {
		return nil, errors.New("no socket is there that could send it")
	}
	return r.cur, nil
}

// outbound waits for a packet of the stack and compares it.
func (r *runner) outbound(k *Packet) error {
	w, err := r.flowOfOutbound(k)
	if err != nil {
		return err
	}
	for {
		f, err := r.collect(k, w)
		if err != nil {
			return err
		}
		w.learn(f, k)
		w.toScript(f, k.Absolute)
		w.mapTS(f, k)
		diff := r.match(k, f, w)
		if diff != "" && r.script.BSD && w.soonAck(f, k) {
			r.trace("> %s  (sooner than FreeBSD)", f)
			w.sentAck = f.ack
			continue
		}
		if diff == "" {
			diff = matchText(f, w.scriptISN, r.plain(w))
		}
		if diff == "" {
			diff = r.checkTime(f.at)
		}
		if diff != "" {
			return fmt.Errorf("%s\n\twanted %s\n\tgot    > %s", diff, k, f)
		}
		r.trace("> %s", f)
		if f.has('.') {
			w.sentAck = f.ack
		}
		return nil
	}
}

// soonAck reports a bare ACK that only tells what has arrived in order, and
// not more than the one expected will.
func (w *flow) soonAck(f *frame, k *Packet) bool {
	return f.proto == TCP && f.flags == flagsOf(".") && len(f.payload) == 0 && findSACK(f.opts) == nil &&
		int32(f.ack-w.sentAck) > 0 && int32(w.rcvNxt-f.ack) >= 0 && int32(k.Ack-f.ack) >= 0
}

func findSACK(list []TCPOption) *TCPOption {
	for i := range list {
		if list[i].Kind == optSACK {
			return &list[i]
		}
	}
	return nil
}

// collect takes the next packet of a flow, or several segments that make up
// one as long as the script says.
func (r *runner) collect(k *Packet, w *flow) (*frame, error) {
	var parts []*frame
	have := 0
	for {
		f, err := r.nextSent(w, len(parts) > 0)
		if err != nil {
			if len(parts) > 0 {
				break
			}
			return nil, fmt.Errorf("%w\n\twanted %s", err, k)
		}
		if len(parts) > 0 && !follows(parts[len(parts)-1], f) {
			r.link.sent = append([]*frame{f}, r.link.sent...)
			break
		}
		parts = append(parts, f)
		have += len(f.payload)
		if have >= k.Len || r.cfg.strictSegments || f.proto != TCP || len(f.payload) == 0 {
			break
		}
	}
	return merge(parts), nil
}

// nextSent takes the next packet of a flow, and if there is none lets time
// pass until there is one. With now it only looks at what is there.
func (r *runner) nextSent(w *flow, now bool) (*frame, error) {
	take := func() *frame {
		for len(r.link.sent) > 0 {
			f := r.link.sent[0]
			r.link.sent = r.link.sent[1:]
			if w.owns(f) {
				return f
			}
		}
		return nil
	}
	f := take()
	if f != nil || now {
		if f == nil {
			return nil, errors.New("nothing more was sent")
		}
		return f, nil
	}
	limit := r.planned
	switch r.event.At.Kind {
	case AbsoluteRange, RelativeRange:
		limit = limit.Add(r.event.At.To - r.event.At.From)
	case AnyTime:
		limit = limit.Add(time.Hour)
	}
	limit = limit.Add(r.tolerance(r.planned) + 2*time.Second)
	var err error
	r.net.Until(max(0, limit.Sub(r.net.Now())), func() bool {
		if err = r.retry(); err != nil {
			return true
		}
		f = take()
		return f != nil
	})
	switch {
	case err != nil:
		return nil, err
	case f == nil:
		return nil, errors.New("nothing was sent")
	}
	return f, nil
}

// checkTime compares when a packet left with when it was to.
func (r *runner) checkTime(at mono.Time) string {
	w := r.event.At
	if w.Kind == AnyTime {
		return ""
	}
	first, last := r.planned, r.planned
	if w.Kind == AbsoluteRange || w.Kind == RelativeRange {
		last = last.Add(w.To - w.From)
	}
	tol := r.tolerance(r.planned)
	if at < first.Add(-tol) || at > last.Add(tol) {
		return fmt.Sprintf("sent at %v instead of %v, tolerance %v", at.Sub(r.begin), first.Sub(r.begin), tol)
	}
	return ""
}

// plain reports whether all text of a flow is the pattern that the interpreter
// writes.
func (r *runner) plain(w *flow) bool {
	f := r.files[w.fd]
	return f == nil || !f.ownText
}
