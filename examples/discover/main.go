// Discover finds its like: it says every second, by UDP to a multicast group,
// that it is here, and prints whom it hears, and whom no longer. It shows the
// Berkeley options of multicast: joining a group on an interface, and sending
// to one; for both families, whose structs differ.
//
//	sudo make bridge tap && sudo go run ./examples/discover --tap tap7 --ip 10.77.0.7/24
//
// or without root, two of them in a lab for two:
//
//	bin/tapstack lab run --hosts 2 -- sh -c 'go run ./examples/discover --name ann &
//	  go run ./examples/discover --name ben --tap tap8 --ip 10.77.0.8/24 --count 5'
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
)

var (
	groups   = pflag.StringSlice("group", []string{"239.255.77.77", "ff02::7777"}, "the `GROUPS` to meet in")
	port     = pflag.Uint16("port", 7777, "UDP `PORT`")
	name     = pflag.String("name", "", "the `NAME` to give (default that of this machine)")
	interval = pflag.Duration("interval", time.Second, "say it again after this `TIME`")
	count    = pflag.Int("count", -1, "end after `N` announcements, -1: never")
)

const (
	// patience is after how many intervals of silence somebody has gone.
	patience = 3
	// maxPeers is how many are kept in mind; anybody may claim to be somebody.
	maxPeers = 256
)

func main() { attach.Main("", run) }

// group is a socket that has joined one.
type group struct {
	fd *socket.FD
	at netip.AddrPort
}

// heard is a message of somebody, or the error that ends the hearing.
type heard struct {
	from netip.Addr
	text string
	err  error
}

// peer is somebody who was heard.
type peer struct {
	name string
	last time.Time
}

func run(ctx context.Context, host *attach.Host, _ []string) error {
	if err := host.NeedStack(); err != nil {
		return err
	}
	if *name == "" {
		*name, _ = os.Hostname() // checked next
	}
	if !nameForm.MatchString(*name) {
		return attach.Usagef("--name %q: want 1 to 63 letters, digits, dots, _ and -", *name)
	}
	if *interval <= 0 {
		return attach.Usagef("--interval %v: want more than 0", *interval)
	}
	// The sockets outlive ctx, for there is still a farewell to send.
	open, closeAll := context.WithCancel(context.WithoutCancel(ctx))
	defer closeAll()
	messages := make(chan heard)
	var all []group
	for _, s := range *groups {
		a, err := netip.ParseAddr(s)
		if err != nil || !a.IsMulticast() {
			return attach.Usagef("--group %q is not a multicast address", s)
		}
		g, err := join(host.Stack, a, host.Interface.Index())
		if err != nil {
			return fmt.Errorf("join %v: %w", a, err)
		}
		context.AfterFunc(open, func() { g.fd.Close() }) // ends listen
		all = append(all, g)
		go g.listen(open, messages)
	}
	defer tell(all, "gone")

	peers := make(map[netip.Addr]*peer)
	tick := time.NewTicker(*interval)
	defer tick.Stop()
	for n := 0; n != *count; n++ {
		tell(all, "here")
		for waiting := true; waiting; {
			select {
			case m := <-messages:
				if m.err != nil {
					return m.err
				}
				hear(peers, m, time.Now())
			case now := <-tick.C:
				forget(peers, now)
				waiting = false
			case <-ctx.Done():
				return nil
			}
		}
	}
	return nil
}

// join makes a socket of the group on one interface (ip(7), ipv6(7)).
func join(s *stack.Stack, a netip.Addr, index int) (g group, err error) {
	var number [4]byte
	binary.NativeEndian.PutUint32(number[:], uint32(index))
	g.at = netip.AddrPortFrom(a, *port)
	if a.Is4() {
		if g.fd, err = socket.Socket(s, socket.AF_INET, socket.SOCK_DGRAM, 0); err != nil {
			return g, err
		}
		// struct ip_mreqn: the group, an address of ours or none, the interface.
		mreqn := append(append(a.AsSlice(), 0, 0, 0, 0), number[:]...)
		err = errors.Join(
			g.fd.Bind(netip.AddrPortFrom(netip.IPv4Unspecified(), *port)),
			g.fd.Setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, mreqn),
			g.fd.Setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, mreqn),
			g.fd.SetsockoptInt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)) // we know that we are here
	} else {
		if g.fd, err = socket.Socket(s, socket.AF_INET6, socket.SOCK_DGRAM, 0); err != nil {
			return g, err
		}
		// struct ipv6_mreq: the group and the interface.
		mreq := append(a.AsSlice(), number[:]...)
		err = errors.Join(
			g.fd.SetV6Only(true), // the port is the other socket's with IPv4
			g.fd.Bind(netip.AddrPortFrom(netip.IPv6Unspecified(), *port)),
			g.fd.Setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, mreq),
			g.fd.SetsockoptInt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index),
			g.fd.SetsockoptInt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0))
	}
	if err != nil {
		g.fd.Close()
	}
	return g, err
}

// listen passes on what the group hears, until the socket is closed.
func (g *group) listen(open context.Context, messages chan<- heard) {
	buf := make([]byte, 512) // longer ones are not ours
	for {
		n, from, err := g.fd.RecvFrom(buf, 0)
		select {
		case messages <- heard{from.Addr(), string(buf[:n]), err}:
		case <-open.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// tell says to all groups that we are here or gone.
func tell(all []group, what string) {
	for _, g := range all {
		if _, err := g.fd.SendTo([]byte(message(what, *name)), 0, g.at); err != nil {
			log.Printf("to %v: %v", g.at, err) // the next may get through
		}
	}
}

// A message is one line: who speaks, in which version, what, and the name.
func message(what, name string) string { return "tapstack-discover 1 " + what + " " + name + "\n" }

// nameForm has nothing that could play tricks on a terminal.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9._-]{1,63}$`)

// parse takes a message apart; ok is false when it is none.
func parse(text string) (what, name string, ok bool) {
	text, ok = strings.CutPrefix(text, "tapstack-discover 1 ")
	if !ok {
		return "", "", false
	}
	text, ok = strings.CutSuffix(text, "\n")
	what, name, blank := strings.Cut(text, " ")
	return what, name, ok && blank && (what == "here" || what == "gone") && nameForm.MatchString(name)
}

// hear takes in what somebody has said.
func hear(peers map[netip.Addr]*peer, m heard, now time.Time) {
	what, name, ok := parse(m.text)
	p := peers[m.from]
	switch {
	case !ok:
		return
	case what == "gone":
		if p != nil {
			delete(peers, m.from)
			fmt.Printf("%s at %v has gone\n", p.name, m.from)
		}
		return
	case p == nil && len(peers) == maxPeers:
		return // until one of the others has gone
	case p == nil || p.name != name:
		p = &peer{name: name}
		peers[m.from] = p
		fmt.Printf("%s at %v is here\n", name, m.from)
	}
	p.last = now
}

// forget strikes out who was not heard for too long.
func forget(peers map[netip.Addr]*peer, now time.Time) {
	for from, p := range peers {
		if now.Sub(p.last) > patience**interval {
			delete(peers, from)
			fmt.Printf("%s at %v is silent\n", p.name, from)
		}
	}
}
