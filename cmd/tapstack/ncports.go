package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/probe/check"
)

// This file owns how nc's ports are written and called: numbers, ranges, and the
// names of /etc/services.

// parsePorts reads "80", "http" or "20-25".
func parsePorts(s string, udp bool) (list []uint16, err error) {
	low, high, ranged := strings.Cut(s, "-")
	if !ranged || s[0] < '0' || s[0] > '9' {
		if p, ok := servicePort(s, udp); ok {
			return []uint16{p}, nil
		}
		p, err := check.ParsePort(s)
		if err != nil {
			return nil, &attach.UsageError{Err: err}
		}
		return []uint16{p}, nil
	}
	from, err := check.ParsePort(low)
	to := from
	if err == nil {
		to, err = check.ParsePort(high)
	}
	if err != nil {
		return nil, &attach.UsageError{Err: err}
	}
	if from > to {
		from, to = to, from
	}
	for p := int(from); p <= int(to); p++ {
		list = append(list, uint16(p))
	}
	return list, nil
}

// services are the names of ports in /etc/services, by "80/tcp" and "http/tcp".
var services = sync.OnceValue(func() map[string]string {
	m := make(map[string]string)
	f, err := os.Open("/etc/services")
	if err != nil {
		return m // ports are numbers then
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		line, _, _ := strings.Cut(s.Text(), "#")
		w := strings.Fields(line)
		if len(w) < 2 {
			continue
		}
		port, proto, ok := strings.Cut(w[1], "/")
		if !ok {
			continue
		}
		if _, ok := m[w[1]]; !ok {
			m[w[1]] = w[0]
		}
		for i, name := range w {
			if _, ok := m[name+"/"+proto]; i != 1 && !ok {
				m[name+"/"+proto] = port
			}
		}
	}
	return m
})

func protoName(udp bool) string {
	if udp {
		return "udp"
	}
	return "tcp"
}

func servicePort(name string, udp bool) (uint16, bool) {
	if name == "" || name[0] >= '0' && name[0] <= '9' {
		return 0, false
	}
	n, err := strconv.ParseUint(services()[name+"/"+protoName(udp)], 10, 16)
	return uint16(n), err == nil && n > 0
}

// serviceName is what netcat calls a port: "ssh", or "*".
func (o *ncOptions) serviceName(port uint16) string {
	if s := services()[fmt.Sprintf("%d/%s", port, protoName(o.udp))]; s != "" && !o.numeric {
		return s
	}
	return "*"
}
