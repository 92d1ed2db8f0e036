// Two-stacks runs two hosts in one process, on two ends of an Ethernet segment
// in memory, and sends data from one to the other. It shows the stack as a
// library: any number of stacks, no kernel between them, no device, no root.
// The wire can be made as bad as wanted, and the transfer still arrives whole:
//
//	go run ./examples/two-stacks
//	go run ./examples/two-stacks --loss 0.01 --delay 5ms --bytes 10000000
package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/pflag"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
)

var (
	size  = pflag.Int64("bytes", 100_000_000, "transfer `N` bytes")
	loss  = pflag.Float64("loss", 0, "lose this `FRACTION` of the frames each way")
	delay = pflag.Duration("delay", 0, "delay frames by `TIME` each way")
)

func main() {
	log.SetFlags(0)
	pflag.CommandLine.Init("two-stacks", pflag.ContinueOnError)
	pflag.CommandLine.SetOutput(io.Discard) // one line says what is wrong
	pflag.Usage = func() { fmt.Print("Usage: two-stacks [flags]\n\n", pflag.CommandLine.FlagUsages()) }
	switch err := pflag.CommandLine.Parse(os.Args[1:]); {
	case errors.Is(err, pflag.ErrHelp):
		return
	case err != nil:
		log.Print("two-stacks: ", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx)
	stop()
	if err != nil {
		log.Fatal("two-stacks: ", err)
	}
}

func run(ctx context.Context) error {
	segment := wire.New(nil, wire.Options{Loss: *loss, Delay: *delay, Pull: true})
	defer segment.Close()
	alice, err := newHost(ctx, segment, "alice", netip.MustParsePrefix("10.0.0.1/24"))
	if err != nil {
		return err
	}
	defer alice.Close()
	bob, err := newHost(ctx, segment, "bob", netip.MustParsePrefix("10.0.0.2/24"))
	if err != nil {
		return err
	}
	defer bob.Close()

	ln, err := socket.Net(bob).Listen("tcp", "10.0.0.2:9")
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { ln.Close() })
	type result struct {
		n   int64
		sum [sha256.Size]byte
		err error
	}
	received := make(chan result, 1)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			received <- result{err: err}
			return
		}
		defer conn.Close()
		h := sha256.New()
		n, err := io.CopyBuffer(h, struct{ io.Reader }{conn}, make([]byte, 128<<10))
		received <- result{n, [sha256.Size]byte(h.Sum(nil)), err}
	}()

	conn, err := socket.Net(alice).DialContext(ctx, "tcp", "10.0.0.2:9")
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	start, h := time.Now(), sha256.New()
	data := io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{1}), *size), h)
	if _, err := io.CopyBuffer(struct{ io.Writer }{conn}, data, make([]byte, 128<<10)); err != nil {
		return err
	}
	if err := conn.Close(); err != nil { // everything is sent, then FIN
		return err
	}
	got := <-received
	if got.err != nil {
		return got.err
	}
	seconds := time.Since(start).Seconds()
	if got.n != *size || got.sum != [sha256.Size]byte(h.Sum(nil)) {
		return fmt.Errorf("bob received %d bytes that are not alice's", got.n)
	}
	fmt.Printf("%d bytes from alice to bob in %.2f s, %.1f MB/s, SHA-256 %x… on both sides\n",
		got.n, seconds, float64(got.n)/1e6/seconds, got.sum[:8])
	return nil
}

// newHost makes a stack with one interface on the segment.
func newHost(ctx context.Context, segment *wire.Segment, name string, addr netip.Prefix) (*stack.Stack, error) {
	s := stack.New(stack.Config{})
	nic, err := s.AddInterface(stack.InterfaceConfig{Name: name, Device: segment.Attach(name, [6]byte{}), NoDAD: true})
	if err == nil {
		err = nic.AddAddr(addr)
	}
	if err == nil {
		err = nic.Ready(ctx)
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}
