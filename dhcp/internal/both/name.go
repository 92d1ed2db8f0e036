package both

import "strings"

// This file owns names in the format of DNS (RFC 1035 §3.1), which come from
// servers and end up in the configuration of the host.

// IsLabel reports whether s may be a label of a host name: the strings end up
// in configuration and must not carry anything else.
func IsLabel(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return len(s) > 0 && len(s) <= 63
}

// Names returns a list of names; nil if any of it is malformed. Compression
// pointers, into the list itself, are for DHCPv4 (RFC 3397 §2); RFC 8415 §10
// forbids them.
func Names(d []byte, pointers bool) []string {
	var list []string
	for at := 0; at < len(d); {
		name, next := dnsName(d, at, pointers)
		if name == "" {
			return nil
		}
		list = append(list, name)
		at = next
	}
	return list
}

// dnsName reads the name at d[at:] and returns where the next one begins. It
// returns "" for the root and for what is malformed. A pointer must point
// before the place where the name it continues began, so that there is no
// loop, and a name has at most 253 bytes, so that the work is bounded.
func dnsName(d []byte, at int, pointers bool) (name string, next int) {
	limit := at
	for at < len(d) {
		n := int(d[at])
		switch {
		case n == 0:
			if next == 0 {
				next = at + 1
			}
			return name, next
		case n >= 0xc0 && pointers:
			if at+1 >= len(d) {
				return "", 0
			}
			if next == 0 {
				next = at + 2
			}
			at = (n&0x3f)<<8 | int(d[at+1])
			if at >= limit {
				return "", 0
			}
			limit = at
			continue
		case n > 63 || at+1+n > len(d):
			return "", 0
		}
		label := string(d[at+1 : at+1+n])
		if !IsLabel(label) || len(name)+1+n > 253 {
			return "", 0
		}
		if name != "" {
			name += "."
		}
		name += label
		at += 1 + n
	}
	return "", 0
}

// AppendName appends a name in that format. full
// ends it with the root; without, it is partial (RFC 4704 §4.2). False: it is no
// name, and nothing is appended.
func AppendName(b []byte, name string, full bool) ([]byte, bool) {
	if len(name) > 253 {
		return b, false
	}
	start := len(b)
	for label := range strings.SplitSeq(name, ".") {
		if !IsLabel(label) {
			return b[:start], false
		}
		b = append(append(b, byte(len(label))), label...)
	}
	if full {
		b = append(b, 0)
	}
	return b, true
}
