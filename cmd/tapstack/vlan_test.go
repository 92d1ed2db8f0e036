package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/tapstack/tapstack/internal/lab"
)

// TestUpVLAN: `tapstack up --vlan` is a host in the VLAN that the kernel is in,
// and in no other.
func TestUpVLAN(t *testing.T) {
	lab.InNamespace(t, func(l *lab.Lab) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := l.IntoVLAN(lab.Bridge, 10, 3); err != nil {
			lab.Lacks(t, err)
		}
		r := up(t, l.Start, tapstack(t, nil, "up", "--dad=false", "--ip", "10.77.0.7/24", "--ip", "fd77::7/64", "--vlan", "10", "--vlan-priority", "5", "--services", "echo"))
		if !strings.Contains(r.ready, "interface=tap7.10 ") {
			t.Errorf("%q", r.ready)
		}
		for _, a := range []string{"10.77.0.7:7", "[fd77::7]:7"} {
			c, err := l.DialKernel(ctx, "tcp", a)
			if err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 5)
			if _, err := c.Write([]byte("hello")); err != nil {
				t.Error(err)
			}
			if n, err := c.Read(b); err != nil || string(b[:n]) != "hello" {
				t.Errorf("%s: %q, %v", a, b[:n], err)
			}
			c.Close()
		}
		if out, err := l.Output(ctx, "ping", "-c", "2", "-i", "0.2", "-W", "5", "-s", "4000", "10.77.0.7"); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		r.terminate(t)
		for id, want := range map[string]string{"10": " 0% packet loss", "11": " 100% packet loss"} {
			c := tapstack(t, nil, "ping", "--dad=false", "--ip", "10.77.0.7/24", "--route", "10.77.0.1 hoplimit 3 mtu lock 1000", "--vlan", id, "-c", "2", "-i", "0.2", "-W", "1", "-s", "1200", "10.77.0.1")
			var out bytes.Buffer
			c.Stdout, c.Stderr = &out, &out
			if err := l.Start(c); err != nil {
				t.Fatal(err)
			}
			if outcome(t, c.Wait()); !strings.Contains(out.String(), want) {
				t.Errorf("VLAN %s:\n%s", id, &out)
			}
		}
	})
}

// TestUpSNAP: IEEE 802.3 with SNAP, in a VLAN, between two of us; the kernel
// does not speak it, but its bridge passes it on. Who speaks Ethernet II is
// heard by who was told to speak SNAP, but not the other way round.
func TestUpSNAP(t *testing.T) {
	lab.Require(t)
	l, err := lab.NewWith(lab.Options{Hosts: 2, Device: "tap"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if l.Packet {
		lab.Lacks(t, errors.New("no /dev/net/tun"))
	}
	r := up(t, l.Start, tapstack(t, nil, "up", "--dad=false", "--tap", l.Devices[0], "--ip", l.Addrs(0)[0].String(), "--ip", l.Addrs(0)[1].String(), "--vlan", "10", "--snap", "--services", "echo"))
	for _, c := range []struct{ line, want string }{
		{"ping --vlan 10 --snap -c 2 -i 0.2 -W 5 -s 4000 10.77.0.7", " 0% packet loss"},
		{"ping --vlan 10 --snap -c 2 -i 0.2 -W 5 fd77::7", " 0% packet loss"},
		{"nc --vlan 10 --snap -N 10.77.0.7 7", "hello"},
		{"ping --vlan 10 --snap -c 1 -W 5 -s 1465 -M do 10.77.0.7", "local error"}, // 1492 bytes is the longest
		{"ping --vlan 10 -c 2 -i 0.2 -W 1 10.77.0.7", " 100% packet loss"},
	} {
		line, want := c.line, c.want
		argv := append([]string{strings.Fields(line)[0], "--dad=false", "--tap", l.Devices[1], "--ip", l.Addrs(1)[0].String(), "--ip", l.Addrs(1)[1].String()}, strings.Fields(line)[1:]...)
		c := tapstack(t, nil, argv...)
		var out bytes.Buffer
		c.Stdin = strings.NewReader("hello\n")
		c.Stdout, c.Stderr = &out, &out
		if err := l.Start(c); err != nil {
			t.Fatal(err)
		}
		if outcome(t, c.Wait()); !strings.Contains(out.String(), want) {
			t.Errorf("%s: want %q:\n%s", line, want, &out)
		}
	}
	r.terminate(t)
}
