package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/telnet"
	"github.com/tapstack/tapstack/telnet/expect"
)

// inhabited serves a world, and returns how to enter it.
func inhabited(t *testing.T) (ctx context.Context, enter func() (*telnet.Conn, *expect.Expecter)) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := newServer()
	go server.Serve(l)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(func() { server.Close(); cancel() })
	return ctx, func() (*telnet.Conn, *expect.Expecter) {
		t.Helper()
		c, err := new(telnet.Dialer).DialContext(ctx, "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		e := expect.New(c.Text())
		e.EOL = "\n" // Text makes the ends of lines
		if _, err := e.ReadUntil(ctx, "known? "); err != nil {
			t.Fatal(err)
		}
		return c, e
	}
}

// TestPlayers: one speaks, the others hear, but for what is no text; names are
// of one player each.
func TestPlayers(t *testing.T) {
	ctx, enter := inhabited(t)
	hear := func(e *expect.Expecter, what string) {
		t.Helper()
		if _, err := e.ReadUntil(ctx, what); err != nil {
			t.Fatal(err)
		}
	}
	_, ann := enter()
	ann.SendLine("Ann")
	hear(ann, "Ann: (enters)\n> ")
	_, bob := enter()
	bob.SendLine("Bob")
	hear(ann, "Bob: (enters)\n> ")
	hear(bob, "Bob: (enters)\n> ")
	_, other := enter()
	other.SendLine("Ann")
	if said, err := other.ReadAll(ctx); err != nil || said != "" {
		t.Errorf("%q %v", said, err)
	}
	ann.SendLine("grüß \x1b[2J\adich")
	for _, e := range []*expect.Expecter{ann, bob} {
		hear(e, "Ann: grüß [2Jdich\n> ")
	}
	ann.SendLine("quit")
	hear(bob, "Ann: (leaves)\n> ")
}

// TestNobody: who leaves before giving a whole name is no player, and takes
// nobody's name.
func TestNobody(t *testing.T) {
	ctx, enter := inhabited(t)
	c, e := enter()
	if err := e.Send("An"); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := e.ReadAll(ctx); err != nil {
		t.Fatal(err)
	}
	_, an := enter()
	an.SendLine("An")
	if _, err := an.ReadUntil(ctx, "An: (enters)\n> "); err != nil {
		t.Fatal(err)
	}
}

// TestDeafPlayer: who does not read holds nobody up.
func TestDeafPlayer(t *testing.T) {
	ctx, enter := inhabited(t)
	c, deaf := enter()
	c.NetConn().(*net.TCPConn).SetReadBuffer(4096)
	deaf.SendLine("Deaf")
	_, ann := enter()
	ann.SendLine("Ann")
	long := strings.Repeat("x", 4000) // what Ann has not read yet finds room in any case
	for i := 0; ; i++ {
		ann.SendLine(fmt.Sprint(long, i))
		got, err := ann.ReadUntil(ctx, "\n> ")
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(got, "Deaf: (leaves)\n> ") {
			return
		}
	}
}

// TestDocument: the documentation shows the world as it is, in the thirty lines
// that it speaks of.
func TestDocument(t *testing.T) {
	code, err := os.ReadFile("world.go")
	if err != nil {
		t.Fatal(err)
	}
	_, world, _ := strings.Cut(string(code), ")\n\n")
	text, err := os.ReadFile("../../docs/telnet.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "```go\n"+world+"```\n") {
		t.Error("docs/telnet.md shows something else")
	}
	lines := 0
	for line := range strings.Lines(world) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "//") {
			lines++
		}
	}
	if lines > 30 {
		t.Errorf("%d lines", lines)
	}
}
