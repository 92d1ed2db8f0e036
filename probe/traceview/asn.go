package traceview

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
)

// This file owns AS numbers. They come from a file of the user's and from nowhere
// else: nobody is told whom he traces. A line of it is a prefix, a number and a
// name, with tabs between; the name may be missing, the number may begin with AS.
// Empty lines and those that begin with # are passed over. The longest prefix
// that has an address counts.

// maxASLines bounds the file: twice what the table of the whole internet has.
const maxASLines = 3 << 20

// AS is an autonomous system.
type AS struct {
	Number uint32
	Name   string // "" when the file does not say
}

// ASTable finds the autonomous system of an address. A nil table knows none.
type ASTable struct {
	of      map[netip.Prefix]AS
	lengths [2][]int // of IPv4 and IPv6, the longest first
}

// ReadAS reads a table. The error says which line is wrong.
func ReadAS(r io.Reader) (*ASTable, error) {
	t := &ASTable{of: make(map[netip.Prefix]AS)}
	names := make(map[string]string) // one copy of each
	var has [2][129]bool
	s := bufio.NewScanner(r)
	for n := 1; s.Scan(); n++ {
		line := strings.TrimRight(s.Text(), "\r")
		if strings.TrimSpace(line) == "" || line[0] == '#' {
			continue
		}
		if n > maxASLines {
			return nil, fmt.Errorf("more than %d lines", maxASLines)
		}
		f := strings.SplitN(line, "\t", 3)
		if len(f) < 2 {
			return nil, fmt.Errorf("line %d: want a prefix, a tab and a number", n)
		}
		p, err := netip.ParsePrefix(strings.TrimSpace(f[0]))
		if err != nil {
			return nil, fmt.Errorf("line %d: %q is not a prefix", n, f[0])
		}
		number := strings.TrimSpace(f[1])
		if len(number) > 2 && strings.EqualFold(number[:2], "AS") {
			number = number[2:]
		}
		as, err := strconv.ParseUint(number, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("line %d: %q is not the number of an AS", n, f[1])
		}
		x := AS{Number: uint32(as)}
		if len(f) == 3 {
			name, ok := names[f[2]]
			if !ok {
				name = words(f[2])
				names[f[2]] = name
			}
			x.Name = name
		}
		t.of[p.Masked()] = x
		family := 1
		if p.Addr().Is4() {
			family = 0
		}
		has[family][p.Bits()] = true
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	for family := range has {
		for bits := 128; bits >= 0; bits-- {
			if has[family][bits] {
				t.lengths[family] = append(t.lengths[family], bits)
			}
		}
	}
	return t, nil
}

// words is plain for a text with blanks.
func words(s string) string {
	f := strings.Fields(s)
	for i := range f {
		f[i] = plain(f[i])
	}
	return strings.Join(f, " ")
}

// Of returns the system that an address is in.
func (t *ASTable) Of(a netip.Addr) (AS, bool) {
	if t == nil || !a.IsValid() {
		return AS{}, false
	}
	a = a.Unmap().WithZone("")
	family := 1
	if a.Is4() {
		family = 0
	}
	for _, bits := range t.lengths[family] {
		// The lengths are of the family.
		if p, err := a.Prefix(bits); err == nil {
			if x, ok := t.of[p]; ok {
				return x, true
			}
		}
	}
	return AS{}, false
}

// Text is how mtr shows an AS number in front of a host: "AS15169", or "AS???".
func (t *ASTable) Text(a netip.Addr) string {
	if x, ok := t.Of(a); ok {
		return "AS" + strconv.FormatUint(uint64(x.Number), 10)
	}
	return "AS???"
}
