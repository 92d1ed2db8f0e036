package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/socket"
)

// This file owns the command nc: its flags, and connecting; ncpump.go owns what
// happens on a connection, nclisten.go listening, ncscan.go -z, ncports.go
// what ports are called.

type ncOptions struct {
	attach attach.Options
	family
	crlf, noStdin, keep, listen, shutdown, numeric bool
	udp, verbose, scan                             bool
	source                                         string
	port, recvLimit, ttl                           int
	quit                                           ncQuit
	timeout                                        wait
}

// ncQuit is -q: seconds, or negative for never.
type ncQuit struct {
	set bool
	d   time.Duration
}

func (q *ncQuit) String() string { return "-1" }
func (q *ncQuit) Type() string   { return "seconds" }
func (q *ncQuit) Set(s string) error {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || !(math.Abs(v) <= 1e6) {
		return fmt.Errorf("want seconds up to 1000000")
	}
	q.set, q.d = v >= 0, time.Duration(v*1e9)
	return nil
}

func ncCommand() *cobra.Command { return newNC(&ncOptions{}) }

// ncLink is nc under that name: on the host's sockets if nothing else is said,
// as others of this name are.
func ncLink() *cobra.Command {
	o := &ncOptions{}
	onHost(&o.attach)
	return newNC(o)
}

func newNC(o *ncOptions) *cobra.Command {
	c := &cobra.Command{
		Use:   "nc [flags] HOST PORT... | nc -l [flags] [HOST] PORT",
		Short: "Connect standard input and output to a TCP or UDP port",
		Long: `Connect standard input and output to a port, or with -l to whoever connects,
with netcat-openbsd's flags and messages. PORT is a number, a service's name or
a range as 20-25.

The end of the input ends nothing unless -N or -q says so: what the other side
sends is still written, until it ends. A client is over when both sides have
ended, a listener when the other side has and there is no more input at hand.

Exit status: 0 when there was a connection, or of -z an open port; 1 when not; 2
for mistakes.`,
		Example: `  tapstack nc --net host -N 10.77.0.7 7 <file
  tapstack nc --tap tap7 --ip 10.77.0.7/24 -l 1234 >file
  tapstack nc --tap tap7 --ip 10.77.0.7/24 -zv -w 1 10.77.0.1 20-25 80
  tapstack nc --tap tap7 --ip 10.77.0.7/24 -u -w 1 10.77.0.1 53`,
		Args: func(c *cobra.Command, args []string) error {
			_, _, err := o.targets(c.CommandPath(), args)
			return err
		},
		RunE: func(c *cobra.Command, args []string) error { return o.run(args) },
	}
	f := c.Flags()
	f.SortFlags = false
	f.BoolVarP(&o.v4, "ipv4", "4", false, "IPv4 only")
	f.BoolVarP(&o.v6, "ipv6", "6", false, "IPv6 only")
	f.BoolVarP(&o.crlf, "crlf", "C", false, "send CR LF for each LF")
	f.BoolVarP(&o.noStdin, "detach", "d", false, "do not read standard input")
	f.BoolVarP(&o.keep, "keep-open", "k", false, "with -l, take another connection when one is over")
	f.BoolVarP(&o.listen, "listen", "l", false, "listen for a connection")
	f.VarP(number{&o.ttl, 1, 255}, "ttl", "M", "time to live or hop limit (default 64)")
	f.BoolVarP(&o.shutdown, "shutdown", "N", false, "end our side of the connection at the end of the input")
	f.BoolVarP(&o.numeric, "numeric", "n", false, "do not look up names of hosts, nor print those of ports")
	f.VarP(number{&o.port, 1, 65535}, "source-port", "p", "connect from, or listen on, `PORT`")
	f.VarP(&o.quit, "quit", "q", "end `SECONDS` after the end of the input, and -N; negative: never")
	f.StringVarP(&o.source, "source", "s", "", "connect from, or listen on, `ADDRESS`")
	f.BoolVarP(&o.udp, "udp", "u", false, "UDP instead of TCP")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "say what happens on standard error")
	f.VarP(number{&o.recvLimit, 1, math.MaxInt32}, "recv-limit", "W", "end after `N` receptions")
	f.VarP(&o.timeout, "timeout", "w", "wait `SECONDS` for a connection, and end it when nothing happens on it for so long")
	f.BoolVarP(&o.scan, "scan", "z", false, "only look who listens")
	o.attach.Register(f)
	ownFrames(f, &o.attach)
	f.Lookup("pcap").Usage += "; with -l those of who comes"
	return c
}

// targets reads host and ports from the arguments.
func (o *ncOptions) targets(name string, args []string) (host string, ports []uint16, err error) {
	switch {
	case o.listen && o.scan:
		return "", nil, attach.Usagef("cannot use -z and -l")
	case o.keep && !o.listen:
		return "", nil, attach.Usagef("must use -l with -k")
	case o.v4 && o.v6:
		return "", nil, attach.Usagef("-4 and -6 exclude each other")
	case o.listen && len(args) == 0 && o.port != 0:
		return o.source, []uint16{uint16(o.port)}, nil
	case o.listen && len(args) == 1:
		if o.port != 0 {
			return "", nil, attach.Usagef("-p and PORT: want one of the two")
		}
		host, args = o.source, append([]string{o.source}, args...)
	case len(args) < 2 || o.listen && len(args) > 2:
		return "", nil, attach.Usagef("%d arguments: want HOST and PORT, or with -l PORT alone; `%s --help` tells the usage", len(args), name)
	default:
		host = args[0]
	}
	for _, a := range args[1:] {
		list, err := parsePorts(a, o.udp)
		if err != nil {
			return "", nil, err
		}
		ports = append(ports, list...)
	}
	if o.listen && len(ports) != 1 {
		return "", nil, attach.Usagef("-l: want one port")
	}
	return host, ports, nil
}

// netcat is one run of the command.
type netcat struct {
	*ncOptions
	net   socket.System
	own   bool // the stack is ours
	stdin *ncInput
	out   io.Writer
}

// say prints a line on standard error with -v.
func (n *netcat) say(format string, a ...any) {
	if n.verbose {
		fmt.Fprintf(os.Stderr, format+"\n", a...)
	}
}

func (o *ncOptions) run(args []string) error {
	host, ports, err := o.targets("nc", args)
	if err != nil {
		return err
	}
	o.shutdown = o.shutdown || o.quit.set
	ok := false
	err = o.attach.Run(func(ctx context.Context, h *attach.Host) (err error) {
		n := &netcat{ncOptions: o, net: h.Net, own: h.Stack != nil, out: os.Stdout}
		n.stdin = newNCInput(os.Stdin, o)
		if o.listen {
			ok = true
			return n.serve(ctx, host, ports[0])
		}
		ok, err = n.connect(ctx, host, ports)
		return err
	})
	if err == nil && !ok {
		return exitStatus(1)
	}
	return err
}

// addresses are those of a host that -4, -6 and -n allow.
func (n *netcat) addresses(ctx context.Context, host string) (list []netip.Addr, err error) {
	var all []netip.Addr
	if a, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		all = []netip.Addr{a.Unmap()}
	} else if n.numeric {
		return nil, fmt.Errorf("getaddrinfo for host %q: Name or service not known", host)
	} else if all, err = n.net.LookupNetIP(ctx, n.network(), host); err != nil {
		return nil, fmt.Errorf("getaddrinfo for host %q: %w", host, err)
	}
	for _, a := range all {
		toward(&n.attach, a)
		if a = a.Unmap(); !(n.v4 && !a.Is4() || n.v6 && !a.Is6()) {
			list = append(list, a)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("getaddrinfo for host %q: Address family for hostname not supported", host)
	}
	return list, nil
}

// socket makes one for an address, bound as -s and -p say.
func (n *netcat) socket(a netip.Addr) (socket.Berkeley, error) {
	domain, typ := socket.AF_INET, socket.SOCK_STREAM
	if a.Is6() {
		domain = socket.AF_INET6
	}
	if n.udp {
		typ = socket.SOCK_DGRAM
	}
	s, err := n.net.Socket(domain, typ, 0)
	if err != nil {
		return nil, err
	}
	if err = n.bind(s, a); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (n *netcat) bind(s socket.Berkeley, a netip.Addr) error {
	if n.ttl != 0 {
		level, opt := socket.IPPROTO_IP, socket.IP_TTL
		if a.Is6() {
			level, opt = socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS
		}
		if err := s.SetsockoptInt(level, opt, n.ttl); err != nil {
			return err
		}
	}
	if n.source == "" && n.port == 0 {
		return nil
	}
	local := netip.IPv4Unspecified()
	if a.Is6() {
		local = netip.IPv6Unspecified()
	}
	if n.source != "" {
		src, err := netip.ParseAddr(n.source)
		if err != nil || src.Is4() != a.Is4() {
			return attach.Usagef("-s %s: want an address of the host's, of the same family", n.source)
		}
		local = src
	}
	if n.port != 0 {
		if err := s.SetsockoptInt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); err != nil {
			return err
		}
	}
	if err := s.Bind(netip.AddrPortFrom(local, uint16(n.port))); err != nil {
		return fmt.Errorf("bind failed: %s", errorWords(err))
	}
	return nil
}

// errorWords is an error as C's strerror has it.
func errorWords(err error) string {
	var e syscall.Errno
	if errors.As(err, &e) {
		s := e.Error()
		return strings.ToUpper(s[:1]) + s[1:]
	}
	return err.Error()
}

// connect goes from port to port; ok says that one was open.
func (n *netcat) connect(ctx context.Context, host string, ports []uint16) (ok bool, err error) {
	addrs, err := n.addresses(ctx, host)
	if err != nil {
		return false, err
	}
	if n.scan {
		return n.scanPorts(ctx, host, addrs, ports)
	}
	for _, port := range ports {
		s, a, lines, err := n.dial(ctx, addrs, host, port)
		for _, line := range lines {
			n.say("%s", line)
		}
		if err != nil {
			return ok, err
		}
		if s == nil {
			continue
		}
		ok = true
		if !n.udp { // of UDP it would say nothing
			n.say("%s", n.success(host, a, port))
		}
		n.pump(ctx, s)
		if ctx.Err() != nil {
			return ok, nil
		}
	}
	return ok, nil
}

// dial tries all addresses; the lines are what -v says. err is a mistake of the
// user's.
func (n *netcat) dial(ctx context.Context, addrs []netip.Addr, host string, port uint16) (s socket.Berkeley, a netip.Addr, lines []string, err error) {
	for _, a := range addrs {
		s, err := n.socket(a)
		if err != nil {
			return nil, a, lines, err
		}
		limited, cancel := ctx, func() {}
		if n.timeout > 0 {
			limited, cancel = context.WithTimeout(ctx, time.Duration(n.timeout))
		}
		err = s.Connect(limited, netip.AddrPortFrom(a, port))
		expired := limited.Err() != nil
		cancel()
		if err == nil {
			return s, a, lines, nil
		}
		s.Close()
		if ctx.Err() != nil {
			return nil, a, lines, nil
		}
		who := host
		if n.named(host) {
			who = fmt.Sprintf("%s (%v)", host, a)
		}
		if expired {
			lines = append(lines, fmt.Sprintf("nc: connect to %s port %d (%s) timed out: Operation now in progress", who, port, protoName(n.udp)))
		} else {
			lines = append(lines, fmt.Sprintf("nc: connect to %s port %d (%s) failed: %s", who, port, protoName(n.udp), errorWords(err)))
		}
	}
	return nil, netip.Addr{}, lines, nil
}

// named reports whether the host was given by a name.
func (n *netcat) named(host string) bool {
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err != nil
}

func (n *netcat) success(host string, a netip.Addr, port uint16) string {
	if n.named(host) {
		host = fmt.Sprintf("%s (%v)", host, a)
	}
	return fmt.Sprintf("Connection to %s %d port [%s/%s] succeeded!", host, port, protoName(n.udp), n.serviceName(port))
}
