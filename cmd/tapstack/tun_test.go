package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/tapstack/tapstack/internal/lab"
)

// TestUpTUN: `tapstack up --tun` is a host behind the kernel, and what it traces
// goes out through the kernel.
func TestUpTUN(t *testing.T) {
	lab.InNamespace(t, func(l *lab.Lab) {
		if l.Packet {
			lab.Lacks(t, errNoTUN)
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		ip := func(line string) {
			t.Helper()
			if out, err := l.Output(ctx, "ip", strings.Fields(line)...); err != nil {
				t.Fatalf("ip %s: %v\n%s", line, err, out)
			}
		}
		ip("tuntap add tun7 mode tun")
		ip("addr add 10.78.0.1/24 dev tun7")
		ip("link set tun7 up mtu 1400")
		r := up(t, l.Start, tapstack(t, nil, "up", "--tun", "tun7", "--ip", "10.78.0.7/24", "--gw", "dev", "--services", "echo"))
		for _, want := range []string{"interface=tun7 ", "mac=none ", "10.78.0.7/24", "services=echo"} {
			if !strings.Contains(r.ready, want) {
				t.Errorf("%q lacks %s", r.ready, want)
			}
		}
		// From an address of another link: the route back is by device.
		c, err := l.DialKernel(ctx, "tcp", "10.78.0.7:7")
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 5)
		if _, err := c.Write([]byte("hello")); err != nil {
			t.Error(err)
		}
		if n, err := c.Read(b); err != nil || string(b[:n]) != "hello" {
			t.Errorf("%q, %v", b[:n], err)
		}
		c.Close()
		if out, err := l.Output(ctx, "ping", "-c", "1", "-W", "5", "-I", "10.77.0.1", "10.78.0.7"); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		r.terminate(t)

		// The lab's other address is one step away, and MTU that of the link.
		for line, want := range map[string]string{
			"ping --tun tun7 --ip 10.78.0.7/24 --gw dev -c 2 -i 0.2 -s 1372 -M do 10.77.0.1": " 0% packet loss",
			"trace --tun tun7 --ip 10.78.0.7/24 --gw dev -r -c 1 -n 10.77.0.1":               "10.77.0.1",
		} {
			c := tapstack(t, nil, strings.Fields(line)...)
			var out bytes.Buffer
			c.Stdout, c.Stderr = &out, &out
			if err := l.Start(c); err != nil {
				t.Fatal(err)
			}
			if status := outcome(t, c.Wait()); status != 0 || !strings.Contains(out.String(), want) {
				t.Errorf("%s: status %d\n%s", line, status, &out)
			}
		}
	})
}

// errNoTUN is what a lab with packet sockets lacks.
var errNoTUN = errors.New("no /dev/net/tun")
