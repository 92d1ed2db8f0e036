// Package tcp is the Transmission Control Protocol of RFC 9293 as a pure state
// machine: segments and a time in, segments and a deadline out. It has no
// locks, goroutines, clock or I/O, and the same calls at the same times always
// do the same thing. Who owns a connection calls
//
//	Input      when a segment arrived,
//	Expire     when Deadline has come,
//	Read, Write, CloseWrite, Close, ...   when the user says so,
//
// and after each of them Output, until it returns false. Nothing but Output
// makes a segment, so there is one place that knows what goes next.
//
// # The way of a segment
//
//	bytes -> Parse -> Conn.Input                         input.go
//	                    sequence number, RST, SYN        RFC 9293 §3.10.7.4, one to four
//	                    ACK -> inputAck                  send.go: frees, measures, opens windows
//	                             -> inputSack            sack.go, scoreboard.go: what arrived
//	                             -> detectLoss           rack.go: what is lost
//	                             -> repair, newAck       recover.go, prr.go, tlp.go: what follows
//	                             -> endAck               ecn.go, accfeedback.go: what was marked;
//	                                                     congestion.go, rate.go: tells cc.Controller,
//	                                                     which says how fast to go on
//	                    text -> inOrder, outOfOrder      receive.go, reassembly.go
//	                    FIN -> inputFin
//
//	Conn.Output -> RST?  SYN?  lost text?  tail?  new text, FIN?  probe?  ACK?
//	            -> Segment -> PutHeader -> bytes         output.go, segment.go
//	                                                     as windows and pacing.go allow
//
// # States
//
// Figure 5 of RFC 9293 §3.3.2; state.go has it as a table.
//
//	             CLOSED                        LISTEN (the owner's table)
//	               | NewActive                    | SYN: NewSynRequest
//	               v                              v
//	           SYN-SENT ---- SYN ------> SYN-RECEIVED (SynRequest, or
//	               |                       |       Conn if both sides opened)
//	       SYN-ACK |        ACK of SYN     |
//	               +----> ESTABLISHED <----+
//	     CloseWrite |                   | FIN
//	                v                   v
//	   +-- FIN-WAIT-1 -- FIN --+    CLOSE-WAIT
//	   | ACK of FIN            |        | CloseWrite
//	   v                       v        v
//	FIN-WAIT-2              CLOSING   LAST-ACK
//	   | FIN                   |        | ACK of FIN
//	   |           ACK of FIN  |        v
//	   +-----> TIME-WAIT <-----+      CLOSED
//	         (TimeWaitRecord)
//	               | 2 MSL
//	               v
//	             CLOSED
//
// A passive open is a SynRequest until the third segment of the handshake, and
// TIME-WAIT is a TimeWaitRecord: records of some hundred bytes, so that
// neither a flood of SYNs nor many finished connections cost much.
// When there is no room for another record a SYN is answered with a cookie and
// forgotten (syncookie.go). With Fast Open the SYN makes a Conn at once, and may
// carry text (fastopen.go).
//
// # Sequence space
//
// Numbers keep their names of RFC 9293 §3.3.1 and are compared modulo 2^32
// (package seq). Sent text stays in a ring until it is acknowledged, and is cut
// into segments anew each time it is sent:
//
//	    sndUna                       sndNxt           sndUna+sndWnd
//	-----|------------------------------|------------------|-----
//	     |  sent, not acknowledged      |  may be sent     |
//	     |<------------- ring: what the user wrote -------------->|
//
// Received text goes to its place in another ring, in order or not:
//
//	       rcvNxt                               rcvAdv
//	--------|--------[####]-----------[##]--------|-----
//	 ring   |    gap, and text beyond it          |  not promised
//
// # Departures
//
// Where an RFC leaves a choice the package does what Linux does. Where it
// departs from an RFC a comment begins with "Departs from" and gives the
// reason. In short: a window probe is an old number rather than a new octet;
// an empty segment at the right edge of the window is accepted; orphans in
// FIN-WAIT-2 end after a minute; the urgent byte is taken out of the stream
// unless the user wants it inline; fast recovery probes its tail, too; after a pause the congestion window is halved for each
// time-out it lasted instead of falling to the initial one.
package tcp
