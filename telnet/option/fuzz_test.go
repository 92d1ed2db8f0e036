package option

import (
	"testing"

	"github.com/tapstack/tapstack/telnet/engine"
)

// every makes the largest sets of options for both ends.
func every(r engine.Role) []engine.Option {
	if r == engine.Client {
		o := Client(ClientConfig{Terms: []string{"a", "b", "MTTS 9"}, Env: []Var{{Name: "A", Value: "\x00\xff"}, {Name: "B", User: true}},
			Location: "x", Charsets: []string{"UTF-8"}, GMCP: &GMCP{served: served{true}, Name: "n"}, MSDP: true, MSSP: true})
		for _, x := range o {
			if c, ok := x.(*Charset); ok {
				c.Offer = []string{"KOI8-R"} // so that offers collide
			}
		}
		return append(o, NewComPort(true, false))
	}
	return append(Server(ServerConfig{Env: []Var{{Name: "A"}, {User: true}}, Charsets: []string{"UTF-8", "KOI8-R"}, Linemode: ModeEdit,
		Compress: true, GMCP: NewGMCP(), MSDP: true, MSSP: MSSPVars{"A": {"b"}}}), NewComPort(false, true))
}

// FuzzQuiet: two engines that want anything of each other at any time, with
// answers under way, fall silent, and agree on what is on.
func FuzzQuiet(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 24, 200, 4, 31, 9, 5, 34, 7, 6, 42, 13, 201, 8, 39, 3})
	f.Add([]byte{8, 86, 12, 87, 0, 0, 24, 86, 2, 0, 8, 86})
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 200 {
			script = script[:200]
		}
		p := [2]*peer{newPeer(engine.Client, every(engine.Client)...), newPeer(engine.Server, every(engine.Server)...)}
		defer p[0].Close()
		defer p[1].Close()
		deliver := func(from int) int {
			b := p[from].Take()
			p[1-from].feed(b)
			return len(b)
		}
		for i := 0; i+1 < len(script); i += 2 {
			who, code := p[script[i]&1], engine.Code(script[i+1])
			side := engine.Side(script[i] >> 1 & 1)
			switch script[i] >> 2 & 7 {
			case 0, 1, 2:
				who.Enable(side, code)
			case 3:
				who.Disable(side, code)
			case 4:
				deliver(int(code & 1))
			case 5:
				who.TimingMark()
			case 6:
				who.Collapse()
			case 7:
				poke(who, code)
			}
		}
		total := 0
		for round := 0; ; round++ {
			n := deliver(0) + deliver(1)
			if n == 0 {
				break
			}
			if total += n; round > 60 || total > 1<<20 {
				t.Fatalf("not silent after %d rounds, %d bytes", round, total)
			}
		}
		if len(p[0].data)+len(p[1].data) != 0 {
			t.Errorf("negotiation became data: %x, %x", p[0].data, p[1].data)
		}
	})
}

// poke does what options can begin by themselves.
func poke(p *peer, n engine.Code) {
	o := p.Option(n)
	if o == nil {
		all := p.Codes()
		o = p.Option(all[int(n)%len(all)])
	}
	on := p.On(engine.Us, o.Code())
	switch o := o.(type) {
	case *Linemode:
		if on || p.On(engine.Him, engine.Linemode) {
			o.SetMode(p.Engine, Mode(n))
		}
		o.SetChar(p.Engine, Function(n%32), Char{byte(n), byte(n)})
	case *Window:
		o.Resize(p.Engine, Size{int(n), int(n) + 1})
	case *Environ:
		o.Set(p.Engine, Var{Name: "C", Value: "d"})
	case *Charset:
		if on {
			o.Ask(p.Engine)
		}
	case *LFlow:
		o.Set(p.Engine, FlowMode(n&3))
	}
}

// FuzzOptions: no subnegotiation makes an option panic or answer without end.
func FuzzOptions(f *testing.F) {
	f.Add(true, byte(34), []byte("\x03\x00\x03\x00\x01\x02\x03"))
	f.Add(false, byte(39), []byte("\x01\x00A\x03"))
	f.Add(false, byte(42), []byte("\x01[TTABLE]\x01;a;b"))
	f.Add(true, byte(69), []byte("\x01a\x02\x03\x01b\x02\x05\x02c\x06\x04"))
	f.Add(true, byte(5), []byte("\x00\xfb\x03\xfa\x01\xf0"))
	f.Fuzz(func(t *testing.T, server bool, code byte, content []byte) {
		role := engine.Client
		if server {
			role = engine.Server
		}
		p := newPeer(role, every(role)...)
		defer p.Close()
		for c := range 256 {
			p.verb(engine.DO, engine.Code(c))
			p.verb(engine.WILL, engine.Code(c))
		}
		p.Take()
		for range 3 {
			p.sub(engine.Code(code), string(content))
			if n := len(p.Take()); n > 4096+4*len(content)*64 {
				t.Fatalf("%d bytes for %d", n, len(content))
			}
		}
	})
}
