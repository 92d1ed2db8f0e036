package tcp

import (
	"time"

	"github.com/tapstack/tapstack/internal/budget"
	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns how a connection keeps its configuration: most of a Config is
// the same for all connections of a host, and is kept once for all of them.

// Shared is the part of a Config that is the same for all connections of a
// host, with the defaults filled in. It is not changed once it is made; its
// fields mean what those of Config do.
type Shared struct {
	RcvBuf, SndBuf int
	Memory         *budget.Budget
	Totals         *Totals
	Challenge      func(now mono.Time) bool

	MinRTO, MaxRTO, InitialRTO     time.Duration
	DelayedAck, TimeWait, FinWait2 time.Duration
	SynRetries, SynAckRetries      int
	Retries                        int
	InitCwnd                       int
	KeepIdleWindow                 bool
	NoTimestamps, NoSACK, NoWScale bool
	RFC1337                        bool
	ECN                            ECN
	MTUProbing                     MTUProbing
}

// NewShared makes the shared part of cfg and of all that differ from it only in
// what Shared does not have.
func NewShared(cfg *Config) *Shared {
	f := *cfg
	f.fill()
	return f.shared()
}

// shared is NewShared of a Config that is filled in.
func (cfg *Config) shared() *Shared {
	return &Shared{
		RcvBuf: cfg.RcvBuf, SndBuf: cfg.SndBuf,
		Memory: cfg.Memory, Totals: cfg.Totals, Challenge: cfg.Challenge,
		MinRTO: cfg.MinRTO, MaxRTO: cfg.MaxRTO, InitialRTO: cfg.InitialRTO,
		DelayedAck: cfg.DelayedAck, TimeWait: cfg.TimeWait, FinWait2: cfg.FinWait2,
		SynRetries: cfg.SynRetries, SynAckRetries: cfg.SynAckRetries, Retries: cfg.Retries,
		InitCwnd:       cfg.InitCwnd,
		KeepIdleWindow: cfg.KeepIdleWindow,
		NoTimestamps:   cfg.NoTimestamps, NoSACK: cfg.NoSACK, NoWScale: cfg.NoWScale,
		RFC1337: cfg.RFC1337, ECN: cfg.ECN, MTUProbing: cfg.MTUProbing,
	}
}

// connConfig is a Config as a connection keeps it: what is its own, and what it
// shares.
type connConfig struct {
	*Shared
	// Knobs is noKnobs, which is not written to, until the user sets something.
	Knobs *Knobs

	TSOffset              uint32
	MSS, RcvInit          int32
	LocalPort, RemotePort uint16
}

// noKnobs are the settings of a connection whose user has set nothing.
var noKnobs Knobs

// own is what a connection keeps of a Config that is filled in.
func (cfg *Config) own() connConfig {
	o := connConfig{
		Shared: cfg.Shared, Knobs: &noKnobs,
		TSOffset: cfg.TSOffset, MSS: int32(cfg.MSS), RcvInit: int32(cfg.RcvInit),
		LocalPort: cfg.LocalPort, RemotePort: cfg.RemotePort,
	}
	if o.Shared == nil {
		o.Shared = cfg.shared()
	}
	if cfg.Knobs != noKnobs {
		k := cfg.Knobs
		o.Knobs = &k
	}
	return o
}

// largestWindow is the most that is ever offered.
func (cfg *Config) largestWindow() int     { return cfg.Knobs.largestWindow(cfg.RcvBuf) }
func (cfg *connConfig) largestWindow() int { return cfg.Knobs.largestWindow(cfg.RcvBuf) }

func (k *Knobs) largestWindow(rcvBuf int) int {
	if n := int(k.windowClamp); n != 0 {
		return min(rcvBuf, n)
	}
	return rcvBuf
}

// firstWindow is the most that is offered at first.
func (cfg *Config) firstWindow() int     { return min(cfg.RcvInit, cfg.largestWindow()) }
func (cfg *connConfig) firstWindow() int { return min(int(cfg.RcvInit), cfg.largestWindow()) }

// agreeable returns what counts of the options of a SYN.
func (cfg *Config) agreeable(o *Options) Options {
	return agreeable(o, cfg.NoTimestamps, cfg.NoSACK, cfg.NoWScale)
}

func (cfg *Shared) agreeable(o *Options) Options {
	return agreeable(o, cfg.NoTimestamps, cfg.NoSACK, cfg.NoWScale)
}

func agreeable(o *Options, noTimestamps, noSACK, noWScale bool) Options {
	a := *o
	a.HasTS = a.HasTS && !noTimestamps
	a.SACKPermitted = a.SACKPermitted && !noSACK
	a.HasWScale = a.HasWScale && !noWScale
	return a
}
