package tcp

import (
	"fmt"
	"reflect"
)

// bare completes a connection that a test has put together itself.
func bare(c Conn) *Conn {
	c.flight, c.extras = new(flight), &noExtras
	c.rack.rackFlight = &c.flight.rackFlight
	return &c
}

// sharedWritten reports whether what all connections share has been written to.
func sharedWritten() error {
	for what, v := range map[string]any{"asleep": asleep, "noExtras": noExtras, "noKnobs": noKnobs} {
		if !reflect.ValueOf(v).IsZero() {
			return fmt.Errorf("%s was written to: %+v", what, v)
		}
	}
	return nil
}
