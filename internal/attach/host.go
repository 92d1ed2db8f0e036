package attach

// This file owns --net host: a program on the host's own sockets instead of a
// stack, so that it can be tried on either. And --dns, which only a stack needs.

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/pflag"
)

// checkNoStack refuses flags that would have to do with a stack. Variables of
// the environment are defaults, and give way.
func (o *Options) checkNoStack(*plan) (err error) {
	var mine pflag.FlagSet
	new(Options).Register(&mine)
	mine.VisitAll(func(f *pflag.Flag) {
		if f.Name != "net" && o.given(f.Name) && err == nil {
			err = fmt.Errorf("--%s: is about a stack, and with --net host there is none", f.Name)
		}
	})
	return err
}

func (o *Options) checkDNS(p *plan) error {
	for _, s := range o.DNS {
		a, err := netip.ParseAddr(strings.TrimSpace(s))
		if err != nil || a.IsUnspecified() || a.IsMulticast() {
			return fmt.Errorf("--dns %q: want the address of a server, as 10.77.0.1 or fd77::1", s)
		}
		if err := p.checkZone(a); err != nil {
			return fmt.Errorf("--dns %s: %w", s, err)
		}
		p.dns = append(p.dns, a.Unmap())
	}
	return nil
}

// checkZone refuses the zone of another interface than the one there is.
func (p *plan) checkZone(a netip.Addr) error {
	if z := a.Zone(); z != "" && z != p.interfaceName() {
		return fmt.Errorf("there is no interface %s here, but %s", z, p.interfaceName())
	}
	return nil
}

// NeedStack returns the error of a program that is about the stack when there
// is none.
func (h *Host) NeedStack() error {
	if h.Stack == nil {
		return Usagef("--net host: this program is about the stack, and needs one")
	}
	return nil
}

// addresses are those of the stack's interface, or all of the host's.
func (h *Host) addresses() (addrs []string) {
	if h.Interface != nil {
		for _, a := range h.Interface.Addrs() {
			addrs = append(addrs, a.String())
		}
		return addrs
	}
	list, _ := h.Net.InterfaceAddrs() // none, if they cannot be had
	for _, a := range list {
		addrs = append(addrs, a.String())
	}
	return addrs
}
