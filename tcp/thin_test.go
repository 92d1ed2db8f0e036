package tcp

import "testing"

func TestThinLinear(t *testing.T) {
	scripts(t, map[string]string{
		"little in flight: six at one distance, then doubled": opened + `
			knob thin 1
			write 10
			> P. 1:11(10) ack 1
			+200ms > P. 1:11(10) ack 1
			+200ms > P. 1:11(10) ack 1
			+200ms > P. 1:11(10) ack 1
			+200ms > P. 1:11(10) ack 1
			+200ms > P. 1:11(10) ack 1
			+200ms > P. 1:11(10) ack 1
			+200ms > P. 1:11(10) ack 1
			+400ms > P. 1:11(10) ack 1
			+800ms > P. 1:11(10) ack 1
		`,
		"four segments are no longer thin": opened + `
			knob thin 1
			write 5840
			> . 1:1461(1460) ack 1
			> . 1461:2921(1460) ack 1
			> . 2921:4381(1460) ack 1
			> P. 4381:5841(1460) ack 1
			+200ms > . 1:1461(1460) ack 1
			+400ms > . 1:1461(1460) ack 1
		`,
	})
}
