// Chat is a chat server on TCP port 7777 for people with nc or telnet: one
// line, one message, told to all others. It shows many connections that meet
// in one place, and how to keep the slow from holding up the rest: what is
// said goes into a queue of each member, never straight to a connection; what
// does not fit is missed, and who takes nothing for 10 s is thrown out.
//
//	sudo make bridge tap && sudo go run ./examples/chat --tap tap7 --ip 10.77.0.7/24
//
// or without root, in the shell that `make lab` opens:
//
//	go run ./examples/chat &
//	nc 10.77.0.7 7777
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/spf13/pflag"

	"github.com/tapstack/tapstack/examples/internal/relay"
	"github.com/tapstack/tapstack/internal/attach"
)

var (
	port  = pflag.String("port", "7777", "TCP `PORT` to listen on")
	limit = pflag.Int("limit", 100, "the most members at a time")
	// writeWait is a flag for those who want to see it happen.
	writeWait = pflag.Duration("patience", 10*time.Second, "throw out a member who takes nothing for this `TIME`")
)

const (
	maxLine  = 1000        // bytes of one message
	queue    = 64          // messages that wait for one member
	nameWait = time.Minute // for a name to be given
)

func main() { attach.Main("", run) }

func run(ctx context.Context, host *attach.Host, _ []string) error {
	ln, err := host.Net.Listen("tcp", ":"+*port) // both families
	if err != nil {
		return err
	}
	r := room{members: make(map[string]*member)}
	return relay.Serve(ctx, ln, max(*limit, 1), func(conn net.Conn) {
		if err := r.serve(conn); err != nil && ctx.Err() == nil {
			log.Printf("%v: %v", conn.RemoteAddr(), err)
		}
	})
}

// room is where what one says is told to the others.
type room struct {
	mu      sync.Mutex
	members map[string]*member
}

// member is one who has given a name.
type member struct {
	conn   net.Conn
	out    chan string // closed by leave
	missed int         // since the last message that out had room for
}

// serve talks to one client until it leaves.
func (r *room) serve(conn net.Conn) error {
	lines := bufio.NewScanner(conn)
	lines.Buffer(make([]byte, maxLine), maxLine)
	name, m, err := r.greet(conn, lines)
	if m == nil {
		return err
	}
	written := make(chan error, 1)
	go func() { written <- m.write() }()
	log.Printf("%v: %s has come", conn.RemoteAddr(), name)

	for lines.Scan() {
		line := printable(lines.Text())
		if line == "/quit" {
			break
		}
		switch line {
		case "":
		case "/who":
			r.tell(m, "* here are "+strings.Join(r.names(), ", "))
		default:
			r.say(m, name+": "+line)
		}
	}
	err = lines.Err()
	if errors.Is(err, bufio.ErrTooLong) {
		r.tell(m, fmt.Sprintf("* a message has at most %d bytes", maxLine))
	}
	r.leave(name, m)
	if werr := <-written; werr != nil { // why reading has ended too
		err = werr
	}
	log.Printf("%v: %s has gone", conn.RemoteAddr(), name)
	return err
}

// nameForm keeps names apart from what the server says itself.
var nameForm = regexp.MustCompile(`^[\pL\pN_-]{1,20}$`)

// greet asks for a name until one will do, and lets its owner in.
func (r *room) greet(conn net.Conn, lines *bufio.Scanner) (string, *member, error) {
	if err := conn.SetDeadline(time.Now().Add(nameWait)); err != nil {
		return "", nil, err
	}
	question := "* your name?\n"
	for {
		if _, err := io.WriteString(conn, question); err != nil {
			return "", nil, err
		}
		if !lines.Scan() {
			return "", nil, lines.Err()
		}
		name := printable(lines.Text())
		if !nameForm.MatchString(name) {
			question = "* 1 to 20 letters and digits, please: your name?\n"
			continue
		}
		if m := r.join(name, conn); m != nil {
			return name, m, conn.SetDeadline(time.Time{})
		}
		question = "* somebody else has that name: your name?\n"
	}
}

// printable takes out of a line what could play tricks on the terminals of the
// others, and what telnet says to the server.
func printable(line string) string {
	return strings.TrimSpace(strings.Map(func(c rune) rune {
		if c == unicode.ReplacementChar || !unicode.IsPrint(c) {
			return -1
		}
		return c
	}, line))
}

// join lets conn in under a name, if nobody has it.
func (r *room) join(name string, conn net.Conn) *member {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.members[name] != nil {
		return nil
	}
	m := &member{conn: conn, out: make(chan string, queue)}
	r.members[name] = m
	m.out <- "* welcome; /who tells who is here, /quit ends\n"
	r.sayLocked(m, "* "+name+" has come")
	return m
}

func (r *room) leave(name string, m *member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.members, name)
	r.sayLocked(m, "* "+name+" has gone")
	close(m.out)
}

func (r *room) names() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.members))
}

// say tells everybody but the one who speaks.
func (r *room) say(from *member, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sayLocked(from, text)
}

func (r *room) sayLocked(from *member, text string) {
	for _, m := range r.members {
		if m != from {
			m.put(text)
		}
	}
}

// tell tells one member.
func (r *room) tell(m *member, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m.put(text)
}

// put never waits; it is called with room.mu.
func (m *member) put(text string) {
	if m.missed > 0 {
		text = fmt.Sprintf("* %d messages missed\n%s", m.missed, text)
	}
	select {
	case m.out <- text + "\n":
		m.missed = 0
	default:
		m.missed++
	}
}

// write sends the member what is in its queue, until that is closed.
func (m *member) write() (err error) {
	for text := range m.out {
		if err != nil {
			continue // until serve has noticed
		}
		if err = m.conn.SetWriteDeadline(time.Now().Add(*writeWait)); err == nil {
			_, err = io.WriteString(m.conn, text)
		}
		if err != nil {
			relay.Reset(m.conn) // which ends its serve
		}
	}
	return err
}
