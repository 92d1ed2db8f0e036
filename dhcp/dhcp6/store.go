package dhcp6

// This file owns the lease file: what of a lease outlives the program, so that
// the next start can ask whether it is still good (RFC 8415 §18.2.12), and whose
// it is. Package both owns how such files are written.

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/tapstack/tapstack/dhcp/internal/both"
	"github.com/tapstack/tapstack/internal/mono"
)

const (
	leaseFormat = "tapstack-dhcp6-lease-1"
	leaseFile   = "lease file" // in errors
)

// store is the file of one client.
type store struct {
	path string
	duid string
	iaid uint32
}

func newStore(path string, duid []byte, iaid uint32) *store {
	return &store{path, hex.EncodeToString(duid), iaid}
}

// record is the content of the file. Times are those of the wall; none is never.
type record struct {
	Format   string    `json:"format"`
	DUID     string    `json:"duid"`
	IAID     uint32    `json:"iaid"`
	Server   string    `json:"server"`
	Acquired time.Time `json:"acquired"`
	T1       uint32    `json:"t1"` // seconds
	T2       uint32    `json:"t2"`
	Leases   []kept    `json:"leases"`
	Options  []byte    `json:"options,omitempty"` // those of keptOptions, as they were in the message
	Checksum string    `json:"sum"`
}

// keptOptions are what else of an answer is kept: the server that confirms
// addresses says none of it again (RFC 8415 §18.3.3), and the host would be
// without name servers until T1.
var keptOptions = []OptionCode{OptDNS, OptSearch, OptSNTP, OptNTP, OptFQDN, OptCaptivePortal}

// maxKept is how many bytes of them a file has room for.
const maxKept = 4096

// kept is an address, of length 128, or a delegated prefix.
type kept struct {
	Prefix    netip.Prefix `json:"prefix"`
	Delegated bool         `json:"delegated,omitempty"`
	Preferred time.Time    `json:"preferred,omitzero"`
	Valid     time.Time    `json:"valid,omitzero"`
}

// Sum implements both.Summed.
func (c *record) Sum() *string { return &c.Checksum }

// load reads the file. That there is none is no error; one that cannot be read,
// is damaged, or is another client's, is one, and as good as none. wall and now
// are the same instant.
func (s *store) load(wall time.Time, now mono.Time) (Lease, error) {
	b, err := both.ReadFile(leaseFile, s.path)
	if err != nil || b == nil {
		return Lease{}, err
	}
	return s.parse(b, wall, now)
}

func (s *store) parse(b []byte, wall time.Time, now mono.Time) (l Lease, err error) {
	var c record
	if err := both.ParseFile(leaseFile, s.path, b, &c); err != nil {
		return l, err
	}
	switch {
	case c.Format != leaseFormat:
		return l, fmt.Errorf("%s %s: not one of this program: format %q", leaseFile, s.path, c.Format)
	case c.DUID != s.duid || c.IAID != s.iaid:
		return l, fmt.Errorf("%s %s: of another client, %s", leaseFile, s.path, c.DUID)
	}
	server, err := hex.DecodeString(c.Server)
	if err != nil || len(server) < minDUID || len(server) > maxDUID || c.T1 > c.T2 {
		return l, fmt.Errorf("%s %s: not one of this program", leaseFile, s.path)
	}
	age := wall.Sub(c.Acquired)
	if age < 0 {
		// From the future: the clock was set back since, and nothing is known.
		return l, nil
	}
	at := func(t time.Time) (mono.Time, bool) {
		if t.IsZero() {
			return 0, true
		}
		left := t.Sub(wall)
		return now.Add(left), left > -age && left < 1<<33*time.Second
	}
	for _, k := range c.Leases {
		g := Granted{Prefix: k.Prefix.Masked()}
		var ok1, ok2 bool
		g.Preferred, ok1 = at(k.Preferred)
		g.Valid, ok2 = at(k.Valid)
		if !isHost(g.Prefix.Addr()) || !ok1 || !ok2 || g.Valid.Due(now) {
			continue
		}
		switch {
		case k.Delegated && len(l.Prefixes) < maxLeases:
			l.Prefixes = append(l.Prefixes, g)
		case !k.Delegated && k.Prefix.Bits() == 128 && len(l.Addrs) < maxLeases:
			l.Addrs = append(l.Addrs, g)
		}
	}
	o, d := parseOptions(c.Options)
	if d != DropNone {
		return Lease{}, fmt.Errorf("%s %s: not one of this program", leaseFile, s.path)
	}
	l.setRest(o)
	l.Server, l.T1, l.T2 = server, fromUint(c.T1), fromUint(c.T2)
	l.Acquired = now.Add(-min(age, 1<<33*time.Second))
	return l, nil
}

// save writes the file for a lease. wall and now are the same instant.
func (s *store) save(wall time.Time, now mono.Time, l *Lease) error {
	c := record{Format: leaseFormat, DUID: s.duid, IAID: s.iaid, Server: hex.EncodeToString(l.Server),
		T1: toSeconds(l.T1), T2: toSeconds(l.T2)}
	at := func(t mono.Time) time.Time { return wall.Add(t.Sub(now)).UTC().Round(0) }
	c.Acquired = at(l.Acquired)
	add := func(list []Granted, delegated bool) {
		for _, g := range list {
			k := kept{Prefix: g.Prefix, Delegated: delegated}
			if g.Preferred != 0 {
				k.Preferred = at(g.Preferred)
			}
			if g.Valid != 0 {
				k.Valid = at(g.Valid)
			}
			c.Leases = append(c.Leases, k)
		}
	}
	add(l.Addrs, false)
	add(l.Prefixes, true)
	for _, o := range l.Options {
		if slices.Contains(keptOptions, o.Code) && len(c.Options)+len(o.Data)+4 <= maxKept {
			c.Options = appendOption(c.Options, o.Code, o.Data)
		}
	}
	return both.WriteFile(leaseFile, s.path, &c)
}

// remove forgets the lease.
func (s *store) remove() error {
	if err := both.RemoveFile(s.path); err != nil {
		return fmt.Errorf("%s: %w", leaseFile, err)
	}
	return nil
}
