package socket

// This file owns the part of RFC 3542 and RFC 5014 that is not a number: the
// extension headers that programs send and are told of, the path MTU, and which
// addresses they like to send from. Headers are bytes as on the wire; their
// first byte, the next header, is filled in. What AppendOption and EachOption
// are for inet6_opt_append(3) and its relatives do in C.

import (
	"encoding/binary"
	"iter"
	"math/bits"
	"net/netip"
	"syscall"

	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
)

// mtuInfoLen is the length of a struct ip6_mtuinfo: an address and a number.
const mtuInfoLen = sockaddrLen6 + 4

// Bits of IPV6_ADDR_PREFERENCES (RFC 5014 §2), with Linux's numbers.
const (
	IPV6_PREFER_SRC_TMP            = 1
	IPV6_PREFER_SRC_PUBLIC         = 2
	IPV6_PREFER_SRC_COA            = 4
	IPV6_PREFER_SRC_CGA            = 8
	IPV6_PREFER_SRC_PUBTMP_DEFAULT = 0x100
	IPV6_PREFER_SRC_HOME           = 0x400
	IPV6_PREFER_SRC_NONCGA         = 0x800
)

func init() {
	for opt, kind := range sentHeaders {
		rawOptions[name{IPPROTO_IPV6, opt}] = rawOption{
			set: func(f *FD, b []byte) error {
				return f.changeHeaders(func(o *stack.HeaderOptions) error { return o.SetHeader(kind, b) })
			},
			get: func(f *FD) ([]byte, error) {
				o := f.headerOptions()
				return o.Header(kind), nil
			},
			stream: true,
		}
	}
	rawOptions[name{IPPROTO_IP, IP_OPTIONS}] = rawOption{
		set: func(f *FD, b []byte) error {
			return f.changeHeaders(func(o *stack.HeaderOptions) error { return o.SetIPOptions(b) })
		},
		get: func(f *FD) ([]byte, error) {
			o := f.headerOptions()
			return o.IPOptions(), nil
		},
		stream: true,
	}
	rawOptions[name{IPPROTO_IPV6, IPV6_PATHMTU}] = rawOption{get: (*FD).mtuInfo, room: atLeast(mtuInfoLen)}
}

// sentHeaders are the options and control messages that send an extension header.
var sentHeaders = map[int]stack.HeaderKind{
	IPV6_HOPOPTS: stack.HeaderHopByHop, IPV6_RTHDRDSTOPTS: stack.HeaderBeforeRouting,
	IPV6_RTHDR: stack.HeaderRouting, IPV6_DSTOPTS: stack.HeaderDestination,
}

// changeHeaders lets do change what the IP headers of the socket's packets have:
// those of the connection, or of the connections to come.
func (f *FD) changeHeaders(do func(*stack.HeaderOptions) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.headerOptionsLocked()
	if err := do(&o); err != nil {
		return err
	}
	switch {
	case f.dgram != nil:
		f.dgram.SetHeaderOptions(o)
		return nil
	case f.conn != nil:
		f.conn.SetHeaderOptions(o)
		if !f.connecting {
			return nil
		}
	}
	f.changeLocked().headers = o
	if f.bind != nil {
		f.bind.SetHeaderOptions(o)
	}
	return nil
}

func (f *FD) headerOptionsLocked() stack.HeaderOptions {
	switch {
	case f.dgram != nil:
		return f.dgram.HeaderOptions()
	case f.conn != nil:
		return f.conn.HeaderOptions()
	}
	return f.settingsLocked().headers
}

func (f *FD) headerOptions() stack.HeaderOptions {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.headerOptionsLocked()
}

// keepsHeaders is an option that asks for the control messages of a kind of
// extension header.
func keepsHeaders(bit uint32) option {
	o := wanted(bit)
	set := o.set
	o.set = func(f *FD, v int) error {
		if err := set(f, v); err != nil {
			return err
		}
		return f.dgram.Set(stack.DatagramKeepHeaders, b2i(f.want.Load()&wantHeaders != 0))
	}
	return o
}

// controlHeaders tells of extension headers, hop-by-hop first and the others in
// their order, as Linux does.
func controlHeaders(w *controlWriter, want uint32, a *stack.Arrival) {
	for proto, h := range a.ExtensionHeaders() {
		switch {
		case proto == ipv6.ProtoHopByHop && want&wantHopOpts != 0:
			w.put(IPPROTO_IPV6, IPV6_HOPOPTS, h)
		case proto == ipv6.ProtoDestOpts && want&wantDstOpts != 0:
			w.put(IPPROTO_IPV6, IPV6_DSTOPTS, h)
		case proto == ipv6.ProtoRouting && want&wantRouting != 0:
			w.put(IPPROTO_IPV6, IPV6_RTHDR, h)
		}
	}
}

// sendHeader6 reads a message with an extension header or a flow label. A
// hop-by-hop header may be given once; of the others, as on Linux, the last
// counts.
func sendHeader6(c Control, m *stack.SendInfo) error {
	if c.Type == IPV6_FLOWINFO {
		if len(c.Data) < 4 {
			return syscall.EINVAL
		}
		m.FlowLabel = binary.BigEndian.Uint32(c.Data) & 0xfffff
		return nil
	}
	h, err := stack.ParseOptionsHeader(c.Data)
	to := m.Headers.Of(sentHeaders[c.Type])
	if err != nil || c.Type == IPV6_HOPOPTS && *to != nil || c.Type == IPV6_RTHDR && !stack.MayRoute(h) {
		return syscall.EINVAL
	}
	*to = append([]byte(nil), h...) // MSG_MORE keeps it
	return nil
}

// mtuInfo is a struct ip6_mtuinfo without an address, as Linux fills it in.
func (f *FD) mtuInfo() ([]byte, error) {
	mtu, err := f.pathMTU()
	if err != nil {
		return nil, err
	}
	return binary.NativeEndian.AppendUint32(make([]byte, sockaddrLen6), uint32(mtu)), nil
}

// controlPathMTU makes of the news of a path a message without data.
func (f *FD) controlPathMTU(m *Msg, news stack.PathMTUNews) {
	m.Name = netip.AddrPortFrom(news.To, 0)
	b := make([]byte, mtuInfoLen)
	putSockaddr(b, m.Name, 0)
	binary.NativeEndian.PutUint32(b[sockaddrLen6:], uint32(news.MTU))
	w := controlWriter{b: m.Control}
	w.put(IPPROTO_IPV6, IPV6_PATHMTU, b)
	m.ControlLen = w.n
	if w.cut {
		m.Flags |= MSG_CTRUNC
	}
}

// setPreferences replaces all preferences, as on Linux (RFC 5014 §5 has those
// stay that v is not about). EINVAL for contradictions.
func (f *FD) setPreferences(v int) error {
	for _, only := range []int{IPV6_PREFER_SRC_TMP | IPV6_PREFER_SRC_PUBLIC | IPV6_PREFER_SRC_PUBTMP_DEFAULT,
		IPV6_PREFER_SRC_HOME | IPV6_PREFER_SRC_COA, IPV6_PREFER_SRC_CGA | IPV6_PREFER_SRC_NONCGA} {
		if f.dgram != nil && bits.OnesCount(uint(v&only)) > 1 {
			return syscall.EINVAL
		}
	}
	return f.setDatagram(stack.DatagramPreferences, v&(stack.PreferTemporary|stack.PreferPublic|stack.PreferCareOf))
}

func (f *FD) preferences() (int, error) {
	v, err := f.getDatagram(stack.DatagramPreferences)
	out := v & (IPV6_PREFER_SRC_TMP | IPV6_PREFER_SRC_PUBLIC)
	if out == 0 {
		out = IPV6_PREFER_SRC_PUBTMP_DEFAULT
	}
	if v&stack.PreferCareOf != 0 {
		return out | IPV6_PREFER_SRC_COA, err
	}
	return out | IPV6_PREFER_SRC_HOME, err
}

// AppendOption appends an option to a header of options, and begins one if h is
// empty; data is to lie at a multiple of align (1, 2, 4 or 8) from the header's
// start (RFC 3542 §10). What it returns is a whole header. It panics for data of
// more than 255 bytes and for another align.
func AppendOption(h []byte, typ uint8, data []byte, align int) []byte {
	if len(data) > 255 || align != 1 && align != 2 && align != 4 && align != 8 {
		panic("socket: no such option")
	}
	end := 2
	for at := range options(h) {
		end = at.end
	}
	if len(h) < 2 {
		h = make([]byte, 2)
	}
	b := append([]byte(nil), h[:end]...)
	b = pad(b, (align-(len(b)+2)%align)%align)
	b = append(append(b, typ, byte(len(data))), data...)
	b = pad(b, (8-len(b)%8)%8)
	b[1] = byte(len(b)/8 - 1)
	return b
}

// pad appends n bytes of padding, at most 7 (RFC 8200 §4.2).
func pad(b []byte, n int) []byte {
	switch {
	case n == 1:
		return append(b, 0)
	case n > 1:
		return append(append(b, 1, byte(n-2)), make([]byte, n-2)...)
	}
	return b
}

// option6 is an option of an extension header, and where it ends there.
type option6 struct {
	typ  uint8
	data []byte
	end  int
}

func options(h []byte) iter.Seq[option6] {
	return func(yield func(option6) bool) {
		for i := 2; i < len(h); {
			switch {
			case h[i] == 0:
				i++
				continue
			case i+2 > len(h) || i+2+int(h[i+1]) > len(h):
				return
			}
			end := i + 2 + int(h[i+1])
			if h[i] != 1 && !yield(option6{h[i], h[i+2 : end : end], end}) {
				return
			}
			i = end
		}
	}
}

// EachOption yields type and data of the options of a header but padding, up to
// one that is not whole (RFC 3542 §10).
func EachOption(h []byte) iter.Seq2[uint8, []byte] {
	return func(yield func(uint8, []byte) bool) {
		for o := range options(h) {
			if !yield(o.typ, o.data) {
				return
			}
		}
	}
}
