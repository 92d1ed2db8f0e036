// Package mtr is the program mtr-packet: a session on standard input and output
// with a stack that the environment describes. It is a package since there are
// two ways in, cmd/mtr-packet and a link to tapstack with that name.
package mtr

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"

	"github.com/spf13/pflag"

	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/internal/probecap"
	"github.com/tapstack/tapstack/probe/mtrpacket"
)

// Name is what the program is called.
const Name = "mtr-packet"

// Variables besides attach's.
const (
	// EnvInFlight is how many probes may be under way, 1 to 65536.
	EnvInFlight = "TAPSTACK_IN_FLIGHT"
	// EnvLocalIP says which local-ip is taken: of the stack alone (strict), or
	// of the host too (host, the default), instead of which the stack's is used.
	EnvLocalIP = "TAPSTACK_LOCAL_IP"
	// EnvLoopback says whose the loopback addresses are: the stack's own (stack,
	// the default), or (host) somebody's whom the gateways know, so that probes
	// to them leave by the device.
	EnvLoopback = "TAPSTACK_LOOPBACK"
)

// Run attaches and serves until standard input ends and every probe has its
// reply. Signals are left alone: they end the program at once, which mtr waits
// for. Arguments are not looked at, as mtr gives none.
func Run() error {
	o, err := options()
	if err != nil {
		return err
	}
	// Who starts the program waits for its first answer, and starts it anew for
	// each run, so addresses are used without asking who else has them, unless
	// TAPSTACK_DAD says so. Probes wait for their neighbour's address, as many as may
	// be under way: what is dropped there looks like a loss on the way.
	a := attach.Options{NoDAD: true, NeighbourQueue: max(o.InFlight, mtrpacket.DefaultInFlight)}
	switch v := os.Getenv(EnvLoopback); v {
	case "", "stack":
	case "host":
		a.Localnet = true
	default:
		return attach.Usagef("%s: want stack or host, not %q", EnvLoopback, v)
	}
	a.Register(pflag.NewFlagSet(Name, pflag.ContinueOnError))
	if a.Pcap != "" {
		// TAPSTACK_PCAP has the frames of these probes, and no others.
		own := probecap.New()
		a.Recorder, o.Toward = own, own.Toward
	}
	h, err := a.Open(context.Background())
	if err != nil {
		return err
	}
	if h.Stack == nil {
		return errors.Join(attach.Usagef("TAPSTACK_NET=host: probes need a stack of their own"), h.Close())
	}
	served := make(chan error, 1)
	go func() { served <- mtrpacket.Serve(h.Stack, os.Stdin, os.Stdout, o) }()
	select {
	case err = <-served:
	case <-h.Interface.Down():
		err = fmt.Errorf("interface %s has gone", h.Interface.Name())
	}
	return errors.Join(err, h.Close())
}

func options() (o mtrpacket.Options, err error) {
	if v := os.Getenv(EnvInFlight); v != "" {
		if o.InFlight, err = strconv.Atoi(v); err != nil || o.InFlight < 1 || o.InFlight > 1<<16 {
			return o, attach.Usagef("%s: want a number from 1 to 65536, not %q", EnvInFlight, v)
		}
	}
	switch v := os.Getenv(EnvLocalIP); v {
	case "", "host":
		o.Host = hostHas
	case "strict":
	default:
		return o, attach.Usagef("%s: want host or strict, not %q", EnvLocalIP, v)
	}
	return o, nil
}

// hostHas reports whether the kernel has an address.
func hostHas(a netip.Addr) bool {
	if a.IsLoopback() {
		return true
	}
	list, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, x := range list {
		if p, err := netip.ParsePrefix(x.String()); err == nil && p.Addr().WithZone("") == a {
			return true
		}
	}
	return false
}
