package attach

import (
	"testing"

	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
)

// TestIdentifiers: what the flags say reaches the interface, and the secret is
// the same each time.
func TestIdentifiers(t *testing.T) {
	var a, b, c stack.InterfaceConfig
	for _, x := range []struct {
		o *Options
		c *stack.InterfaceConfig
	}{{&Options{}, &a}, {&Options{IID: "opaque", TempAddrs: "prefer"}, &b}, {&Options{IID: "eui64", TempAddrs: "usable"}, &c}} {
		if err := x.o.identifiers(x.c); err != nil {
			t.Fatal(err)
		}
	}
	if a.IID != ipv6.IIDOpaque || a.IIDSecret != b.IIDSecret || a.TempAddrs != stack.TempAddrsOff || b.TempAddrs != stack.TempAddrsPrefer {
		t.Errorf("%+v %+v", a, b)
	}
	var d stack.InterfaceConfig
	o := Options{IgnoreRA: []string{"routers", "routes", "prefixes", "addresses", "mtu", "dns"}, Optimistic: true}
	if err := o.identifiers(&d); err != nil || !d.OptimisticDAD || d.IgnoreRA != (ipv6.RAIgnore{Routers: true, Routes: true, Prefixes: true, Addresses: true, MTU: true, Names: true}) {
		t.Errorf("%v %+v", err, d.IgnoreRA)
	}
	o.IgnoreRA = []string{"all"}
	if err := o.identifiers(&d); err == nil {
		t.Error("--ra-ignore all is no mistake")
	}
	if c.IID != ipv6.IIDEUI64 || c.IIDSecret != [16]byte{} || c.TempAddrs != stack.TempAddrsUsable {
		t.Errorf("%+v", c)
	}
}
