// Socks5 is a SOCKS server (RFC 1928) that listens on this machine and goes
// out through the stack: any program that knows SOCKS uses the stack that way.
// It does CONNECT and UDP ASSOCIATE, and asks for a password (RFC 1929) if
// --user gives one. It shows how an error of the stack's sockets, which is the
// kernel's errno, is told in another protocol's numbers.
//
//	sudo make bridge tap && sudo go run ./examples/socks5 --tap tap7 --ip 10.77.0.7/24
//
// or without root, in the shell that `make lab` opens:
//
//	go run ./examples/socks5 & python3 -m http.server &
//	curl --socks5 127.0.0.1:1080 http://10.77.0.1:8000/    # python sees 10.77.0.7 come
//
// With --dns it looks names up too (curl --socks5-hostname), through the stack.
// udp.go has UDP ASSOCIATE, protocol.go the messages.
package main

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/tapstack/tapstack/examples/internal/relay"
	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/socket"
)

var (
	listen = pflag.String("listen", "127.0.0.1:1080", "`ADDRESS:PORT` of this machine to listen on")
	user   = pflag.String("user", "", "ask clients for this `NAME:PASSWORD`")
	limit  = pflag.Int("limit", 200, "the most clients at a time")
)

const (
	negotiateWait = 30 * time.Second // for a client to say what it wants
	dialWait      = 30 * time.Second
	refuseWait    = 2 * time.Second
)

func main() { attach.Main("", run) }

func run(ctx context.Context, host *attach.Host, _ []string) error {
	s := &server{ctx: ctx, net: host.Net}
	if *user != "" {
		var ok bool
		if s.user, s.password, ok = strings.Cut(*user, ":"); !ok || s.user == "" || s.password == "" || len(s.user) > 255 || len(s.password) > 255 {
			return attach.Usagef("--user wants NAME:PASSWORD, each of 1 to 255 bytes")
		}
	}
	ln, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	log.Printf("listening on %v", ln.Addr())
	return relay.Serve(ctx, ln, max(*limit, 1), func(client net.Conn) {
		if err := s.serve(client); err != nil && ctx.Err() == nil {
			log.Printf("%v: %v", client.RemoteAddr(), err)
		}
	})
}

type server struct {
	ctx            context.Context
	net            socket.System // the way out
	user, password string        // "": nobody is asked
}

// serve does what one client asks for.
func (s *server) serve(client net.Conn) error {
	if err := client.SetDeadline(time.Now().Add(negotiateWait)); err != nil {
		return err
	}
	if err := s.negotiate(client); err != nil {
		return err
	}
	r, err := readRequest(client)
	if err != nil {
		var refused replyCode
		if errors.As(err, &refused) {
			err = errors.Join(err, refuse(client, reply(refused, netip.AddrPort{})))
		}
		return err
	}
	if err := client.SetDeadline(time.Time{}); err != nil {
		return err
	}
	log.Printf("%v: %v %v", client.RemoteAddr(), r.command, r.to)
	if r.command == cmdAssociate {
		return s.associate(client, r.to)
	}
	return s.connect(client, r.to)
}

// negotiate agrees on a method and does what it asks for (RFC 1928 §3).
func (s *server) negotiate(client net.Conn) error {
	methods, err := readMethods(client)
	if err != nil {
		return err
	}
	want := byte(methodNone)
	if s.user != "" {
		want = methodPassword
	}
	if !slices.Contains(methods, want) {
		return errors.Join(fmt.Errorf("the client offers methods %v, and not %d", methods, want), refuse(client, []byte{version, methodRefused}))
	}
	if _, err := client.Write([]byte{version, want}); err != nil || want == methodNone {
		return err
	}
	name, password, err := readPassword(client)
	if err != nil {
		return err
	}
	// Both are compared, and in constant time: how long it takes tells nothing.
	if subtle.ConstantTimeCompare([]byte(name), []byte(s.user))&subtle.ConstantTimeCompare([]byte(password), []byte(s.password)) != 1 {
		return errors.Join(errors.New("wrong name or password"), refuse(client, []byte{passwordVersion, 1}))
	}
	_, err = client.Write([]byte{passwordVersion, 0})
	return err
}

// connect is CONNECT (RFC 1928 §4).
func (s *server) connect(client net.Conn, to target) error {
	limited, cancel := context.WithTimeout(s.ctx, dialWait)
	defer cancel()
	out, err := s.net.DialContext(limited, "tcp", to.String())
	if err != nil {
		return errors.Join(err, refuse(client, reply(replyFor(err), netip.AddrPort{})))
	}
	defer out.Close()
	defer context.AfterFunc(s.ctx, func() { out.Close() })()
	if _, err := client.Write(reply(replySucceeded, addrPort(out.LocalAddr()))); err != nil {
		return err
	}
	_, _, err = relay.Both(client, out)
	return err
}

// replyFor is the reply that tells of an error. RFC 1928 §6 names no more than
// these; where it has no word for a reason, the next is the general failure.
func replyFor(err error) replyCode {
	var dns *net.DNSError
	var addr *net.AddrError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return replyRefused
	case errors.Is(err, syscall.ENETUNREACH):
		return replyNoNetwork
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.EHOSTDOWN), errors.Is(err, syscall.ETIMEDOUT),
		errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded),
		errors.As(err, &dns), errors.As(err, &addr): // a name that nobody knows
		return replyNoHost
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return replyForbidden
	}
	return replyFailed
}

// addrPort is the address of either kind of socket.
func addrPort(a net.Addr) netip.AddrPort {
	if a, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		ap := a.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}

// untilClosed returns when the client hangs up or the program ends.
func untilClosed(client net.Conn) { _, _ = io.Copy(io.Discard, client) }

// refuse sends a client the last it hears. What it has sent ahead has to be
// read, or else the kernel would send a reset at the end, which may overtake
// the answer; for that it gets refuseWait (RFC 1928 §6 allows 10 s).
func refuse(client net.Conn, answer []byte) error {
	if err := client.SetDeadline(time.Now().Add(refuseWait)); err != nil {
		return err
	}
	if _, err := client.Write(answer); err != nil {
		return err
	}
	if h, ok := client.(interface{ CloseWrite() error }); ok {
		if err := h.CloseWrite(); err != nil {
			return err
		}
	}
	untilClosed(client)
	return nil
}
