package tcp

import (
	"fmt"
	"io"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/budget"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/seq"
	"github.com/tapstack/tapstack/tcp/cc"
)

// This file joins two cores by a bad network in virtual time: whatever it
// loses, delays, repeats and reorders, the byte streams must come out whole, in
// both directions, and every invariant must hold after every call.

// flying is a segment on its way, as bytes so that nothing is shared.
type flying struct {
	at  mono.Time
	to  int
	ord int
	raw []byte
	ecn Codepoint
}

type simEnd struct {
	c         *Conn
	req       *SynRequest
	cfg       Config
	toSend    int // bytes the application wants to write in all
	wrote     int
	got       int
	closed    bool
	eof       bool
	lazy      int // reads only every so many rounds
	limit     int
	failed    error
	edge      seq.Num // the peer's promise: largest right edge seen
	edgeKnown bool
	pauses    bool      // the application stops writing now and then,
	until     mono.Time // till then
}

type sim struct {
	t        *testing.T
	rng      *rand.Rand
	now      mono.Time
	end      [2]simEnd
	net      []flying
	ord      int
	loss     float64
	dup      float64
	delay    time.Duration
	jitter   time.Duration
	noSack   bool           // a box on the way takes the offer of SACK out,
	noTS     bool           // that of timestamps
	box      func(*Segment) // a box on the way that changes segments
	steps    int
	sent     int
	blackout mono.Time // nothing passes before
	memory   *budget.Budget
	naps     *rand.Rand // whether to put an end to sleep; nil: never
	slept    int        // how often one did
	diary    *diary     // of all that is sent and of what the ends say of themselves; nil: not kept
}

// nap calls Trim now and then, and writes the diary.
func (s *sim) nap(i int) {
	c := s.end[i].c
	if c == nil {
		return
	}
	if s.naps != nil && s.naps.IntN(2) == 0 {
		awake := c.flight != &asleep
		c.Trim(s.now)
		if awake && c.flight == &asleep {
			s.slept++
		}
		if err := c.invariants(); err != nil {
			s.fatal("end %d, after Trim: %v", i, err)
		}
	}
	if s.diary != nil {
		s.diary.add(said{s.now, i, c.InfoAt(s.now), c.Deadline(), c.Readable(), c.Writable(), c.Err(), c.Queued()})
	}
}

func (s *sim) fatal(f string, a ...any) {
	s.t.Helper()
	for i := range s.end {
		if c := s.end[i].c; c != nil {
			s.t.Logf("end %d: wrote %d got %d %+v", i, s.end[i].wrote, s.end[i].got, c.Info())
		}
	}
	s.t.Fatalf("at %v: %s", time.Duration(s.now), fmt.Sprintf(f, a...))
}

// transmit puts what Output said on the network, cut to segments.
func (s *sim) transmit(from int, seg *Segment) {
	all := append(append([]byte{}, seg.Payload[0]...), seg.Payload[1]...)
	if s.diary != nil {
		its := *seg
		its.Payload = [2][]byte{}
		s.diary.add(fmt.Sprint(s.now, from, its))
		s.diary.add(string(all))
	}
	size := len(all)
	if size > 0 {
		size = seg.SegSize
	}
	if seg.Flags&FlagURG != 0 && len(all) > size {
		s.fatal("urgent super-frame of %d bytes", len(all))
	}
	for off := 0; ; off += size {
		part := *seg
		if s.noSack {
			part.Options.SACKPermitted = false
		}
		if off > 0 {
			part.Flags &^= FlagCWR // as all who cut
		}
		if s.noTS {
			part.Options.HasTS = false
		}
		n := min(size, len(all)-off)
		part.Payload = [2][]byte{all[off : off+n], nil}
		part.Seq = seg.Seq.Add(off)
		last := off+n == len(all)
		if !last {
			part.Flags &^= FlagFIN | FlagPSH
		}
		if h := part.HeaderLen() + n; h > s.end[from].cfg.MSS+20 {
			s.fatal("segment of %d bytes for an MSS of %d", h, s.end[from].cfg.MSS)
		}
		if s.box != nil {
			s.box(&part)
		}
		raw := make([]byte, part.HeaderLen()+n)
		part.PutHeader(raw)
		copy(raw[part.HeaderLen():], all[off:])
		for k := 1; k > 0; k-- {
			if s.rng.Float64() < s.dup {
				k++
			}
			if s.rng.Float64() < s.loss || s.now < s.blackout {
				continue
			}
			at := s.now.Add(s.delay + time.Duration(s.rng.Int64N(int64(s.jitter)+1)))
			s.ord++
			s.net = append(s.net, flying{at, 1 - from, s.ord, raw, part.ECN})
		}
		if last {
			return
		}
	}
}

// flush takes everything from Output.
func (s *sim) flush(i int) {
	e := &s.end[i]
	for n := 0; ; n++ {
		if n > 5000 {
			s.fatal("Output never ends")
		}
		s.nap(i)
		var seg Segment
		ok := false
		if e.c != nil {
			ok = e.c.Output(s.now, &seg, e.limit)
		} else if e.req != nil {
			ok = e.req.Output(s.now, &seg)
		}
		if !ok {
			break
		}
		s.sent++
		s.watchEdge(i, &seg)
		s.transmit(i, &seg)
	}
	if e.c == nil {
		return
	}
	s.nap(i)
	if err := e.c.invariants(); err != nil {
		s.fatal("end %d: %v", i, err)
	}
	if err := e.c.settled(); err != nil {
		s.fatal("end %d: %v", i, err)
	}
	if d := e.c.Deadline(); d != 0 && d < s.now {
		s.fatal("end %d: deadline %v has passed", i, d)
	}
}

// watchEdge checks that the announced right edge retreats by less than a unit
// of the window scale.
func (s *sim) watchEdge(i int, seg *Segment) {
	e := &s.end[i]
	if e.c == nil || !e.c.state.Synchronized() || seg.Flags&(FlagSYN|FlagRST) != 0 || e.c.state == TimeWait {
		return
	}
	if e.c.starved && seg.Window == 0 {
		return // what starve departs from
	}
	unit := 1 << e.c.rcvWScale
	edge := seg.Ack.Add(int(seg.Window) << e.c.rcvWScale)
	if e.edgeKnown && e.edge.Sub(edge) >= unit {
		s.fatal("end %d: window shrank by %d", i, e.edge.Sub(edge))
	}
	if !e.edgeKnown || e.edge.Less(edge) {
		e.edge, e.edgeKnown = edge, true
	}
}

// app lets the application of end i read and write.
func (s *sim) app(i int) {
	e := &s.end[i]
	if e.c == nil || e.failed != nil {
		return
	}
	if s.memory.Pressure() && s.rng.IntN(20) == 0 {
		e.c.Relieve()
		if err := e.c.invariants(); err != nil {
			s.fatal("end %d: %v", i, err)
		}
	}
	buf := make([]byte, 1+s.rng.IntN(8000))
	if e.lazy == 0 || s.rng.IntN(e.lazy) == 0 {
		n, err := e.c.Read(buf)
		for k, b := range buf[:n] {
			if b != pattern(e.got+k) {
				s.fatal("end %d: byte %d is %#x", i, e.got+k, b)
			}
		}
		e.got += n
		switch {
		case err == io.EOF:
			e.eof = true
		case err != nil && err != syscall.EAGAIN:
			e.failed = err
		}
		s.flush(i)
	}
	if s.now < e.until {
		return
	}
	if e.pauses && s.rng.IntN(6) == 0 {
		e.until = s.now.Add(time.Duration(s.rng.IntN(4000)) * time.Millisecond)
	}
	if e.wrote < e.toSend {
		buf = buf[:min(len(buf), e.toSend-e.wrote)]
		for k := range buf {
			buf[k] = pattern(e.wrote + k)
		}
		flags := SendFlags(0)
		if s.rng.IntN(4) == 0 {
			flags = SendFlags(s.rng.IntN(4))
		}
		n, err := e.c.Send(buf, flags)
		e.wrote += n
		if err != nil && err != syscall.EAGAIN {
			e.failed = err
		}
		s.flush(i)
	} else if !e.closed && e.c.State() != SynSent && e.c.State() != SynReceived {
		e.closed = true
		if err := e.c.CloseWrite(s.now); err != nil {
			e.failed = err
		}
		s.flush(i)
	}
}

func (s *sim) deliver(i int, raw []byte, ecn Codepoint) {
	e := &s.end[i]
	var seg Segment
	if d := Parse(&seg, raw); d != DropNone {
		s.fatal("parse: %v", d)
	}
	seg.ECN = ecn
	switch {
	case e.c != nil:
		due := e.c.Deadline().Due(s.now) // pacing, whose turn it is as well
		ev, _ := e.c.Input(s.now, &seg)
		if err := e.c.invariants(); err != nil {
			s.fatal("end %d: %v", i, err)
		}
		if ev&EvOutput == 0 && !e.c.Deadline().Due(s.now) { // the timer is next
			before := s.sent
			s.flush(i)
			if s.sent != before && !due {
				s.fatal("end %d: output without EvOutput", i)
			}
		}
	case e.req != nil:
		switch v, _ := e.req.Input(s.now, &seg); v {
		case VerdictRemove, VerdictRefuse:
			e.req = nil
		case VerdictEstablish:
			e.c = e.req.Conn(&e.cfg, s.now)
			e.c.Input(s.now, &seg)
		}
	case seg.Flags&^ecnBits == FlagSYN && seg.Options.FastOpen.Present:
		e.c = NewFastOpen(&e.cfg, s.now, &seg, FastOpenOption{})
	case seg.Flags&^ecnBits == FlagSYN:
		e.req = NewSynRequest(&e.cfg, s.now, &seg)
	}
	s.flush(i)
}

// run lives until both ends are done, and checks the outcome.
func (s *sim) run(limit time.Duration) {
	stop := s.now.Add(limit)
	done := func() bool {
		for i := range s.end {
			e := &s.end[i]
			if e.c == nil || !e.eof || (e.c.State() != Closed && e.c.State() != TimeWait) {
				return false
			}
		}
		return true
	}
	for !done() {
		if s.steps++; s.steps > 2_000_000 {
			s.fatal("too many steps")
		}
		// The next thing to happen.
		next := s.now.Add(10 * time.Millisecond) // the applications' pace
		which := -1
		for k := range s.net {
			if f := &s.net[k]; f.at < next || f.at == next && which >= 0 && f.ord < s.net[which].ord {
				next, which = f.at, k
			}
		}
		timer := -1
		for i := range s.end {
			d := mono.Time(0)
			if e := &s.end[i]; e.c != nil {
				d = e.c.Deadline()
			} else if e.req != nil {
				d = e.req.Deadline()
			}
			if d != 0 && d < next {
				next, timer, which = d, i, -1
			}
		}
		s.now = max(s.now, next)
		if s.now > stop {
			s.fatal("not finished")
		}
		switch {
		case timer >= 0:
			e := &s.end[timer]
			if e.c != nil {
				e.c.Expire(s.now)
			} else if e.req.Expire(s.now) == VerdictRemove {
				e.req = nil
			}
			s.flush(timer)
		case which >= 0:
			f := s.net[which]
			s.net[which] = s.net[len(s.net)-1]
			s.net = s.net[:len(s.net)-1]
			s.deliver(f.to, f.raw, f.ecn)
		default:
			s.app(0)
			s.app(1)
		}
		for i := range s.end {
			e := &s.end[i]
			if e.failed != nil {
				s.fatal("end %d failed: %v", i, e.failed)
			}
		}
	}
	for i := range s.end {
		if got, want := s.end[i].got, s.end[1-i].toSend; got != want {
			s.fatal("end %d received %d of %d bytes", i, got, want)
		}
		if err := s.end[i].c.Err(); err != nil {
			s.fatal("end %d: %v", i, err)
		}
	}
	for i := range s.end {
		s.end[i].c.Close(s.now)
	}
	if n := s.memory.Used(); n != 0 {
		s.fatal("%d bytes charged at the end", n)
	}
}

func newSim(t *testing.T, seed uint64) *sim {
	rng := rand.New(rand.NewPCG(seed, 1))
	s := &sim{t: t, rng: rng, now: mono.Time(time.Second)}
	pick := func(n ...int) int { return n[rng.IntN(len(n))] }
	s.loss = []float64{0, 0.01, 0.05, 0.15}[rng.IntN(4)]
	s.dup = []float64{0, 0, 0.05}[rng.IntN(3)]
	s.delay = time.Duration(pick(0, 1, 20, 100)) * time.Millisecond
	s.jitter = time.Duration(pick(0, 0, 1, 30)) * time.Millisecond
	for i := range s.end {
		e := &s.end[i]
		e.cfg = Config{
			LocalPort: 10 + uint16(i), RemotePort: 11 - uint16(i),
			ISS: seq.Num(rng.Uint32()), TSOffset: rng.Uint32(), IPHeader: 20,
			MSS: pick(100, 536, 1460, 8960), RcvBuf: pick(500, 3000, 65535, 300_000, 8<<20), SndBuf: pick(1000, 20_000, 1<<20),
			Knobs: Knobs{noDelay: rng.IntN(2) == 0, oobInline: true}, Retries: 100, SynRetries: 50, SynAckRetries: 50,
			MaxRTO: 5 * time.Second,
		}
		e.cfg.NewController, _ = cc.ByName(cc.Names()[(int(seed)+i)%len(cc.Names())])
		if rng.IntN(2) == 0 {
			e.cfg.ISS = seq.Num(uint32(0) - uint32(rng.IntN(100_000))) // wraps soon
		}
		e.toSend = pick(0, 1, 1000, 100_000, 300_000)
		if s.loss > 0.1 || e.cfg.RcvBuf < 1000 || s.end[0].cfg.RcvBuf < 1000 {
			e.toSend = min(e.toSend, 30_000)
		}
		k := &e.cfg.Knobs
		k.cork, k.slowAck, k.uto = rng.IntN(4) == 0, rng.IntN(4) == 0, rng.IntN(4) == 0
		k.keepAlive, k.keepIdle, k.keepInterval, k.keepCount = rng.IntN(4) == 0, 1, 1, 100
		k.notSentLowat = uint32(pick(0, 0, 1, 5000))
		e.lazy = pick(0, 0, 3, 20)
		e.limit = pick(0, 20_000, 65536)
	}
	// Memory for everything, for hardly more than each ring's least, or between.
	if n := pick(0, 0, 20_000, 60_000, 300_000); n > 0 {
		s.memory = budget.New(int64(n), nil)
	}
	for i := range s.end {
		c := &s.end[i].cfg
		c.Memory = s.memory
		c.RcvInit, c.SndInit = pick(0, 2000, maxWindow), pick(0, 3000, maxWindow)
	}
	if seed%2 == 0 {
		s.naps = rand.New(rand.NewPCG(seed, 2))
	}
	return s
}

// TestSimulation runs transfers both ways over bad networks.
func TestSimulation(t *testing.T) {
	seeds := uint64(150)
	if testing.Short() || raceEnabled {
		seeds = 40
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			s := newSim(t, seed)
			s.noSack, s.noTS = seed%3 == 2, seed%4 == 3
			s.end[0].c = NewActive(&s.end[0].cfg, s.now)
			if s.rng.IntN(8) == 0 { // simultaneous open
				s.end[1].c = NewActive(&s.end[1].cfg, s.now)
				s.flush(1)
			}
			s.flush(0)
			s.run(2 * time.Hour)
		})
	}
}

// TestBlackout cuts the network in the middle and heals it.
func TestBlackout(t *testing.T) {
	for seed := range uint64(20) {
		s := newSim(t, 1000+seed)
		s.loss = 0
		s.end[0].toSend = 300_000
		s.end[0].c = NewActive(&s.end[0].cfg, s.now)
		s.flush(0)
		s.blackout = s.now.Add(20 * time.Second)
		s.run(2 * time.Hour)
	}
}
