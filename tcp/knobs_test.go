package tcp

import (
	"strconv"
	"syscall"
	"testing"
	"time"
)

// The steps of scripts that set and use what knobs.go names:
//
//	knob keepidle 10 [= EINVAL]   before the opening: of the configuration
//	get keepidle 10               that is its value
//	more 1000 | urge 5 | wait 5   write, with more to come | the last byte urgent | by one who waits
//	peek 1000 [= 500]             read, and leave it there
//	oob [= EINVAL] | oobpeek      the urgent byte
//	mark yes|no   urgent yes|no   the reader is at the mark; the byte can be read
//	inq 10                        bytes that can be read
//	readable yes|no   writable yes|no   as poll sees it
//	freed yes|no                  a stopped writer may go on
var knobNames = map[string]Knob{"nodelay": KnobNoDelay, "cork": KnobCork, "quickack": KnobQuickAck, "maxseg": KnobMaxSeg,
	"clamp": KnobWindowClamp, "notsent": KnobNotSentLowat, "rcvlowat": KnobRcvLowat, "inline": KnobOOBInline,
	"keepalive": KnobKeepAlive, "keepidle": KnobKeepIdle, "keepintvl": KnobKeepInterval, "keepcnt": KnobKeepCount,
	"usertimeout": KnobUserTimeout, "thin": KnobThinLinear, "uto": KnobTimeoutOption, "syncnt": KnobSynCount, "defer": KnobDeferAccept,
	"linger2": KnobLinger2, "linger": KnobLinger}

func (tr *trace) userStep(f []string, arg func(int) string) {
	tr.t.Helper()
	n, _ := strconv.Atoi(arg(1))
	yes := func(got bool) {
		tr.t.Helper()
		if want := arg(1) == "yes"; got != want {
			tr.fail("it is %v", got)
		}
	}
	switch f[0] {
	case "knob":
		id, ok := knobNames[arg(1)]
		v, err := strconv.Atoi(arg(2))
		if !ok || err != nil {
			tr.fail("no such setting")
		}
		if tr.c == nil {
			err = tr.cfg.Knobs.Set(id, v)
		} else {
			err = tr.c.SetKnob(tr.now, id, v)
			tr.flush()
		}
		if got := errName(err); got != arg(4) && !(err == nil && arg(4) == "") {
			tr.fail("error is %s", got)
		}
	case "get":
		got := tr.cfg.Knobs.Get(knobNames[arg(1)])
		if tr.c != nil {
			got = tr.c.Knob(knobNames[arg(1)])
		}
		if strconv.Itoa(got) != arg(2) {
			tr.fail("it is %d", got)
		}
	case "more", "urge", "wait":
		flags := map[string]SendFlags{"more": SendMore, "urge": SendUrgent, "wait": SendWait}[f[0]]
		b := make([]byte, n)
		for i := range b {
			b[i] = pattern(tr.wrote + i)
		}
		n, err := tr.c.Send(b, flags)
		tr.wrote += n
		tr.result(n, err, len(b), arg(3))
		tr.flush()
	case "peek":
		b := make([]byte, n)
		at := tr.readAt()
		n, err := tr.c.Recv(b, RecvPeek)
		tr.same(at, b[:n])
		tr.result(n, err, len(b), arg(3))
	case "readmore": // goes on with a call that has taken something
		b := make([]byte, n)
		at := tr.readAt()
		n, err := tr.c.Recv(b, RecvMore)
		tr.same(at, b[:n])
		tr.result(n, err, len(b), arg(3))
		tr.flush()
	case "oob", "oobpeek":
		b := make([]byte, 1)
		n, err := tr.c.ReadUrgent(b, f[0] == "oobpeek")
		if n == 1 && b[0] != pattern(tr.c.urg.rcvUp.Sub(tr.peer)-1) {
			tr.fail("wrong byte")
		}
		tr.result(n, err, 1, arg(2))
	case "mark":
		yes(tr.c.AtMark())
	case "urgent":
		yes(tr.c.Urgent())
	case "readable":
		yes(tr.c.ReadableAt(tr.c.Knob(KnobRcvLowat)))
	case "writable":
		yes(tr.c.Writable() > 0)
	case "freed":
		yes(tr.c.WriterFreed())
	case "inq":
		if tr.c.Readable() != n {
			tr.fail("it is %d", tr.c.Readable())
		}
	default:
		tr.fail("no such step")
	}
}

// readAt is the place in the peer's stream of the next byte to be read.
func (tr *trace) readAt() int {
	skip, _ := tr.c.toMark()
	return tr.c.readSeq().Sub(tr.peer) - 1 + skip
}

// same fails unless b is the stream from at on.
func (tr *trace) same(at int, b []byte) {
	tr.t.Helper()
	for i := range b {
		if b[i] != pattern(at+i) {
			tr.fail("wrong byte %d", at+i)
		}
	}
}

// TestKnobs: the defaults, and which values are refused or clipped.
func TestKnobs(t *testing.T) {
	for _, c := range []struct {
		id       Knob
		def      int
		set, get []int // EINVAL is written as -77
	}{
		{KnobNoDelay, 0, []int{1, 5, 0, -1}, []int{1, 1, 0, 1}},
		{KnobCork, 0, []int{2, 0}, []int{1, 0}},
		{KnobQuickAck, 1, []int{0, 1, 2}, []int{0, 1, 1}},
		{KnobMaxSeg, 536, []int{88, 32767, 87, 32768, -1, 0}, []int{88, 32767, -77, -77, -77, 536}},
		{KnobWindowClamp, 0, []int{1, 1152, 100000, -5, 0}, []int{1152, 1152, 100000, 1152, 0}},
		{KnobNotSentLowat, 0, []int{1, 1 << 30, -1, 0}, []int{1, 1 << 30, -1, 0}},
		{KnobRcvLowat, 1, []int{5, 0, 1}, []int{5, 1, 1}},
		{KnobOOBInline, 0, []int{1, 0}, []int{1, 0}},
		{KnobKeepAlive, 0, []int{1, 0}, []int{1, 0}},
		{KnobKeepIdle, 7200, []int{1, 32767, 0, 32768, -1}, []int{1, 32767, -77, -77, -77}},
		{KnobKeepInterval, 75, []int{1, 32767, 0, 32768}, []int{1, 32767, -77, -77}},
		{KnobKeepCount, 9, []int{1, 127, 0, 128}, []int{1, 127, -77, -77}},
		{KnobUserTimeout, 0, []int{1, 1<<31 - 1, -1, 0}, []int{1, 1<<31 - 1, -77, 0}},
		{KnobTimeoutOption, 0, []int{1, 0}, []int{1, 0}},
		{KnobSynCount, 6, []int{1, 127, 0, 128}, []int{1, 127, -77, -77}},
		{KnobDeferAccept, 0, []int{1, 2, 3, 4, 7, 8, 100, 0, -1, 1 << 30}, []int{1, 3, 3, 7, 7, 15, 127, 0, 0, 29887}},
		{KnobLinger2, 60, []int{1, 120, 121, -7, 0}, []int{1, 120, 120, -1, 60}},
		{KnobTOS, 0, []int{0x21, 0x1b8, 0}, []int{0x20, 0xb8, 0}},
		{KnobHops, 64, []int{1, 255, 0, 256, -1}, []int{1, 255, -77, -77, 64}},
		{KnobLinger, -1, []int{0, 5, -3}, []int{0, 5, -1}},
	} {
		var k Knobs
		if got := k.Get(c.id); got != c.def {
			t.Errorf("knob %d: default %d, want %d", c.id, got, c.def)
		}
		for i, v := range c.set {
			before := k
			err := k.Set(c.id, v)
			switch {
			case c.get[i] == -77:
				if err != syscall.EINVAL || k != before {
					t.Errorf("knob %d to %d: %v", c.id, v, err)
				}
			case err != nil || k.Get(c.id) != c.get[i]:
				t.Errorf("knob %d to %d: %v, is %d, want %d", c.id, v, err, k.Get(c.id), c.get[i])
			}
		}
	}
	var k Knobs
	if err := k.Set(NumKnobs, 1); err != syscall.ENOPROTOOPT {
		t.Errorf("unknown: %v", err)
	}
}

func TestTimeoutEncoding(t *testing.T) {
	for _, c := range []struct {
		d    time.Duration
		wire uint16
		back time.Duration
	}{
		{1, 1, time.Second},
		{time.Second, 1, time.Second},
		{100 * time.Second, 100, 100 * time.Second},
		{0x7fff * time.Second, 0x7fff, 0x7fff * time.Second},
		{0x8000 * time.Second, 0x8000 | 547, 547 * time.Minute},
		{time.Duration(1<<62 - 1), 0xffff, 0x7fff * time.Minute},
	} {
		if got := encodeTimeout(c.d); got != c.wire || decodeTimeout(got) != c.back {
			t.Errorf("%v: %#x means %v", c.d, got, decodeTimeout(got))
		}
	}
}
