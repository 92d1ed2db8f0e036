package telnet

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstack/tapstack/telnet/engine"
)

// asking is a peer that asks and reads nothing, until the connection is closed.
func asking(far net.Conn) (over chan bool) {
	over = make(chan bool)
	go func() {
		defer close(over)
		flood(far, []byte("\xff\xf6\xff\xfd\xc8\xff\xfd\xc9\xff\xfd\xca"))
	}()
	return over
}

// TestReadDeadlineWhileAnswering: a read ends at its deadline, as that is by then,
// though there are answers that the peer does not take.
func TestReadDeadlineWhileAnswering(t *testing.T) {
	for name, set := range map[string]func(c *Conn){
		"set before": func(c *Conn) { c.SetReadDeadline(time.Now().Add(time.Second)) },
		"set meanwhile": func(c *Conn) {
			c.SetReadDeadline(time.Now().Add(time.Hour))
			time.AfterFunc(time.Second, func() { c.SetReadDeadline(time.Unix(1, 0)) })
		},
	} {
		for kind, cfg := range map[string]*Config{"answers": {Passive: true}, "first words": {}} {
			t.Run(name+" "+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					near, far := pipe()
					c := NewServerConn(near, cfg)
					over := asking(far)
					start := time.Now()
					set(c)
					if _, err := c.Read(make([]byte, 100)); !IsTimeout(err) || time.Since(start) != time.Second {
						t.Errorf("%v after %v", err, time.Since(start))
					}
					c.Close()
					far.Close()
					<-over
				})
			})
		}
	}
}

// TestOwedIsBounded: what is owed to a peer that takes nothing does not grow,
// whatever the deadline of writes.
func TestOwedIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := pipe()
		c := NewServerConn(near, &Config{Passive: true})
		over := asking(far)
		c.SetWriteDeadline(time.Unix(1, 0))
		for range 100 { // who serves does not give up
			c.SetReadDeadline(time.Now().Add(time.Second))
			if _, err := c.Read(make([]byte, 4096)); !IsTimeout(err) {
				t.Fatal(err)
			}
		}
		c.View(func(e *engine.Engine) {
			if n := len(c.wr.tail) + e.Pending(); n > 2*answerAt {
				t.Errorf("%d bytes are owed", n)
			}
		})
		// Who takes them after all gets them whole.
		c.SetDeadline(time.Time{})
		took := make(chan int)
		go func() {
			b, n := make([]byte, 4096), 0
			for {
				m, err := far.Read(b)
				if n += m; err != nil {
					took <- n
					return
				}
			}
		}()
		go c.Read(make([]byte, 100))
		synctest.Wait()
		c.Close()
		far.Close()
		<-over
		if n := <-took; n < 1<<18/11*9 {
			t.Errorf("%d bytes of answers", n)
		}
	})
}

// TestCutOffAnswerIsSent: an answer that a deadline has cut off goes out with the
// next read.
func TestCutOffAnswerIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := pipe()
		c := NewServerConn(near, &Config{Passive: true})
		go far.Write([]byte("\xff\xfd\xc8"))
		c.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := c.Read(make([]byte, 100)); !IsTimeout(err) {
			t.Fatal(err)
		}
		c.SetReadDeadline(time.Time{})
		go c.Read(make([]byte, 100))
		b := make([]byte, 100)
		if n, err := far.Read(b); string(b[:n]) != "\xff\xfc\xc8" || err != nil {
			t.Errorf("%q %v", b[:n], err)
		}
		c.Close()
		far.Close()
	})
}
