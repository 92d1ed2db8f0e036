package dhcp

// This file owns the lease file: what of a lease outlives the program, so that
// the next start asks for the same address (RFC 2131 §3.2, §4.4.2), and whose it
// is. Package both owns how such files are written.

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"time"

	"github.com/tapstack/tapstack/dhcp/internal/both"
	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/mono"
)

const (
	leaseFormat = "tapstack-dhcp-lease-1"
	leaseFile   = "lease file" // in errors
)

// store is the file of one client.
type store struct {
	path     string
	mac      ether.Addr
	clientID string
	last     record // what the file says of the lease
}

func newStore(path string, mac ether.Addr, id []byte) *store {
	if len(id) == 0 {
		id = defaultID(mac)
	}
	return &store{path: path, mac: mac, clientID: hex.EncodeToString(id)}
}

// record is the content of the file.
type record struct {
	Format   string     `json:"format"`
	MAC      string     `json:"mac"`
	ClientID string     `json:"clientID"`
	Address  string     `json:"address,omitempty"`
	Server   netip.Addr `json:"server,omitzero"`
	// Acquired is when the lease began, and Seconds how long it runs; 0 is for
	// ever.
	Acquired  time.Time  `json:"acquired,omitzero"`
	Seconds   int64      `json:"seconds,omitempty"`
	LinkLocal netip.Addr `json:"linkLocal,omitzero"`
	Checksum  string     `json:"sum"`
}

// Sum implements both.Summed.
func (c *record) Sum() *string { return &c.Checksum }

// stored is what the client makes use of.
type stored struct {
	addr      netip.Addr // to ask for, if valid
	live      bool       // the lease is not over: by INIT-REBOOT
	linkLocal netip.Addr
}

// load reads the file. That there is none is no error; one that cannot be read,
// is damaged, or is another client's, is one, and as good as none.
func (s *store) load(now time.Time) (stored, error) {
	b, err := both.ReadFile(leaseFile, s.path)
	if err != nil || b == nil {
		return stored{}, err
	}
	return s.parse(b, now)
}

func (s *store) parse(b []byte, now time.Time) (w stored, err error) {
	var c record
	if err := both.ParseFile(leaseFile, s.path, b, &c); err != nil {
		return w, err
	}
	switch {
	case c.Format != leaseFormat:
		return w, fmt.Errorf("%s %s: not one of this program: format %q", leaseFile, s.path, c.Format)
	case c.MAC != s.mac.String() || c.ClientID != s.clientID:
		return w, fmt.Errorf("%s %s: of another client, %s", leaseFile, s.path, c.MAC)
	}
	w.linkLocal, s.last = c.LinkLocal, c
	p, err := netip.ParsePrefix(c.Address)
	if err != nil || !isHost(p.Addr()) {
		return w, nil
	}
	w.addr = p.Addr()
	// A lease from the future is one from before the clock was set back, and as
	// unknown as one that is over.
	age := now.Sub(c.Acquired)
	w.live = age >= 0 && (c.Seconds == 0 || age < time.Duration(min(c.Seconds, 1<<32))*time.Second)
	return w, nil
}

// save writes the file for a lease. wall and now are the same instant.
func (s *store) save(wall time.Time, now mono.Time, l *Lease, linkLocal netip.Addr) error {
	c := record{Address: l.Addr.String(), Server: l.Server, Acquired: wall.Add(-now.Sub(l.Acquired)).UTC().Round(0), LinkLocal: linkLocal}
	if l.Lease != Infinite {
		c.Seconds = int64(l.Lease / time.Second)
	}
	return s.write(c)
}

// remove forgets the lease, and only that.
func (s *store) remove(linkLocal netip.Addr) error {
	if linkLocal.IsValid() {
		return s.write(record{LinkLocal: linkLocal})
	}
	s.last = record{}
	return both.RemoveFile(s.path)
}

// remember notes a link-local address beside what the file says.
func (s *store) remember(linkLocal netip.Addr) error {
	c := s.last
	c.LinkLocal = linkLocal
	return s.write(c)
}

// write replaces the file.
func (s *store) write(c record) error {
	s.last = c
	c.Format, c.MAC, c.ClientID = leaseFormat, s.mac.String(), s.clientID
	return both.WriteFile(leaseFile, s.path, &c)
}
