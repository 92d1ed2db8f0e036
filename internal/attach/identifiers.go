package attach

import (
	"crypto/sha256"
	"fmt"
	"os"
	"strings"

	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
)

// This file owns what the interface identifiers of IPv6 addresses are made of,
// and what of router advertisements is taken.

// identifiers sets what --iid, --temp-addrs, --optimistic-dad and --ra-ignore say. The secret of opaque
// identifiers is made of the machine's identity, so that a host has the same
// addresses after each start (RFC 7217 §5); a machine without one has others.
func (o *Options) identifiers(c *stack.InterfaceConfig) error {
	switch o.IID {
	case "", "opaque":
		c.IID = ipv6.IIDOpaque
		if id, err := os.ReadFile(machineID); err == nil && strings.TrimSpace(string(id)) != "" {
			// machine-id(5): not to be shown to others, but hashed.
			sum := sha256.Sum256([]byte("tapstack interface identifiers " + strings.TrimSpace(string(id))))
			copy(c.IIDSecret[:], sum[:])
		}
	case "eui64":
		c.IID = ipv6.IIDEUI64
	default:
		return fmt.Errorf("--iid %q: is neither opaque nor eui64", o.IID)
	}
	switch o.TempAddrs {
	case "", "off":
		c.TempAddrs = stack.TempAddrsOff
	case "usable":
		c.TempAddrs = stack.TempAddrsUsable
	case "prefer":
		c.TempAddrs = stack.TempAddrsPrefer
	default:
		return fmt.Errorf("--temp-addrs %q: is none of off, usable, prefer", o.TempAddrs)
	}
	c.OptimisticDAD = o.Optimistic
	for _, what := range o.IgnoreRA {
		switch what {
		case "routers":
			c.IgnoreRA.Routers = true
		case "routes":
			c.IgnoreRA.Routes = true
		case "prefixes":
			c.IgnoreRA.Prefixes = true
		case "addresses":
			c.IgnoreRA.Addresses = true
		case "mtu":
			c.IgnoreRA.MTU = true
		case "dns":
			c.IgnoreRA.Names = true
		default:
			return fmt.Errorf("--ra-ignore %q: is none of routers, routes, prefixes, addresses, mtu, dns", what)
		}
	}
	return nil
}
