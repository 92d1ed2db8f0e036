// Tun-web is a web server that is a host of its own behind this machine: it
// makes a TUN interface, on which there is no Ethernet, no ARP and no bridge,
// gives the machine's end an address, and serves at the other. It shows the
// stack on a link of IP packets only, put together by hand: attach.Main would
// do the same with --tun.
//
//	sudo go run ./examples/tun-web &
//	curl http://10.79.0.2/
//
// or without root, in a lab:
//
//	bin/tapstack lab run -- sh -c 'go run ./examples/tun-web & sleep 5; curl http://10.79.0.2/'
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"syscall"

	"github.com/vishvananda/netlink"

	"github.com/tapstack/tapstack/ether/tun"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
)

var (
	machine = netip.MustParsePrefix("10.79.0.1/24")
	ours    = netip.MustParsePrefix("10.79.0.2/24")
)

func main() {
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal("tun-web: ", err)
	}
}

func run(ctx context.Context) error {
	// The interface disappears when the stack closes the device.
	dev, err := tun.Open(tun.Options{Up: true})
	if err != nil {
		return err
	}
	s := stack.New(stack.Config{})
	defer s.Close()
	nic, err := s.AddInterface(stack.InterfaceConfig{Name: dev.Name(), Device: dev})
	if err != nil {
		return errors.Join(err, dev.Close())
	}
	// Nobody is asked whether the address is free: it can be used at once.
	if err := nic.AddAddr(ours); err != nil {
		return err
	}
	// Whatever leaves goes to the machine: a route needs no gateway.
	if err := s.AddRoute(stack.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Interface: nic}); err != nil {
		return err
	}
	if err := setMachine(dev.Name()); err != nil {
		return err
	}

	ln, err := socket.Net(s).Listen("tcp", ":80")
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { ln.Close() })
	fmt.Printf("ready interface=%s url=http://%v/\n", dev.Name(), ours.Addr())
	err = http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s came to %s through %s\n", r.RemoteAddr, r.Host, dev.Name())
	}))
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// setMachine is `ip addr add 10.79.0.1/24 dev NAME`.
func setMachine(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{
		IP: machine.Addr().AsSlice(), Mask: net.CIDRMask(machine.Bits(), 32)}})
}
