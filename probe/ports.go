package probe

// This file owns the source ports, and identifiers of echo requests, that probes
// have: each is taken from the stack once, for as many probes as use it.

type portKey struct {
	table uint8 // the protocol's number; ICMP's for both families
	port  uint16
}

// portUse counts the probes, and callers of Reserve, that use a port.
type portUse struct{ users int }

// Reserve takes a source port, or an identifier of echo requests, for several
// probes: 0 takes a free one. EADDRINUSE when a socket has it. Release gives it
// back once the probes that use it are over.
func (p *Prober) Reserve(proto Proto, port uint16) (uint16, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reserveLocked(proto, port)
}

func (p *Prober) reserveLocked(proto Proto, port uint16) (uint16, error) {
	k := portKey{proto.ipProto(false), port}
	if u := p.ports[k]; port != 0 && u != nil {
		u.users++
		return port, nil
	}
	port, err := p.out.ReservePort(k.table, port)
	if err == nil {
		k.port = port
		p.ports[k] = &portUse{1}
	}
	return port, err
}

// Release gives back what Reserve took.
func (p *Prober) Release(proto Proto, port uint16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.releaseLocked(proto, port)
}

func (p *Prober) releaseLocked(proto Proto, port uint16) {
	k := portKey{proto.ipProto(false), port}
	u := p.ports[k]
	if u == nil {
		return
	}
	if u.users--; u.users == 0 {
		delete(p.ports, k)
		p.out.ReleasePort(k.table, port)
	}
}
