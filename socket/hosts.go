package socket

// This file owns names that a file knows (hosts(5)): they go before what servers
// say, as with nsswitch.conf's usual order. The file is read again when it has
// changed.

import (
	"bufio"
	"io"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	// hostsCheck is how long a file is not looked at again, as in package net.
	hostsCheck = 5 * time.Second
	// hostsMax bounds what is read of the file, in bytes.
	hostsMax = 4 << 20
)

// hosts are the names of one file.
type hosts struct {
	path string

	mu      sync.Mutex // guards everything below
	checked time.Time
	mtime   time.Time
	size    int64
	names   map[string][]netip.Addr // in lower case, without a final dot
}

// SetHosts has names looked up in a file of the form of /etc/hosts first, unless
// Resolver is set; "" does not. A file that is missing has no names.
func (n *Network) SetHosts(path string) {
	if path == "" {
		n.hosts.Store(nil)
		return
	}
	n.hosts.Store(&hosts{path: path})
}

// lookup returns the addresses of a name, of one family with network "ip4" or
// "ip6".
func (h *hosts) lookup(network, name string) (list []netip.Addr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refreshLocked(time.Now())
	for _, a := range h.names[strings.ToLower(strings.TrimSuffix(name, "."))] {
		if network == "ip" || a.Is4() == (network == "ip4") {
			list = append(list, a)
		}
	}
	return list
}

func (h *hosts) refreshLocked(now time.Time) {
	if h.names != nil && now.Sub(h.checked) < hostsCheck {
		return
	}
	h.checked = now
	f, err := os.Open(h.path)
	if err != nil {
		h.names, h.mtime, h.size = map[string][]netip.Addr{}, time.Time{}, 0
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && h.names != nil && info.ModTime().Equal(h.mtime) && info.Size() == h.size {
		return
	}
	if err == nil {
		h.mtime, h.size = info.ModTime(), info.Size()
	}
	h.names = parseHosts(io.LimitReader(f, hostsMax))
}

// parseHosts reads lines of an address and names, of which what follows # is no
// part. Lines that are neither are left out.
func parseHosts(r io.Reader) map[string][]netip.Addr {
	names := make(map[string][]netip.Addr)
	s := bufio.NewScanner(r)
	for s.Scan() {
		line, _, _ := strings.Cut(s.Text(), "#")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		a, err := netip.ParseAddr(fields[0])
		if err != nil {
			continue
		}
		for _, name := range fields[1:] {
			name = strings.ToLower(strings.TrimSuffix(name, "."))
			names[name] = append(names[name], a.Unmap())
		}
	}
	return names
}
