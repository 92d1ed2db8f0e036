package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/vishvananda/netlink"

	"github.com/tapstack/tapstack/ether/pcap"
	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/internal/service"
)

const (
	// demoTime bounds the whole demonstration.
	demoTime = 2 * time.Minute
	// demoStep bounds each exchange with the stack.
	demoStep = 10 * time.Second
	demoBulk = 100_000_000 // bytes through discard
)

func demoCommand() *cobra.Command {
	var inside bool
	var file string
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show the stack at work against the Linux kernel, in a private lab",
		Long: `Show the stack at work: build a private lab (no root, nothing of the machine's is
touched), attach a stack to a TAP on its bridge, and talk to it from the Linux
kernel on the same bridge. Ends with status 0 when all of it worked.`,
		Args: noArgs,
	}
	c.Flags().BoolVar(&inside, "inside", false, "")
	c.Flags().StringVar(&file, "pcap", "", "write the capture to `FILE` (default a new one in "+os.TempDir()+")")
	_ = c.Flags().MarkHidden("inside") // how the command calls itself in the lab
	c.RunE = func(c *cobra.Command, _ []string) error {
		ctx, cancel := context.WithTimeout(context.Background(), demoTime)
		defer cancel()
		if inside {
			return runDemo(ctx, c.OutOrStdout(), file)
		}
		self, err := os.Executable()
		if err != nil {
			return err
		}
		if file == "" {
			// With a name of its own: the directory is everybody's, and so may
			// be a file of a fixed name.
			f, err := os.CreateTemp("", "tapstack-demo-*.pcapng")
			if err != nil {
				return fmt.Errorf("--pcap: %w", err)
			}
			file = f.Name()
			if err := f.Close(); err != nil {
				return fmt.Errorf("--pcap: %w", err)
			}
		}
		// Two devices: the second, without capture, for the measurement.
		status, err := lab.Run(ctx, lab.Options{Hosts: 2}, []string{self, "demo", "--inside", "--pcap", file})
		if err != nil || status == 0 {
			return err
		}
		return exitStatus(status)
	}
	return c
}

// demo is the demonstration in the lab: the stack in this process, its peer
// the kernel, reached through ordinary sockets.
type demo struct {
	out    io.Writer
	v4, v6 netip.Addr
}

// step prints what is tried and how it went.
func (d *demo) step(what string, f func() (string, error)) error {
	fmt.Fprintf(d.out, "  %-44s ", what)
	said, err := f()
	if err != nil {
		fmt.Fprintln(d.out, "FAILED")
		return fmt.Errorf("%s: %w", what, err)
	}
	fmt.Fprintln(d.out, said)
	return nil
}

func runDemo(ctx context.Context, out io.Writer, file string) error {
	d := &demo{out: out}
	o, services := demoAttach(0, file), []string{"echo", "discard", "daytime"}
	fmt.Fprintf(out, "The stack is a host on the bridge br0 through %s; the peer is the Linux kernel, 10.77.0.1.\n", cmp.Or(o.TAP, o.Dev))
	h, err := o.Open(ctx)
	if err != nil {
		return err
	}
	defer h.Close()
	set, err := service.Start(h.Net, services)
	if err != nil {
		return err
	}
	defer set.Close()
	fmt.Fprintln(out, h.ReadyLine(set.Names()...))
	for _, p := range h.Interface.Addrs() {
		switch a := p.Addr(); {
		case a.Is4():
			d.v4 = a
		case !a.IsLinkLocalUnicast():
			d.v6 = a
		}
	}
	for _, a := range []netip.Addr{d.v4, d.v6} {
		if err := d.family(a); err != nil {
			return err
		}
	}
	if err := d.bulk(ctx); err != nil {
		return err
	}
	set.Close()
	limited, cancel := context.WithTimeout(ctx, demoStep)
	defer cancel()
	if err := h.Shutdown(limited); err != nil {
		return err
	}
	fmt.Fprintln(out, "\nThe first frames of the capture:")
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := pcap.Print(out, f, 16); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nAll of it worked. The whole capture: %s\n", file)
	return nil
}

// demoAttach is the attachment of the lab's nth device.
func demoAttach(n int, file string) *attach.Options {
	o := &attach.Options{Pcap: file, IP: []string{fmt.Sprintf("10.77.0.%d/24", 7+n), fmt.Sprintf("fd77::%d/64", 7+n)}}
	if dev := os.Getenv("TAPSTACK_DEV"); dev != "" {
		o.Dev = strings.TrimSuffix(dev, "7") + fmt.Sprint(7+n)
	} else {
		o.TAP = fmt.Sprintf("tap%d", 7+n)
	}
	return o
}

// family shows one address family.
func (d *demo) family(a netip.Addr) error {
	name := "IPv4"
	if a.Is6() {
		name = "IPv6"
	}
	fmt.Fprintf(d.out, "%s, from the kernel to %v:\n", name, a)
	steps := []struct {
		what string
		f    func() (string, error)
	}{
		{"ping (ICMP echo, 3 times)", func() (string, error) { return ping(a, 3, 56) }},
		{"ping of 8000 bytes, fragmented both ways", func() (string, error) { return ping(a, 1, 8000) }},
		{map[bool]string{true: "ARP", false: "neighbour discovery"}[a.Is4()] + ": the kernel's entry", func() (string, error) { return neighbour(a) }},
		{"TCP echo of 1 MB, content compared", func() (string, error) { return echoTCP(a, 1_000_000) }},
		{"UDP echo of 1, 1472 and 60000 bytes, compared", func() (string, error) { return echoUDP(a, 1, 1472, 60000) }},
		{"TCP daytime", func() (string, error) { return daytime(a) }},
		{"TCP to a closed port", func() (string, error) { return refused(a) }},
	}
	for _, s := range steps {
		if err := d.step(s.what, s.f); err != nil {
			return err
		}
	}
	return nil
}

// bulk sends through discard on a second stack, which nobody captures.
func (d *demo) bulk(ctx context.Context) error {
	h, err := demoAttach(1, "").Open(ctx)
	if err != nil {
		return err
	}
	defer h.Close()
	set, err := service.Start(h.Net, []string{"discard"})
	if err != nil {
		return err
	}
	defer set.Close()
	fmt.Fprintln(d.out, "Bulk, from the kernel to a second stack without capture:")
	return d.step("100 MB through TCP discard", func() (string, error) {
		c, err := net.DialTimeout("tcp", "10.77.0.8:9", demoStep)
		if err != nil {
			return "", err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Minute))
		b := make([]byte, 256<<10)
		start := time.Now()
		for sent := 0; sent < demoBulk; sent += len(b) {
			if _, err := c.Write(b[:min(len(b), demoBulk-sent)]); err != nil {
				return "", err
			}
		}
		// The service closes when it has read everything.
		c.(*net.TCPConn).CloseWrite()
		if _, err := c.Read(b[:1]); err != io.EOF {
			return "", fmt.Errorf("the stack did not close: %v", err)
		}
		took := time.Since(start)
		return fmt.Sprintf("%.0f MB/s", demoBulk/took.Seconds()/1e6), nil
	})
}

// ping sends n echo requests of size bytes and returns the mean round trip.
func ping(a netip.Addr, n, size int) (string, error) {
	network, request, reply, local := "ip4:icmp", uint8(icmp.TypeEcho4), uint8(icmp.TypeEchoReply4), "10.77.0.1"
	if a.Is6() {
		network, request, reply, local = "ip6:ipv6-icmp", icmp.TypeEcho6, icmp.TypeEchoReply6, "fd77::1"
	}
	c, err := net.ListenPacket(network, local)
	if err != nil {
		return "", err
	}
	defer c.Close()
	var total time.Duration
	got := make([]byte, 1<<16)
	for i := range n {
		b := make([]byte, icmp.HeaderLen+size)
		icmp.Put(b, request, 0, [4]byte{0x70, 0x73, 0, byte(i)})
		for k := range size {
			b[icmp.HeaderLen+k] = byte(k)
		}
		if a.Is4() {
			icmp.SetChecksum4(b)
		} // else the kernel does it
		start := time.Now()
		c.SetDeadline(start.Add(demoStep))
		if _, err := c.WriteTo(b, &net.IPAddr{IP: a.AsSlice()}); err != nil {
			return "", err
		}
		for {
			k, _, err := c.ReadFrom(got)
			if err != nil {
				return "", err
			}
			if k >= icmp.HeaderLen && got[0] == reply && bytes.Equal(got[4:8], b[4:8]) {
				if !bytes.Equal(got[icmp.HeaderLen:k], b[icmp.HeaderLen:]) {
					return "", errors.New("the reply has other contents")
				}
				break
			}
		}
		total += time.Since(start)
	}
	return fmt.Sprintf("%d of %d answered, %v on average", n, n, (total / time.Duration(n)).Round(time.Microsecond)), nil
}

// neighbour looks the stack up in the kernel's neighbour table.
func neighbour(a netip.Addr) (string, error) {
	family := netlink.FAMILY_V4
	if a.Is6() {
		family = netlink.FAMILY_V6
	}
	list, err := netlink.NeighList(0, family)
	if err != nil {
		return "", err
	}
	for _, n := range list {
		if ip, ok := netip.AddrFromSlice(n.IP); ok && ip.Unmap() == a && len(n.HardwareAddr) == 6 {
			return fmt.Sprintf("%v is at %v", a, n.HardwareAddr), nil
		}
	}
	return "", fmt.Errorf("no entry for %v", a)
}

func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func echoTCP(a netip.Addr, n int) (string, error) {
	c, err := net.DialTimeout("tcp", netip.AddrPortFrom(a, 7).String(), demoStep)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(demoStep))
	data := noise(n)
	written := make(chan error, 1)
	go func() {
		_, err := c.Write(data)
		written <- errors.Join(err, c.(*net.TCPConn).CloseWrite())
	}()
	back, err := io.ReadAll(c)
	if err := errors.Join(err, <-written); err != nil {
		return "", err
	}
	if !bytes.Equal(back, data) {
		return "", fmt.Errorf("%d bytes came back, and not the same", len(back))
	}
	sum := sha256.Sum256(back)
	return fmt.Sprintf("same bytes, SHA-256 %x...", sum[:6]), nil
}

func echoUDP(a netip.Addr, sizes ...int) (string, error) {
	c, err := net.Dial("udp", netip.AddrPortFrom(a, 7).String())
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(demoStep))
	back := make([]byte, 1<<16)
	for _, n := range sizes {
		data := noise(n)
		if _, err := c.Write(data); err != nil {
			return "", err
		}
		k, err := c.Read(back)
		if err != nil {
			return "", err
		}
		if !bytes.Equal(back[:k], data) {
			return "", fmt.Errorf("%d bytes came back different", n)
		}
	}
	return "same bytes", nil
}

func daytime(a netip.Addr) (string, error) {
	c, err := net.DialTimeout("tcp", netip.AddrPortFrom(a, 13).String(), demoStep)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(demoStep))
	b, err := io.ReadAll(c)
	line := strings.TrimSpace(string(b))
	if err == nil && line == "" {
		err = errors.New("an empty answer")
	}
	return line, err
}

func refused(a netip.Addr) (string, error) {
	c, err := net.DialTimeout("tcp", netip.AddrPortFrom(a, 4).String(), demoStep)
	if err == nil {
		c.Close()
		return "", errors.New("it was accepted")
	}
	if !strings.Contains(err.Error(), "refused") {
		return "", err
	}
	return "connection refused", nil
}
