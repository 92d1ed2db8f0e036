package client

import (
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/telnet"
)

// TestPasswordIsNotShown: what is typed while the server has ECHO and does not
// use it is seen nowhere, again and again; what is typed else is.
func TestPasswordIsNotShown(t *testing.T) {
	var script strings.Builder
	port, conns := far(t, &telnet.Config{Passive: true})
	u := sit(t, Config{Host: "127.0.0.1", Port: port, Typescript: &script})
	u.await(t, "Escape character")
	c := <-conns
	text := c.Text()
	for range 2 {
		got := make(chan string, 2)
		go func() {
			s, _ := text.ReadPassword("Password: ")
			got <- s
			s, _ = text.ReadLine()
			got <- s
		}()
		u.await(t, "Password: ")
		u.awaitMode(true, false)
		u.typed("hush\n")
		if s := <-got; s != "hush" {
			t.Errorf("%q", s)
		}
		u.awaitMode(true, true)
		u.typed("hello\n")
		if s := <-got; s != "hello" {
			t.Errorf("%q", s)
		}
		if seen := u.await(t, "hello"); strings.Contains(seen, "hush") {
			t.Errorf("the password is seen: %q", seen)
		}
	}
	c.Close()
	u.await(t, "Connection closed by foreign host.")
	u.end()
	if s := script.String(); strings.Contains(s, "hush") || !strings.Contains(s, "Password: ") {
		t.Errorf("typescript %q", s)
	}
}

// TestAutoflush: behind an interrupt nothing is shown until the server has
// answered the timing mark that follows it; and localchars makes the key a
// command where the server edits.
func TestAutoflush(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	u := sit(t, Config{Host: "127.0.0.1", Port: port})
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	expect := func(want string) {
		t.Helper()
		got := make([]byte, len(want))
		if n, err := io.ReadFull(c, got); err != nil || string(got) != want {
			t.Fatalf("%x, not %x: %v", got[:n], want, err)
		}
	}
	u.await(t, "Escape character")
	io.WriteString(c, "\xff\xfb\x03hello") // with text the beginning is over
	u.await(t, "hello")
	expect("\xff\xfd\x03")
	u.awaitMode(false, false)
	u.typed("\x1dtoggle autoflush localchars\n")
	u.await(t, "telnet> ")
	u.awaitMode(false, false)
	u.signals <- os.Interrupt
	expect("\xff\xf4\xff\xfd\x06")
	io.WriteString(c, "what nobody wants\xff\xfc\x06an answer")
	if text := u.await(t, "answer"); strings.Contains(text, "nobody") {
		t.Errorf("%q", text)
	}
	u.typed("\x1dunset autoflush\n")
	u.await(t, "telnet> ")
	u.awaitMode(false, false)
	u.signals <- os.Interrupt
	expect("\xff\xf4")
	io.WriteString(c, "nobody wants")
	u.await(t, "nobody wants")
	u.typed("\x1dquit\n")
	u.await(t, "Connection closed.")
	u.end()
}
