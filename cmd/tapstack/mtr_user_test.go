package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/tapstack/tapstack/internal/lab"
)

// TestMTRUser: with a TAP of his own a user without any privilege sends probes of
// every kind, to every hop. mtr-packet needs CAP_NET_RAW for that.
func TestMTRUser(t *testing.T) {
	t.Parallel()
	lab.InNamespace(t, func(l *lab.Lab) {
		const user = 65534
		routers(t, l)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if out, err := l.Output(ctx, "sh", "-c", fmt.Sprintf("ip tuntap add tap99 mode tap user %d && ip link set tap99 master br0 up", user)); err != nil {
			lab.Lacks(t, fmt.Errorf("a TAP for another user: %w: %s", err, out))
		}
		// The device's file may be for root only here, and so may the directory
		// of this program.
		c := exec.Command("unshare", "--mount", "sh", "-c", `
			(set -e
			mount -t tmpfs none /mnt
			touch /mnt/mtr-packet
			mount --bind "$0" /mnt/mtr-packet
			mknod /mnt/tun c 10 200
			chmod 666 /mnt/tun
			mount --bind /mnt/tun /dev/net/tun) || exit 77
			exec setpriv --reuid `+strconv.Itoa(user)+` --regid `+strconv.Itoa(user)+` --clear-groups --bounding-set -all --no-new-privs /mnt/mtr-packet`, os.Args[0])
		c.Env = tapstack(t, []string{lab.EnvTap + "=tap99", lab.EnvIP + "=10.77.0.99/24", lab.EnvGW + "=10.77.0.1"}).Env
		var in strings.Builder
		var want []string
		for i, proto := range []string{"icmp", "udp", "tcp", "sctp"} {
			fmt.Fprintf(&in, "%d send-probe ip-4 %s protocol %s ttl 2\n%d send-probe ip-4 %s protocol %s\n", 10+i, far4, proto, 20+i, far4, proto)
			want = append(want, fmt.Sprintf("%d ttl-expired ip-4 10.8", 10+i), fmt.Sprintf("%d reply ip-4 %s ", 20+i, far4))
		}
		var out, errs bytes.Buffer
		c.Stdin, c.Stdout, c.Stderr = strings.NewReader(in.String()), &out, &errs
		if err := l.Start(c); err != nil {
			t.Fatal(err)
		}
		switch status := outcome(t, c.Wait()); status {
		case 0:
		case 77:
			lab.Lacks(t, fmt.Errorf("no device file of another user's: %s", &errs))
		default:
			t.Errorf("status %d: %s", status, &errs)
		}
		for _, w := range want {
			if !strings.Contains("\n"+out.String(), "\n"+w) {
				t.Errorf("no %q in\n%s", w, &out)
			}
		}
	})
}
