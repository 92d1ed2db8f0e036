package tcp

import (
	"strconv"
	"testing"
)

// afterQuick is an opening and n segments of 10 bytes that quick mode answers
// at once. 16 use it up.
func afterQuick(n int) string {
	s := opened
	for i := range n {
		s += line("<", "P.", 1+i*10, 10, "ack 1") + "> . 1:1(0) ack " + strconv.Itoa(11+i*10) + "\n"
	}
	return s
}

func TestQuickAcks(t *testing.T) {
	scripts(t, map[string]string{
		"sixteen at the start": afterQuick(16) + `
			< P. 161:171(10) ack 1
			+40ms > . 1:1(0) ack 171
		`,
		"no more than half the window's segments": `
			config rcvbuf=5000
		` + opened + `
			< . 1:1001(1000) ack 1
			> . 1:1(0) ack 1001
			< . 1001:2001(1000) ack 1
			> . 1:1(0) ack 2001
			< . 2001:3001(1000) ack 1
			+40ms > . 1:1(0) ack 3001
		`,
		"two at least": `
			config rcvbuf=1000
		` + opened + `
			< . 1:301(300) ack 1
			> . 1:1(0) ack 301
			< . 301:601(300) ack 1
			> . 1:1(0) ack 601
			< . 601:901(300) ack 1
			+40ms > . 1:1(0) ack 901
		`,
		"our own text uses none up unless it acknowledges": opened + `
			knob nodelay 1
			write 1
			> P. 1:2(1) ack 1
			write 1
			> P. 2:3(1) ack 1
			< . 1:1(0) ack 3
		` + func() (s string) {
			for i := range 16 {
				s += line("<", "P.", 1+i*10, 10, "ack 3") + "> . 3:3(0) ack " + strconv.Itoa(11+i*10) + "\n"
			}
			return s
		}() + `
			< P. 161:171(10) ack 3
			+40ms > . 3:3(0) ack 171
		`,
		"again when the peer repeats itself": afterQuick(16) + `
			< P. 151:161(10) ack 1
			> . 1:1(0) ack 161
			< P. 161:171(10) ack 1
			> . 1:1(0) ack 171
		`,
	})
}

func TestAckTimeout(t *testing.T) {
	// a path of 100 ms
	const far = `
		connect
		> S 0:0(0)
		+100ms
		< S. 0:0(0) ack 1 win 65535 <mss 1460>
		> . 1:1(0) ack 1
		knob quickack 0
	`
	scripts(t, map[string]string{
		"the delay grows with the rhythm, up to the round trip": far + `
			< P. 1:11(10) ack 1
			+30ms
			write 1
			> P. 1:2(1) ack 11
			< P. 11:21(10) ack 2
			+30ms
			write 1
			> P. 2:3(1) ack 21
			< P. 21:31(10) ack 3
			+55ms > . 3:3(0) ack 31 // 40/2+30, then 50/2+30
			< P. 31:41(10) ack 3
			> . 3:3(0) ack 41 // it was the end of the conversation
		`,
		"a delay that nothing shared makes the next longer": afterQuick(16) + `
			< P. 161:171(10) ack 1
			+40ms > . 1:1(0) ack 171
			< P. 171:181(10) ack 1
			+40ms > . 1:1(0) ack 181 // the round trip is short
		`,
		"about to expire, it does not wait for a further segment": afterQuick(16) + `
			< P. 161:171(10) ack 1
			+35ms
			< P. 171:181(10) ack 1
			> . 1:1(0) ack 181
		`,
	})
}

func TestReaderAcks(t *testing.T) {
	scripts(t, map[string]string{
		"all read after a small segment: the peer may be waiting": afterQuick(16) + `
			read 160
			< P. 161:171(10) ack 1
			read 5
			read 5
			> . 1:1(0) ack 171
		`,
		"in a conversation the answer will tell": afterQuick(16) + `
			read 160
			knob quickack 0
			< P. 161:171(10) ack 1
			read 10
			write 10
			> P. 1:11(10) ack 171
		`,
		"a second small segment is waited for no longer": afterQuick(16) + `
			read 160
			knob quickack 0
			< P. 161:171(10) ack 1
			< P. 171:181(10) ack 1
			read 20
			> . 1:1(0) ack 181
		`,
		"a full segment is: more will follow": afterQuick(16) + `
			read 160
			< . 161:1621(1460) ack 1
			read 1460
			+40ms > . 1:1(0) ack 1621
		`,
	})
}

// TestQuickAckKnob is TCP_QUICKACK.
func TestQuickAckKnob(t *testing.T) {
	scripts(t, map[string]string{
		"on by itself until there is a conversation": opened + `
			get quickack 1
			< P. 1:11(10) ack 1
			> . 1:1(0) ack 11
			write 10
			> P. 1:11(10) ack 11
			get quickack 0
		`,
		"turned off": opened + `
			knob quickack 0
			get quickack 0
			< P. 1:11(10) ack 1
			+40ms > . 1:1(0) ack 11
			get quickack 1 // nothing came to carry it
		`,
		"turned on, an ACK that waits goes if all is read": opened + `
			knob quickack 0
			< P. 1:11(10) ack 1
			read 10
			knob quickack 1
			> . 1:1(0) ack 11
			get quickack 1
		`,
		"for once": opened + `
			knob quickack 0
			< P. 1:11(10) ack 1
			read 10
			knob quickack 2
			> . 1:1(0) ack 11
			get quickack 0
		`,
		"off before the handshake: the client's text carries its last ACK": `
			knob quickack 0
			connect
			> S 0:0(0)
			< S. 0:0(0) ack 1 win 65535 <mss 1460>
			state ESTABLISHED
			+100ms
			write 10
			> P. 1:11(10) ack 1
		`,
		"so it does when a writer waits": `
			connect
			> S 0:0(0)
			wait 10 = EAGAIN
			< S. 0:0(0) ack 1 win 65535 <mss 1460>
			state ESTABLISHED
			write 10
			> P. 1:11(10) ack 1
		`,
		"not when a writer only looked in": `
			connect
			> S 0:0(0)
			wait 10 = EAGAIN
			write 10 = EAGAIN
			< S. 0:0(0) ack 1 win 65535 <mss 1460>
			> . 1:1(0) ack 1
		`,
		"so does TCP_DEFER_ACCEPT, 200 ms long": `
			knob defer 5
			connect
			> S 0:0(0)
			< S. 0:0(0) ack 1 win 65535 <mss 1460>
			state ESTABLISHED
			+200ms > . 1:1(0) ack 1
		`,
	})
}
