package tcp

// This file owns what only some connections have: those that lost something,
// that negotiated something, or that somebody watches. All others share one
// value of zeros, which can be read like any other.

// extras is made with the first thing that has to be kept in it.
type extras struct {
	ecn   *ecnState  // nil: ECN was not agreed on
	mtu   *mtuSearch // nil: the path is believed to carry what it should
	fo    *fastOpen  // opened with text in the SYN; nil: in the ordinary way
	tr    *tracer    // nil: nobody watches
	pace  *pacer     // nil until something was paced
	recs  *records   // nil: the user's writing has no records
	below Below      // nil: packets have nothing but the fixed header below
	uto   timeoutOption
	undo  undo
	mishaps
}

// mishaps are the counters of Info that most connections leave at 0.
type mishaps struct {
	own        [numOwnCounters]uint32
	dsackDups  uint32
	episodes   uint32 // runs of time-outs
	inEpisodes uint32 // milliseconds spent in them
	episodeAt  uint32 // when the one now began, in milliseconds; 0: none
	bytesAgain uint64
}

// noExtras is what connections without extras read. Nothing is written to it:
// whoever writes asks extra, or has just read there what is not zero.
var noExtras extras

// extra returns the connection's extras to be written to.
func (c *Conn) extra() *extras {
	if c.extras == &noExtras {
		c.extras = new(extras)
	}
	return c.extras
}
