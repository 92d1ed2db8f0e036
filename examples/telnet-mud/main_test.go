package main

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/tapstack/tapstack/telnet"
	"github.com/tapstack/tapstack/telnet/expect"
)

// TestTwoPlayers: one speaks, the other hears.
func TestTwoPlayers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := newServer()
	go server.Serve(l)
	defer server.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	player := func(name string) *expect.Expecter {
		c, err := new(telnet.Dialer).DialContext(ctx, "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		e := expect.New(c.Text())
		e.EOL = "\n" // Text makes the ends of lines
		for _, step := range [][2]string{{"known? ", name}, {name + " has come.\n> ", ""}} {
			if _, err := e.ReadUntil(ctx, step[0]); err != nil {
				t.Fatal(err)
			}
			if step[1] != "" {
				e.SendLine(step[1])
			}
		}
		return e
	}
	ann, bob := player("Ann"), player("Bob")
	ann.SendLine("grüß dich")
	for _, e := range []*expect.Expecter{ann, bob} {
		if _, err := e.ReadUntil(ctx, "Ann says: grüß dich\n"); err != nil {
			t.Error(err)
		}
	}
	ann.SendLine("quit")
	if _, err := bob.ReadUntil(ctx, "Ann has left.\n"); err != nil {
		t.Error(err)
	}
}
