package telnet

import (
	"context"
	"io"
	"testing"
	"testing/synctest"

	"github.com/tapstack/tapstack/telnet/engine"
)

// TestLogoutEnds: a server that agrees to a logout lets the client go, whatever
// serves the session (RFC 727). What was said before is served.
func TestLogoutEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := pipe()
		heard := ""
		s := &Server{Config: &Config{Passive: true}, Handler: HandlerFunc(func(_ context.Context, c *Conn) {
			b, err := io.ReadAll(c)
			heard = string(b)
			if err != nil || !c.Bye() {
				t.Error(err, c.Bye())
			}
		})}
		over := make(chan string)
		go func() {
			said, _ := io.ReadAll(far)
			over <- string(said)
		}()
		go far.Write([]byte{'g', 'o', byte(engine.IAC), byte(engine.DO), byte(engine.Logout)})
		s.ServeConn(near)
		if said := <-over; heard != "go" || said != "\xff\xfb\x12" {
			t.Errorf("heard %q, said %q", heard, said)
		}
	})
}
