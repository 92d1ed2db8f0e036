package telnet

import (
	"errors"
	"io"
	"net"
	"testing"

	"github.com/tapstack/tapstack/telnet/engine"
)

// TestCloseWrite: what was said before is heard, and the other half goes on.
func TestCloseWrite(t *testing.T) {
	a, b := tcpPair(t)
	c, s := NewClientConn(a, &Config{Passive: true}), NewServerConn(b, &Config{Passive: true})
	c.Enable(engine.Him, engine.SGA)
	io.WriteString(c, "all\xff")
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(s); string(got) != "all\xff" || err != nil {
		t.Errorf("%q %v", got, err)
	}
	io.WriteString(s, "answer")
	s.Close()
	if got, err := io.ReadAll(c); string(got) != "answer" || err != nil || !c.On(engine.Him, engine.SGA) {
		t.Errorf("%q %v", got, err)
	}
	x, y := net.Pipe()
	defer y.Close()
	if err := NewClientConn(x, nil).CloseWrite(); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
}
