package main

import (
	"bytes"
	"context"
	"os/exec"
	"strings"
	"testing"

	"github.com/tapstack/tapstack/internal/lab"
)

// localnet makes the kernel host take packets for loopback addresses from the
// bridge. For IPv4 that is a setting of the kernel's; for IPv6 there is none,
// and the firewall has to move such packets to the loopback interface.
func localnet(t *testing.T, l *lab.Lab) {
	t.Helper()
	if _, err := exec.LookPath("nft"); err != nil {
		lab.Lacks(t, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if out, err := l.Output(ctx, "sh", "-c", `
		echo 1 >/proc/sys/net/ipv4/conf/br0/route_localnet
		echo 0 >/proc/sys/net/ipv4/conf/br0/rp_filter
		echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter
		nft 'table netdev localnet {
			chain in {
				type filter hook ingress device br0 priority 0;
				ip6 daddr ::1 ether daddr set 00:00:00:00:00:00 fwd to "lo"
			}
		}'`); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// packetPath is the link of packetProgram.
func packetPath(env []string) string {
	for _, kv := range env {
		if path, ok := strings.CutPrefix(kv, "MTR_PACKET="); ok {
			return path
		}
	}
	return ""
}

// TestMTRLoopback: with TAPSTACK_LOOPBACK=host the loopback addresses are the
// kernel host's.
func TestMTRLoopback(t *testing.T) {
	t.Parallel()
	lab.InNamespace(t, func(l *lab.Lab) {
		if !l.IPv6 {
			lab.Lacks(t, errNoIPv6)
		}
		localnet(t, l)
		ln, err := l.ListenKernel("tcp", "127.0.0.1:164")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		env := packetProgram(t, l)
		c := exec.Command(packetPath(env))
		c.Env = append(env, "TAPSTACK_LOOPBACK=host")
		in := "1 send-probe ip-4 127.0.0.1\n2 send-probe ip-4 127.0.0.1 protocol tcp port 164\n3 send-probe ip-4 127.1.2.3 protocol udp port 9\n" +
			"4 send-probe ip-6 ::1\n5 send-probe ip-6 ::1 protocol tcp port 9\n"
		var out, errs bytes.Buffer
		c.Stdin, c.Stdout, c.Stderr = strings.NewReader(in), &out, &errs
		if err := l.Start(c); err != nil {
			t.Fatal(err)
		}
		if err := c.Wait(); err != nil || errs.Len() > 0 {
			t.Fatalf("%v\n%s", err, &errs)
		}
		for _, want := range []string{"1 reply ip-4 127.0.0.1 ", "2 reply ip-4 127.0.0.1 ", "3 reply ip-4 127.1.2.3 ", "4 reply ip-6 ::1 ", "5 reply ip-6 ::1 "} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("no %q in\n%s", want, &out)
			}
		}
	})
}
