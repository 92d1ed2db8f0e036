package engine

// Drop is a reason for which something that was received had no effect.
type Drop uint8

// The reasons.
const (
	DropRefused      Drop = iota // a request for an option that we do not perform
	DropSubnegLimit              // a subnegotiation longer than Limits.Subneg
	DropSubnegBroken             // a subnegotiation that a command broke off
	DropSubnegOff                // a subnegotiation of an option that is off or unknown
	DropSubnegEmpty              // a subnegotiation without even an option
	DropMalformed                // a subnegotiation whose content made no sense
	DropLimit                    // more variables, names or nesting than Limits allow
	DropUnknown                  // an IAC before a byte that is no command
	DropStray                    // an answer to something that was not asked
	DropSynch                    // bytes of data between a Synch and its data mark
	DropAfterCorrupt             // bytes after a compressed stream broke
	numDrops
)

var dropNames = [numDrops]string{"refused", "subneg-limit", "subneg-broken", "subneg-off", "subneg-empty", "malformed",
	"limit", "unknown-command", "stray", "synch", "corrupt"}

func (d Drop) String() string {
	if d < numDrops {
		return dropNames[d]
	}
	return "invalid"
}

// Drops returns how often there was each reason.
func (e *Engine) Drops() map[Drop]uint64 {
	m := make(map[Drop]uint64)
	for d, n := range e.drops {
		if n != 0 {
			m[Drop(d)] = n
		}
	}
	return m
}

// Count adds one to a reason: for options.
func (e *Engine) Count(d Drop) { e.count(d) }

func (e *Engine) count(d Drop) { e.drops[d]++ }
