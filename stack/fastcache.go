package stack

import (
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/tcp"
)

// This file owns the client's side of TCP Fast Open (RFC 7413 §4.1.3): the
// cookies that servers gave, and where text in a SYN was of no use.

const (
	// fastCacheAge is how long a cookie is kept that nothing was heard of: a
	// server's key has probably changed, and what the server announced too.
	fastCacheAge = 24 * time.Hour
	// fastBackOff is the unit in which Fast Open to a port pauses whose SYN
	// had to be sent again without text: 4 times from the second in a row on,
	// and twice as long with each further one, up to 64 times.
	fastBackOff    = time.Minute
	fastBackOffMax = 6
)

// fastCache is bounded by Limits.FastOpen.
type fastCache struct {
	mu   sync.Mutex // guards m
	m    map[fastKey]fastEntry
	most int
}

// fastKey names what a cookie is good for, and with the port what may have
// swallowed a SYN: cookies belong to a pair of addresses, but whether text gets
// through depends on the port too (RFC 7413 §4.1.3.1).
type fastKey struct {
	local, remote netip.Addr
	port          uint16 // 0 for the cookie
}

type fastEntry struct {
	at mono.Time // last heard of

	// With port 0:
	cookie tcp.FastOpenOption // without a length: none
	mss    int                // as the server announced it
	form   fastForm           // in which to ask for a cookie

	// With a port:
	failures int       // in a row
	until    mono.Time // no Fast Open before
}

// fastForm is the form of the option in which a server is asked: first that of
// the RFC; if nothing comes back the one before it, once; then the RFC's again
// for good (Linux).
type fastForm uint8

const (
	formRFC fastForm = iota
	formExp
	formRFCOnly
)

func (f *fastCache) init(most int) { f.m, f.most = make(map[fastKey]fastEntry), most }

// putLocked enters e; when there is no room, what was not heard of for longest
// goes.
func (f *fastCache) putLocked(now mono.Time, k fastKey, e fastEntry) {
	if _, ok := f.m[k]; !ok && len(f.m) >= f.most {
		var oldest fastKey
		when := mono.Time(0)
		for k, e := range f.m {
			if when == 0 || e.at < when {
				oldest, when = k, e.at
			}
		}
		delete(f.m, oldest)
	}
	e.at = now
	f.m[k] = e
}

func keysOf(id fourTuple) (cookie, port fastKey) {
	cookie = fastKey{local: id.local.Addr(), remote: id.remote.Addr()}
	port = cookie
	port.port = id.remote.Port()
	return cookie, port
}

// offer returns how a connection is to be opened; ok is false when it is better
// done in the ordinary way.
func (f *fastCache) offer(now mono.Time, id fourTuple, mode FastOpen) (o tcp.FastOpenOffer, ok bool) {
	cookie, port := keysOf(id)
	f.mu.Lock()
	defer f.mu.Unlock()
	if e, ok := f.m[port]; ok && now < e.until {
		return o, false
	}
	e, known := f.m[cookie]
	if known && now.Sub(e.at) > fastCacheAge {
		delete(f.m, cookie)
		e = fastEntry{}
	}
	o.PeerMSS = e.mss
	switch {
	case e.cookie.Len > 0:
		o.Option, o.Text = e.cookie, true
	case mode&FastOpenClientNoCookie != 0:
		o.Text = true
	default:
		o.Option = tcp.FastOpenOption{Present: true, Exp: e.form == formExp}
	}
	return o, true
}

// learn takes what a SYN-ACK says: its cookie, and the segment size announced.
func (f *fastCache) learn(now mono.Time, id fourTuple, tried tcp.FastOpenTried, got tcp.FastOpenOption, mss int) {
	cookie, port := keysOf(id)
	f.mu.Lock()
	defer f.mu.Unlock()
	if tried.Again && tried.Text > 0 && !got.Present {
		// The server saw only the second SYN: the first may have been lost
		// because of what it was.
		f.failedLocked(now, port)
	} else {
		delete(f.m, port)
	}
	e := f.m[cookie]
	e.mss = mss
	switch {
	case !tried.Asked: // Linux: a cookie that was not asked for is not kept
	case got.Present && got.Len > 0:
		e.cookie, e.form = got, formRFC
	case tried.Again || tried.Text > 0 || e.cookie.Len > 0:
	case tried.Exp:
		e.form = formRFCOnly
	case e.form == formRFC:
		e.form = formExp
	}
	f.putLocked(now, cookie, e)
}

// failed notes that there was no answer at all.
func (f *fastCache) failed(now mono.Time, id fourTuple) {
	_, port := keysOf(id)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failedLocked(now, port)
}

func (f *fastCache) failedLocked(now mono.Time, k fastKey) {
	e := f.m[k]
	e.failures = min(e.failures+1, fastBackOffMax)
	if e.failures > 1 {
		e.until = now.Add(fastBackOff << e.failures)
	}
	f.putLocked(now, k, e)
}

// DialTCPFast is DialTCP with TCP Fast Open. If the server is known to take
// text in the SYN, the SYN waits for the first Write, which takes as much as
// fits; Connect lets it go without. Otherwise it leaves at once and asks for a
// cookie for the next time. EOPNOTSUPP when clients may not do that.
func (s *Stack) DialTCPFast(local, remote netip.AddrPort) (*TCPConn, error) {
	if s.FastOpen()&FastOpenClient == 0 {
		return nil, syscall.EOPNOTSUPP
	}
	return s.DialTCPWith(local, remote, DialOptions{Fast: true})
}

// DialFast is Dial with TCP Fast Open, see DialTCPFast.
func (l *TCPListener) DialFast(remote netip.AddrPort) (*TCPConn, error) {
	o := l.DialOptions()
	o.Fast = true
	return l.stack.DialTCPWith(netip.AddrPortFrom(l.addr, l.port), remote, o)
}

// offerLocked makes a connection that is being opened a Fast Open.
func (c *TCPConn) offerLocked(now mono.Time) {
	if o, ok := c.stack.fast.offer(now, c.id(), c.stack.FastOpen()); ok {
		c.core.FastOpen(o)
		c.fast = true
	}
}

// learnFastLocked notes how a Fast Open went, when b.seg has finished the
// handshake.
func (c *TCPConn) learnFastLocked(b *batch) {
	c.fast = false
	tried, ok := c.core.FastOpenTried()
	if !ok || b.seg.Flags&tcp.FlagSYN == 0 {
		return
	}
	i := c.core.Info()
	st := &c.stack.stats.TCP
	switch {
	case i.SynData:
		st.FastOpenActive.inc()
	case tried.Text > 0:
		st.FastOpenActiveFail.inc()
	}
	c.stack.fast.learn(b.now, c.id(), tried, b.seg.Options.FastOpen, i.PeerMSS)
}

// failFastLocked notes that a connection ended before its handshake was done.
func (c *TCPConn) failFastLocked() {
	c.fast = false
	if tried, _ := c.core.FastOpenTried(); tried.Text > 0 && c.core.Err() == syscall.ETIMEDOUT {
		c.stack.stats.TCP.FastOpenActiveFail.inc()
		c.stack.fast.failed(c.now, c.id())
	}
}

// Connect lets a SYN go that waits for text.
func (c *TCPConn) Connect() { c.act(func(mono.Time) { c.core.Connect() }) }

// Held reports that the SYN waits for text.
func (c *TCPConn) Held() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.core.Held()
}
