package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
	"github.com/spf13/cobra"
	"golang.org/x/net/idna"

	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/probe/dnsquery"
)

// This file owns the command host: what DNS says of a name or an address.

type hostOptions struct {
	attach attach.Options
	family
	types, servers, search                      []string
	class                                       string
	all, tcp, ignore, noEDNS, dnssec, recursive bool
	check, verbose, json, noSearch              bool
	ndots, tries, size                          int
	timeout                                     wait
}

func hostCommand() *cobra.Command { return newHost(&hostOptions{}) }

// hostLink is host under that name: on the host's sockets if nothing else is
// said, as others of this name are.
func hostLink() *cobra.Command {
	o := &hostOptions{}
	onHost(&o.attach)
	return newHost(o)
}

func newHost(o *hostOptions) *cobra.Command {
	o.timeout, o.tries, o.ndots, o.size = wait(dnsquery.DefaultTimeout), dnsquery.DefaultTries, 1, dnsquery.DefaultSize
	c := &cobra.Command{
		Use:   "host [flags] NAME [TYPE | SERVER]",
		Short: "Ask DNS for what it has of a name or an address",
		Long: `Ask DNS servers over the stack for records of a name, of any type, or for the
names of an address. Without a type those are A, AAAA and MX, or PTR of an
address. The servers are those of --server, of --dns, or that DHCP has told;
with --net host those of /etc/resolv.conf.

Queries have EDNS (RFC 6891); a truncated answer is asked for again by TCP.
Exit status: 0 when there are such records, 1 when not or nobody answers, 2 when
nothing could be asked.`,
		Example: `  tapstack host --net host www.example.net
  tapstack host --tap tap7 --ip 10.77.0.7/24 --server 10.77.0.1 -t SRV _ldap._tcp.example.net
  tapstack host --net host -v --tcp example.net DNSKEY
  tapstack host --dhcp --json 192.0.2.1`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return attach.Usagef("%d arguments: want NAME, and TYPE or SERVER if need be; `%s --help` tells the usage", len(args), c.CommandPath())
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error { return o.run(c.OutOrStdout(), args) },
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringSliceVarP(&o.types, "type", "t", nil, "ask for records of `TYPE`, as MX or TYPE257; several with commas")
	f.BoolVarP(&o.all, "any", "a", false, "ask for any records (servers need not tell all, RFC 8482), and print as -v does")
	f.StringSliceVar(&o.servers, "server", nil, "ask `SERVER`, by address or name, with :PORT if it is not 53; repeat for others to try")
	f.BoolVarP(&o.tcp, "tcp", "T", false, "by TCP at once")
	f.BoolVar(&o.ignore, "ignore-truncation", false, "take truncated answers as they are")
	f.BoolVar(&o.noEDNS, "no-edns", false, "without EDNS, so that 512 bytes are all that fits in a datagram")
	f.Var(number{&o.size, 512, 65535}, "bufsize", "offer to take datagrams of `BYTES` (default 1232)")
	f.BoolVarP(&o.dnssec, "dnssec", "D", false, "ask for signatures, too")
	f.BoolVar(&o.check, "cd", false, "ask not to check them")
	f.BoolVarP(&o.recursive, "no-recursion", "r", false, "ask for what the server knows itself")
	f.StringVarP(&o.class, "class", "c", "IN", "`CLASS` of the records, as CH")
	f.StringSliceVar(&o.search, "search", nil, "append `DOMAINS` to names (default those that DHCP or resolv.conf tells)")
	f.BoolVar(&o.noSearch, "no-search", false, "append nothing")
	f.VarP(number{&o.ndots, 0, 15}, "ndots", "N", "names with `N` dots, 1 unless given, are tried as they are first")
	f.VarP(span{&o.timeout}, "timeout", "W", "wait `SECONDS` for each server, 5 unless given")
	f.VarP(number{&o.tries, 1, math.MaxInt16}, "tries", "R", "ask silent servers `N` times, 2 unless given")
	f.BoolVarP(&o.v4, "ipv4", "4", false, "ask servers by IPv4 only")
	f.BoolVarP(&o.v6, "ipv6", "6", false, "ask servers by IPv6 only")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "the whole answers")
	f.BoolVarP(&o.json, "json", "j", false, "print JSON")
	o.attach.Register(f)
	ownFrames(f, &o.attach)
	return c
}

// parseType is a type by name or as TYPE257 (RFC 3597 §5).
func parseType(s string) (uint16, bool) {
	s = strings.ToUpper(s)
	if t, ok := dns.StringToType[s]; ok && t != dns.TypeNone {
		return t, true
	}
	if n, ok := strings.CutPrefix(s, "TYPE"); ok {
		if v, err := strconv.ParseUint(n, 10, 16); err == nil && v > 0 {
			return uint16(v), true
		}
	}
	return 0, false
}

// questions are the types to ask for.
func (o *hostOptions) questions(args []string, address bool) (types []uint16, servers []string, err error) {
	names := o.types
	servers = o.servers
	if len(args) > 1 {
		if _, ok := parseType(args[1]); ok {
			names = append(slices.Clone(names), args[1])
		} else {
			servers = append([]string{args[1]}, servers...)
		}
	}
	if o.all {
		names = append([]string{"ANY"}, names...)
	}
	for _, s := range names {
		t, ok := parseType(s)
		if !ok {
			return nil, nil, attach.Usagef("-t %s: no such type of records", s)
		}
		if t == dns.TypeAXFR || t == dns.TypeIXFR || t == dns.TypeOPT {
			return nil, nil, attach.Usagef("-t %s: that is no type of records to ask for", s)
		}
		types = append(types, t)
	}
	switch {
	case len(types) > 0:
	case address:
		types = []uint16{dns.TypePTR}
	default:
		types = []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeMX}
	}
	return types, servers, nil
}

func (o *hostOptions) run(out io.Writer, args []string) error {
	name := args[0]
	display := name
	addr, err := netip.ParseAddr(strings.Trim(name, "[]"))
	address := err == nil
	if address {
		if name, err = dns.ReverseAddr(addr.WithZone("").String()); err != nil {
			return attach.Usagef("%s: %w", display, err)
		}
	} else if name, err = toASCII(name); err != nil {
		return attach.Usagef("%s: %w", display, err)
	}
	types, servers, err := o.questions(args, address)
	if err != nil {
		return err
	}
	class, ok := dns.StringToClass[strings.ToUpper(o.class)]
	if !ok {
		return attach.Usagef("-c %s: no such class", o.class)
	}
	if o.v4 && o.v6 {
		return attach.Usagef("-4 and -6 exclude each other")
	}
	found := false
	err = o.attach.Run(func(ctx context.Context, h *attach.Host) error {
		c := &dnsquery.Client{Net: h.Net, TCP: o.tcp, NoTCP: o.ignore, NoEDNS: o.noEDNS, DNSSEC: o.dnssec, Size: uint16(o.size), NoRecursion: o.recursive,
			Check: o.check, Class: class, Timeout: time.Duration(o.timeout), Tries: o.tries}
		search, err := o.configure(ctx, h, c, servers)
		if err != nil {
			return err
		}
		candidates := dnsquery.Candidates(name, search, o.ndots)
		if address {
			candidates = []string{name}
		}
		report := hostReport{Name: display, Queries: []hostQuery{}}
		for i, name := range candidates {
			list := o.ask(ctx, c, name, types)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			// Another name is tried when this one does not exist, or has nothing.
			if found = slices.ContainsFunc(list, func(a dnsquery.Answer) bool { return a.Found() }); !found && i < len(candidates)-1 &&
				!slices.ContainsFunc(list, func(a dnsquery.Answer) bool { return a.Msg == nil }) {
				if o.json {
					report.add(list)
				}
				continue
			}
			if report.add(list); !o.json {
				o.print(out, display, list, len(o.types) > 0 || len(types) == 1)
			}
			break
		}
		if report.Found = found; o.json {
			return writeJSON(out, report)
		}
		return nil
	})
	if err != nil {
		return notTried{err}
	}
	if !found {
		return exitStatus(1)
	}
	return nil
}

// toASCII is the name as DNS has it: letters beyond ASCII by their A-labels
// (RFC 5891).
func toASCII(name string) (string, error) {
	for i := range len(name) {
		if name[i] >= 0x80 {
			return idna.Lookup.ToASCII(name)
		}
	}
	if _, ok := dns.IsDomainName(name); !ok || name == "" {
		return "", errors.New("cannot be a name")
	}
	return name, nil
}

// resolvConf is where the host says whom it asks.
const resolvConf = "/etc/resolv.conf"

// configure finds servers and search domains.
func (o *hostOptions) configure(ctx context.Context, h *attach.Host, c *dnsquery.Client, servers []string) (search []string, err error) {
	if h.Stack != nil {
		search = h.Lease.Search
		if len(search) == 0 && h.Lease.Domain != "" {
			search = []string{h.Lease.Domain}
		}
		if len(servers) == 0 {
			servers = o.attach.DNS
		}
		if len(servers) == 0 {
			for _, a := range h.Lease.DNS {
				servers = append(servers, a.String())
			}
		}
	} else if conf, e := dns.ClientConfigFromFile(resolvConf); e == nil {
		search = conf.Search
		if len(servers) == 0 {
			servers = conf.Servers
		}
	}
	if len(servers) == 0 {
		return nil, attach.Usagef("no DNS server is known: --server says which to ask")
	}
	for _, s := range servers {
		list, err := o.server(ctx, h, strings.TrimSpace(s))
		if err != nil {
			return nil, err
		}
		c.Servers = append(c.Servers, list...)
	}
	if len(c.Servers) == 0 {
		return nil, attach.Usagef("no server has an address of that family")
	}
	if len(o.search) > 0 {
		search = o.search
	}
	if o.noSearch {
		search = nil
	}
	return search, nil
}

// server is one by address or name, with a port if need be.
func (o *hostOptions) server(ctx context.Context, h *attach.Host, s string) (list []netip.AddrPort, err error) {
	host, port := strings.TrimPrefix(s, "@"), uint16(53)
	if a, err := netip.ParseAddrPort(host); err == nil {
		host, port = a.Addr().String(), a.Port()
	} else if name, p, err := net.SplitHostPort(host); err == nil {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return nil, attach.Usagef("--server %s: %q is no port", s, p)
		}
		host, port = name, uint16(n)
	}
	host = strings.Trim(host, "[]")
	var addrs []netip.Addr
	if a, err := netip.ParseAddr(host); err == nil {
		addrs = []netip.Addr{a}
	} else if addrs, err = h.Net.LookupNetIP(ctx, o.network(), host); err != nil {
		return nil, fmt.Errorf("server %s: %w", host, err)
	}
	for _, a := range addrs {
		toward(&o.attach, a)
		if a = a.Unmap(); !(o.v4 && !a.Is4() || o.v6 && !a.Is6()) {
			list = append(list, netip.AddrPortFrom(a, port))
		}
	}
	return list, nil
}

func (o *hostOptions) ask(ctx context.Context, c *dnsquery.Client, name string, types []uint16) (list []dnsquery.Answer) {
	for _, t := range types {
		a := c.Ask(ctx, name, t)
		list = append(list, a)
		// A name that does not exist has no other records either; and servers
		// that are silent stay so.
		if a.Msg == nil || a.Msg.Rcode == dns.RcodeNameError {
			break
		}
	}
	return list
}
