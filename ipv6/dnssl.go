package ipv6

import (
	"strings"
	"time"
)

// This file owns the search list option of router advertisements (RFC 8106
// §5.2): names of domains in the form of DNS, without compression, and then
// zeros up to a multiple of eight bytes.

// MaxDNSSearch is how many domains one advertisement may name.
const MaxDNSSearch = 8

const optDNSSL = 31

// DNSSearch is one domain of a search list.
type DNSSearch struct {
	Domain   string        // without a final dot
	Lifetime time.Duration // whole seconds, or Infinite; 0: no longer to be used
}

// dnssl reads the option; what is malformed or beyond the limit makes it false.
func (m *RouterAdvert) dnssl(opt []byte) bool {
	if len(opt) < 16 {
		return false
	}
	life := lifetime(opt[4:])
	for b := opt[8:]; len(b) > 0; {
		name, n := searchDomain(b)
		if n == 0 {
			return false
		}
		b = b[n:]
		if name == "" {
			continue // padding
		}
		if len(m.Search) == MaxDNSSearch {
			return false
		}
		m.Search = append(m.Search, DNSSearch{name, life})
	}
	return true
}

// searchDomain reads a name and returns how many bytes it has; 0 if it is none
// that a host's name may have.
func searchDomain(b []byte) (name string, n int) {
	var labels []string
	for n < len(b) {
		l := int(b[n])
		n++
		if l == 0 {
			if name = strings.Join(labels, "."); len(name) > 253 {
				return "", 0
			}
			return name, n
		}
		if l > 63 || n+l > len(b) {
			return "", 0
		}
		for _, c := range b[n : n+l] {
			if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return "", 0 // such names end up in configuration
			}
		}
		labels = append(labels, string(b[n:n+l]))
		n += l
	}
	return "", 0
}

// appendDNSSL appends an option of one domain.
func appendDNSSL(b []byte, s DNSSearch) []byte {
	var name []byte
	for label := range strings.SplitSeq(s.Domain, ".") {
		name = append(append(name, uint8(len(label))), label...)
	}
	name = append(name, 0)
	for len(name)%8 != 0 {
		name = append(name, 0)
	}
	return append(appendLifetime(append(b, optDNSSL, uint8(1+len(name)/8), 0, 0), s.Lifetime), name...)
}
