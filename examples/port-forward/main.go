// Port-forward joins ports of this machine with the stack's network, as ssh's
// flags of the same names do: -L listens on this machine and dials through the
// stack, -R listens on the stack and dials on this machine. Both may be given
// many times. It shows both kinds of net.Conn in one program, and that io.Copy
// between them keeps half-close: a side that has said all may still listen.
//
//	sudo make bridge tap
//	sudo go run ./examples/port-forward --tap tap7 --ip 10.77.0.7/24 -L 8080:10.77.0.1:80 -R 2222:127.0.0.1:22
//
// or without root, in the shell that `make lab` opens:
//
//	go run ./examples/port-forward -L 8080:10.77.0.1:80 -R 80:127.0.0.1:8000 &
//	python3 -m http.server --bind 127.0.0.1 8000 & curl http://10.77.0.7/
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/tapstack/tapstack/examples/internal/relay"
	"github.com/tapstack/tapstack/internal/attach"
)

var (
	local  = pflag.StringArrayP("local", "L", nil, "`[BIND:]PORT:HOST:PORT`: from this machine, 127.0.0.1 if not said otherwise, through the stack")
	remote = pflag.StringArrayP("remote", "R", nil, "`[BIND:]PORT:HOST:PORT`: from the stack, all its addresses if not said otherwise, to this machine")
	limit  = pflag.Int("limit", 200, "the most connections of one forward at a time")
)

const dialWait = 30 * time.Second

func main() { attach.Main("", run) }

type (
	listenFunc func(network, address string) (net.Listener, error)
	dialFunc   func(ctx context.Context, network, address string) (net.Conn, error)
)

// forward is one -L or -R.
type forward struct {
	ln   net.Listener
	dial dialFunc
	to   string
}

func run(ctx context.Context, host *attach.Host, _ []string) error {
	if len(*local)+len(*remote) == 0 {
		return attach.Usagef("nothing to forward: give -L or -R")
	}
	var all []forward
	defer func() {
		for _, f := range all {
			f.ln.Close()
		}
	}()
	open := func(specs []string, bind string, listen listenFunc, dial dialFunc) error {
		for _, s := range specs {
			at, to, err := parse(s, bind)
			if err != nil {
				return &attach.UsageError{Err: err}
			}
			ln, err := listen("tcp", at)
			if err != nil {
				return err
			}
			log.Printf("%v goes to %s", ln.Addr(), to)
			all = append(all, forward{ln, dial, to})
		}
		return nil
	}
	if err := open(*local, "127.0.0.1", net.Listen, host.Net.DialContext); err != nil {
		return err
	}
	if err := open(*remote, "", host.Net.Listen, new(net.Dialer).DialContext); err != nil {
		return err
	}
	// One that fails ends all.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, len(all))
	for _, f := range all {
		go func() {
			ended <- relay.Serve(ctx, f.ln, max(*limit, 1), func(c net.Conn) { f.join(ctx, c) })
			cancel()
		}()
	}
	err := <-ended
	for range len(all) - 1 {
		<-ended
	}
	return err
}

// join connects a client with where it is to go.
func (f *forward) join(ctx context.Context, client net.Conn) {
	limited, cancel := context.WithTimeout(ctx, dialWait)
	defer cancel()
	server, err := f.dial(limited, "tcp", f.to)
	if err != nil {
		relay.Reset(client) // an empty stream would be an answer
		log.Printf("%v: %v", client.RemoteAddr(), err)
		return
	}
	defer server.Close()
	defer context.AfterFunc(ctx, func() { server.Close() })()
	there, back, err := relay.Both(client, server)
	if err != nil && ctx.Err() == nil {
		log.Printf("%v: %v", client.RemoteAddr(), err)
	}
	log.Printf("%v to %s: %d bytes there, %d back", client.RemoteAddr(), f.to, there, back)
}

// parse takes [BIND:]PORT:HOST:PORT apart. Addresses with colons are in
// brackets, as in [::1]:8080:[fd77::1]:80; * is every address.
func parse(spec, bind string) (listen, to string, err error) {
	fields := split(spec)
	if len(fields) == 3 {
		fields = append([]string{bind}, fields...)
	}
	bad := func(why string) (string, string, error) {
		return "", "", fmt.Errorf("%q is not [BIND:]PORT:HOST:PORT: %s", spec, why)
	}
	if len(fields) != 4 {
		return bad("it has " + strconv.Itoa(len(fields)) + " parts")
	}
	if strings.ContainsAny(strings.Join(fields, ""), "[]") {
		return bad("its brackets are not around an address")
	}
	if fields[0] == "*" {
		fields[0] = ""
	}
	if fields[2] == "" {
		return bad("no host to go to")
	}
	for _, p := range []string{fields[1], fields[3]} {
		if _, err := strconv.ParseUint(p, 10, 16); err != nil {
			return bad(fmt.Sprintf("%q is not a port", p))
		}
	}
	if n, _ := strconv.ParseUint(fields[3], 10, 16); n == 0 {
		return bad("nobody listens on port 0") // to listen on 0 is to let the system choose
	}
	return net.JoinHostPort(fields[0], fields[1]), net.JoinHostPort(fields[2], fields[3]), nil
}

// split cuts at colons that are not in brackets, and takes the brackets off.
func split(s string) (fields []string) {
	for {
		end := strings.IndexByte(s, ':')
		if strings.HasPrefix(s, "[") {
			if inner := strings.Index(s, "]:"); inner > 0 {
				fields = append(fields, s[1:inner])
				s = s[inner+2:]
				continue
			}
		}
		if end < 0 {
			return append(fields, s)
		}
		fields = append(fields, s[:end])
		s = s[end+1:]
	}
}
