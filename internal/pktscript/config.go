package pktscript

import (
	"net/netip"
	"strconv"
)

// This file owns the options in the head of a script.

// config is what the options say, in microseconds and bytes.
type config struct {
	v6, mapped       bool
	local            netip.Prefix
	remote           netip.Addr
	bindPort         uint16
	connectPort      uint16
	tolerance        int64
	tolerancePercent float64
	mtu              int
	mss              int // of inbound super-frames, 0: they are plain
	tsTick           int64
	strictSegments   bool
	anyPush          bool
	nonFatalCall     bool
}

// configure reads the options. version decides where they leave it open.
func configure(s *Script, version string) (c config, err error) {
	c = config{bindPort: 8080, connectPort: 8080, tolerance: 4000, tolerancePercent: 12.5, mtu: 1500}
	var local, remote, mask string
	for _, o := range s.Options {
		n, _ := strconv.Atoi(o.Value)
		switch o.Name {
		case "ip_version":
			version = o.Value
		case "bind_port":
			c.bindPort = uint16(n)
		case "connect_port":
			c.connectPort = uint16(n)
		case "local_ip":
			local = o.Value
		case "remote_ip":
			remote = o.Value
		case "netmask_ip":
			mask = o.Value
		case "tolerance_usecs":
			c.tolerance = int64(n)
		case "tolerance_percent":
			c.tolerancePercent, _ = strconv.ParseFloat(o.Value, 64)
		case "mtu":
			c.mtu = n
		case "mss":
			c.mss = n
		case "tcp_ts_tick_usecs":
			c.tsTick = int64(n)
		case "strict_segments":
			c.strictSegments = true
		case "non_fatal":
			c.nonFatalCall = o.Value == "syscall"
		case "tcp_ts_ecr_scaled", "gateway_ip", "speed", "code_format", "code_sockopt", "verbose", "debug", "send_omit_free":
			// What is asked for is so anyway, or is about packetdrill itself.
		default:
			return c, &Unsupported{Reason: "option --" + o.Name}
		}
	}
	switch version {
	case "ipv4", "":
	case "ipv4-mapped-ipv6":
		c.mapped = true
	case "ipv6":
		c.v6 = true
	default:
		return c, &Unsupported{Reason: "option --ip_version=" + version}
	}
	c.local, c.remote = local4, remote4
	if c.v6 {
		c.local, c.remote = local6, remote6
	}
	if s.BSD {
		c.tolerance = max(c.tolerance, bsdTolerance)
	}
	if local != "" {
		a, e := netip.ParseAddr(local)
		if e != nil {
			return c, e
		}
		c.local = netip.PrefixFrom(a, c.local.Bits())
	}
	if m, e := netip.ParseAddr(mask); e == nil && m.Is4() {
		c.local = netip.PrefixFrom(c.local.Addr(), maskBits(m))
	}
	if remote != "" {
		p, e := netip.ParsePrefix(remote)
		c.remote = p.Addr()
		if e != nil {
			if c.remote, e = netip.ParseAddr(remote); e != nil {
				return c, e
			}
		}
	}
	if c.local.Addr().Is4() == c.v6 || c.remote.Is4() == c.v6 {
		return c, &Unsupported{Reason: "addresses of another family than the script's"}
	}
	return c, nil
}

func maskBits(m netip.Addr) (n int) {
	for _, b := range m.As4() {
		for ; b&0x80 != 0; b <<= 1 {
			n++
		}
	}
	return n
}
