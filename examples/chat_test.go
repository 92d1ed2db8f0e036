package examples_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/tapstack/tapstack/internal/lab"
)

// talker is one who chats from the kernel's side.
type talker struct {
	t     *testing.T
	name  string
	conn  *net.TCPConn
	lines *bufio.Reader
}

func enter(t *testing.T, l *lab.Lab, address, name string) *talker {
	t.Helper()
	c := dial(t, l, address)
	k := &talker{t, name, c, bufio.NewReader(c)}
	k.hear("* your name?")
	k.say(name)
	return k
}

func (k *talker) say(line string) {
	k.t.Helper()
	if _, err := io.WriteString(k.conn, line+"\n"); err != nil {
		k.t.Fatalf("%s: %v", k.name, err)
	}
}

// next is the next line that k is told.
func (k *talker) next() string {
	k.t.Helper()
	line, err := k.lines.ReadString('\n')
	if err != nil {
		k.t.Fatalf("%s: %v", k.name, err)
	}
	return strings.TrimSuffix(line, "\n")
}

func (k *talker) hear(want string) {
	k.t.Helper()
	if got := k.next(); got != want {
		k.t.Fatalf("%s hears %q and not %q", k.name, got, want)
	}
}

func TestChat(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	lab.RequireProgram(t, "nc")
	start(t, l, 0, "chat")
	const welcome = "* welcome; /who tells who is here, /quit ends"
	ann := enter(t, l, "10.77.0.7:7777", "ann")
	ann.hear(welcome)
	nc := spawn(t, l, "nc", "10.77.0.7", "7777")
	nc.waitFor("* your name?")
	for name, answer := range map[string]string{"ann": "* somebody else has that name: your name?", "a: b": "* 1 to 20 letters and digits, please: your name?"} {
		fmt.Fprintln(nc.in, name)
		nc.waitFor(answer)
	}
	fmt.Fprintln(nc.in, "ben")
	nc.waitFor(welcome)
	ann.hear("* ben has come")
	eva := enter(t, l, "[fd77::7]:7777", "eva")
	eva.hear(welcome)
	ann.hear("* eva has come")
	nc.waitFor("* eva has come")

	// What could play tricks on a terminal does not get through.
	ann.say("\x1b[2Jhello\a, w\xffelcome\r")
	nc.waitFor("ann: [2Jhello, welcome")
	eva.hear("ann: [2Jhello, welcome")
	fmt.Fprintln(nc.in, "good day")
	ann.hear("ben: good day")
	eva.hear("ben: good day")
	eva.say("/who")
	eva.hear("* here are ann, ben, eva")

	nc.in.Close() // end of input; without -N nc keeps its side open, so it is ended
	_ = nc.cmd.Process.Kill()
	ann.hear("* ben has gone")
	eva.hear("* ben has gone")
	eva.say("/quit")
	ann.hear("* eva has gone")
	if rest, err := io.ReadAll(eva.lines); err != nil || len(rest) != 0 {
		t.Errorf("after /quit: %q, %v", rest, err)
	}
	ann.say(strings.Repeat("x", 2000))
	ann.hear("* a message has at most 1000 bytes")
}

// TestChatSlow: one who does not read holds nobody up, misses what does not
// fit, and is thrown out.
func TestChatSlow(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	start(t, l, 0, "chat", "--patience", "500ms")
	ann, ben := enter(t, l, "10.77.0.7:7777", "ann"), enter(t, l, "10.77.0.7:7777", "ben")
	ben.next()
	ann.next()
	ann.hear("* ben has come")
	slow := enter(t, l, "10.77.0.7:7777", "slow")
	if err := slow.conn.SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	ann.hear("* slow has come")
	ben.hear("* slow has come")
	// Ann and Ben answer each other, so neither can be slow; the connection of
	// the third fills, then its queue.
	text := strings.Repeat("x", 900)
	for i := 0; ; i++ {
		ben.say(text)
		got := ann.next()
		if got == "* slow has gone" {
			ann.hear("ben: " + text)
			break
		}
		if got != "ben: "+text {
			t.Fatalf("ann hears %q", got)
		}
		if i == 1e6 {
			t.Fatal("who does not read is still there")
		}
	}
	ben.hear("* slow has gone")
	ben.say("/who")
	ben.hear("* here are ann, ben")
	// It is told by a reset that it has not got everything.
	all, err := io.ReadAll(slow.lines)
	if err == nil {
		t.Errorf("the slow one got %d bytes and a proper end", len(all))
	}
	if i := slices.Index(strings.Split(string(all), "\n"), "ben: "+text); i < 0 {
		t.Error("the slow one got nothing")
	}
}
