package telnet

import (
	"net"
	"time"

	"github.com/tapstack/tapstack/telnet/engine"
	"github.com/tapstack/tapstack/telnet/option"
)

// This file owns the configuration of a Conn.

// Urgent is TCP's urgent data, of which a Synch is made (RFC 854). A net.Conn
// that has these methods, as socket.Conn, is used by them; for one of package
// net there is kernel.UrgentOf.
type Urgent interface {
	SetOOBInline(on bool) error              // leaves the urgent byte in the stream
	UrgentPending() (bool, error)            // there is some that was not read
	WriteUrgent(b []byte) (n int, err error) // the last byte of b is urgent
}

// Config is how connections behave. It may be shared; nothing in it is changed.
// The zero value is ready.
type Config struct {
	// Client and Server are what the usual options of the two ends tell and
	// ask for. Options, if not nil, makes others in their place: each
	// connection needs its own.
	Client  option.ClientConfig
	Server  option.ServerConfig
	Options func() []engine.Option
	// Extra makes options in addition.
	Extra func() []engine.Option

	Limits engine.Limits
	// Accept may overrule what the peer is allowed: see engine.Config.
	Accept func(side engine.Side, code engine.Code, allowed bool) bool
	// Enable is asked for at once, before the usual negotiation.
	Enable []Ask
	// Passive does not negotiate by itself, only answers.
	Passive bool
	// LineMode makes a server leave the editing of lines to the client: it
	// does not offer ECHO and SUPPRESS GO AHEAD.
	LineMode bool
	// NeverGA makes GoAhead do nothing.
	NeverGA bool

	// CompressTLS allows MCCP over TLS, where the length of what is compressed
	// together with a secret betrays it. What Options makes is not looked at.
	CompressTLS bool

	// MaxWait bounds Handshake: 1.5 s if zero. A peer that is silent, or leaves
	// one option open, costs no more.
	MaxWait time.Duration
	// AckWait is how long what is wanted waits behind a WONT or DONT that the
	// peer has not acknowledged: 2 s if zero. Some never do.
	AckWait time.Duration

	// Charset is that of text until the peers agree on another, "UTF-8" if
	// empty. With ForceCharset it stays.
	Charset      string
	ForceCharset bool
	// MaxLine bounds the bytes of a line of text and of what is received while
	// nobody reads: 64 KiB if zero.
	MaxLine int

	// Event, if not nil, is told what is received beside data, by the goroutine
	// that reads, with no lock held. What it is told of comes in its place
	// between the data of Read.
	Event func(c *Conn, ev engine.Event)
	// Trace is told every verb, command and subnegotiation, with locks held.
	Trace func(c *Conn, sent bool, cmd engine.Command, code engine.Code, content []byte)
	// Urgent returns the urgent data of a connection that does not have it
	// itself, or nil.
	Urgent func(net.Conn) Urgent
	// Record, if not nil, is written what passes on the wire: see Recorder.
	Record *Recorder
}

// Ask is an option that is asked for: of Us by WILL, of Him by DO.
type Ask struct {
	Side engine.Side
	Code engine.Code
}

func (c *Config) maxWait() time.Duration { return orDuration(c.MaxWait, 1500*time.Millisecond) }
func (c *Config) ackWait() time.Duration { return orDuration(c.AckWait, 2*time.Second) }

func orDuration(d, def time.Duration) time.Duration {
	if d <= 0 {
		return def
	}
	return d
}

func (c *Config) maxLine() int {
	if c.MaxLine <= 0 {
		return 64 << 10
	}
	return c.MaxLine
}

func (c *Config) options(r engine.Role, isTLS bool) []engine.Option {
	plain := isTLS && !c.CompressTLS
	var o []engine.Option
	switch {
	case c.Options != nil:
		o = c.Options()
	case r == engine.Client:
		cc := c.Client
		if cc.Charsets == nil && !c.ForceCharset {
			cc.Charsets = []string{c.charset()}
			if c.Charset == "" {
				cc.KnownCharset = KnownCharset
			}
		} else if cc.Charsets == nil {
			cc.Charsets = []string{c.charset()}
		}
		cc.NoCompress = cc.NoCompress || plain
		o = option.Client(cc)
	default:
		sc := c.Server
		if sc.Charsets == nil {
			sc.Charsets = []string{c.charset()}
			if !c.ForceCharset {
				sc.Charsets = append(sc.Charsets, otherCharsets(c.charset())...)
			}
		}
		sc.Compress = sc.Compress && !plain
		o = option.Server(sc)
	}
	if c.Extra != nil {
		o = append(o, c.Extra()...)
	}
	return o
}

func (c *Config) charset() string {
	if c.Charset == "" {
		return "UTF-8"
	}
	return c.Charset
}
