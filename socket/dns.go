package socket

// This file owns DNS, a stub resolver (RFC 1035 §5.3.1, RFC 1123 §6.1.3.1): it
// asks recursive servers over the stack for the addresses of a name. Package
// net's resolver could be told to dial over the stack, but it would still read
// the host's resolv.conf, nsswitch.conf and hosts, which are about another host.

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	dnsPort = 53
	// dnsTimeout and dnsAttempts are resolv.conf(5)'s defaults.
	dnsTimeout  = 5 * time.Second
	dnsAttempts = 2
	// dnsMaxUDP is the longest message over UDP without EDNS (RFC 1035 §2.3.4).
	dnsMaxUDP = 512
	// dnsMaxAliases bounds how far a chain of CNAME records is followed.
	dnsMaxAliases = 16
)

// DNS is a Resolver that asks servers over a stack. It keeps no cache.
type DNS struct {
	// Net is the network to ask on.
	Net *Network
	// Servers are asked in this order; the next one when one does not answer
	// or cannot.
	Servers []netip.AddrPort
	// Search is appended to names without a dot, one after the other, until
	// there is such a name; then to those with dots that do not exist.
	Search []string
	// Timeout is how long an answer is awaited; 0 is 5 s.
	Timeout time.Duration
	// Attempts is how often all servers are asked; 0 is twice.
	Attempts int
}

// LookupNetIP implements Resolver. The error is a *net.DNSError.
func (d *DNS) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	return d.lookupHost(ctx, network, host, func([]netip.Addr) {})
}

// lookupHost is LookupNetIP that tells the addresses of each family as soon as
// they are there, too.
func (d *DNS) lookupHost(ctx context.Context, network, host string, tell func([]netip.Addr)) ([]netip.Addr, error) {
	var types []dnsmessage.Type
	if network != "ip6" {
		types = append(types, dnsmessage.TypeA)
	}
	if network != "ip4" {
		types = append(types, dnsmessage.TypeAAAA)
	}
	err := error(&net.DNSError{Err: "no such host", Name: host, IsNotFound: true})
	for _, name := range d.candidates(host) {
		var addrs []netip.Addr
		if addrs, err = d.lookup(ctx, name, types, tell); err == nil {
			return addrs, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		e, ok := errors.AsType[*net.DNSError](err)
		if ok {
			e.Name = host // as it was asked for
		}
		if !ok || !e.IsNotFound {
			break
		}
	}
	return nil, err
}

// candidates are the names to ask for, with the dot of the root.
func (d *DNS) candidates(host string) (names []string) {
	if host == "" || len(host) > 254 {
		return nil
	}
	if strings.HasSuffix(host, ".") {
		return []string{host}
	}
	for _, s := range d.Search {
		names = append(names, host+"."+strings.Trim(s, ".")+".")
	}
	if strings.Contains(host, ".") {
		return append([]string{host + "."}, names...)
	}
	return append(names, host+".")
}

// dnsReply is the answer to a question of one type.
type dnsReply struct {
	addrs []netip.Addr
	err   error
}

// lookup asks for all types at the same time.
func (d *DNS) lookup(ctx context.Context, name string, types []dnsmessage.Type, tell func([]netip.Addr)) (addrs []netip.Addr, err error) {
	replies := make(chan dnsReply, len(types))
	for _, t := range types {
		go func() {
			addrs, err := d.ask(ctx, name, t)
			replies <- dnsReply{addrs, err}
		}()
	}
	for range types {
		r := <-replies
		addrs = append(addrs, r.addrs...)
		if len(r.addrs) > 0 {
			tell(r.addrs)
		}
		// A server that fails for one type says nothing of the other; that it
		// failed is more to the point than that there is nothing.
		if e, ok := errors.AsType[*net.DNSError](r.err); r.err != nil && (err == nil || ok && !e.IsNotFound) {
			err = r.err
		}
	}
	if len(addrs) > 0 {
		return addrs, nil
	}
	return nil, err
}

// ask asks for addresses.
func (d *DNS) ask(ctx context.Context, name string, t dnsmessage.Type) (addrs []netip.Addr, err error) {
	err = d.query(ctx, name, t, func(m *dnsmessage.Message, q dnsmessage.Question) bool {
		addrs = answers(m, q)
		return len(addrs) > 0
	})
	return addrs, err
}

// query asks one question until a server answers it. take is given the answer, and
// reports whether there is in it what was asked for.
func (d *DNS) query(ctx context.Context, name string, t dnsmessage.Type, take func(m *dnsmessage.Message, q dnsmessage.Question) bool) error {
	notFound := &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	n, err := dnsmessage.NewName(name)
	if err != nil {
		return notFound // longer than a name can be
	}
	q := dnsmessage.Question{Name: n, Type: t, Class: dnsmessage.ClassINET}
	last := &net.DNSError{Err: "no DNS server is known", Name: name}
	attempts := d.Attempts
	if attempts <= 0 {
		attempts = dnsAttempts
	}
	for range attempts {
		for _, server := range d.Servers {
			m, err := d.exchange(ctx, server, q)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			switch {
			case err != nil:
				ne, ok := errors.AsType[net.Error](err)
				timeout := ok && ne.Timeout()
				last = &net.DNSError{Err: err.Error(), Name: name, Server: server.String(), IsTimeout: timeout, IsTemporary: true, UnwrapErr: err}
				if timeout {
					last.Err = "i/o timeout"
				}
			case m.RCode == dnsmessage.RCodeNameError:
				return notFound
			case m.RCode != dnsmessage.RCodeSuccess:
				last = &net.DNSError{Err: "server misbehaving", Name: name, Server: server.String(), IsTemporary: true}
			default:
				if take(m, q) {
					return nil
				}
				return notFound // the name has no record of this type
			}
		}
	}
	return last
}

// exchange asks one server, over UDP and, when the answer is too long for that,
// over TCP (RFC 7766 §5).
func (d *DNS) exchange(ctx context.Context, server netip.AddrPort, q dnsmessage.Question) (*dnsmessage.Message, error) {
	// RFC 5452 §9.2: an identifier that cannot be guessed; the stack chooses
	// the port in the same way.
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: uint16(d.Net.stack.RandUint64()), RecursionDesired: true},
		Questions: []dnsmessage.Question{q},
	}
	// Room in front for the length that TCP wants.
	query, err := m.AppendPack(make([]byte, 2, dnsMaxUDP))
	if err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint16(query, uint16(len(query)-2))
	timeout := d.Timeout
	if timeout <= 0 {
		timeout = dnsTimeout
	}
	for _, network := range []string{"udp", "tcp"} {
		r, err := d.roundTrip(ctx, network, server, query, m.ID, q, time.Now().Add(timeout))
		if err != nil || !r.Truncated || network == "tcp" {
			return r, err
		}
	}
	panic("unreachable")
}

func (d *DNS) roundTrip(ctx context.Context, network string, server netip.AddrPort, query []byte, id uint16, q dnsmessage.Question, until time.Time) (*dnsmessage.Message, error) {
	dialer := Dialer{Net: d.Net, Deadline: until, KeepAlive: -1}
	f, err := dialer.open(ctx, network, netip.AddrPortFrom(server.Addr().Unmap(), server.Port()))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	f.SetDeadline(until)
	// Whoever gives up need not wait for the answer.
	stop := context.AfterFunc(ctx, func() { f.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if network == "udp" {
		query = query[2:]
	}
	if _, err := f.Send(query, 0); err != nil {
		return nil, err
	}
	buf := make([]byte, dnsMaxUDP)
	for {
		n := 0
		if network == "udp" {
			n, err = f.Recv(buf, 0)
		} else {
			buf, err = recvLong(f)
			n = len(buf)
		}
		if err != nil {
			return nil, err
		}
		var m dnsmessage.Message
		if parse(&m, buf[:n], id, q) {
			return &m, nil
		}
		if network == "tcp" {
			return nil, errors.New("the answer is not one to the question")
		}
		// RFC 5452 §9.1: what does not match is not the answer, which may come.
	}
}

// recvLong receives a message with its length in front.
func recvLong(f *FD) ([]byte, error) {
	var length [2]byte
	if n, err := f.Recv(length[:], MSG_WAITALL); n < len(length) {
		return nil, tooShort(err)
	}
	b := make([]byte, binary.BigEndian.Uint16(length[:]))
	if n, err := f.Recv(b, MSG_WAITALL); n < len(b) {
		return nil, tooShort(err)
	}
	return b, nil
}

func tooShort(err error) error {
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// parse reads an answer to the question and reports whether it is one. Records
// behind the answers are not looked at, and of a truncated message nothing is.
func parse(m *dnsmessage.Message, b []byte, id uint16, q dnsmessage.Question) bool {
	var p dnsmessage.Parser
	h, err := p.Start(b)
	if err != nil || !h.Response || h.ID != id || h.OpCode != 0 {
		return false
	}
	got, err := p.Question()
	if err != nil || got.Type != q.Type || got.Class != q.Class || !strings.EqualFold(got.Name.String(), q.Name.String()) {
		return false
	}
	if p.SkipAllQuestions() != nil {
		return false
	}
	m.Header = h
	if h.Truncated {
		return true
	}
	m.Answers, err = p.AllAnswers()
	return err == nil
}

// answers are the addresses in m, of the name or what it is an alias of.
func answers(m *dnsmessage.Message, q dnsmessage.Question) []netip.Addr {
	return records(m, q.Name.String(), func(b dnsmessage.ResourceBody) (netip.Addr, bool) {
		switch b := b.(type) {
		case *dnsmessage.AResource:
			return netip.AddrFrom4(b.A), q.Type == dnsmessage.TypeA
		case *dnsmessage.AAAAResource:
			return netip.AddrFrom16(b.AAAA), q.Type == dnsmessage.TypeAAAA
		}
		return netip.Addr{}, false
	})
}

// records are what read makes of the answers in m for a name or, where it has
// none, for what it is an alias of.
func records[T any](m *dnsmessage.Message, name string, read func(dnsmessage.ResourceBody) (T, bool)) (list []T) {
	for range dnsMaxAliases {
		alias := ""
		for _, r := range m.Answers {
			if !strings.EqualFold(r.Header.Name.String(), name) || r.Header.Class != dnsmessage.ClassINET {
				continue
			}
			if b, ok := r.Body.(*dnsmessage.CNAMEResource); ok {
				alias = b.CNAME.String()
			} else if v, ok := read(r.Body); ok {
				list = append(list, v)
			}
		}
		if len(list) > 0 || alias == "" {
			break
		}
		name = alias
	}
	return list
}

// A *net.Resolver is a Resolver too.
var _ Resolver = (*net.Resolver)(nil)
