package attach

import (
	"testing"
	"time"

	"github.com/tapstack/tapstack/stack"
)

func TestARPOptions(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		args []string
		want stack.ARPConfig
		nd   bool
	}{
		{},
		{args: []string{"--arp-accept=2", "--arp-ignore=8", "--arp-announce=1", "--arp-filter", "--arp-locktime=1s", "--nd-verify"},
			want: stack.ARPConfig{Accept: 2, Ignore: 8, Announce: 1, Filter: true, Locktime: time.Second}, nd: true},
		{env: map[string]string{"ARP_ACCEPT": "1", "ARP_IGNORE": "2", "ARP_ANNOUNCE": "2", "ARP_FILTER": "1", "ARP_LOCKTIME": "0s", "ND_VERIFY": "1"},
			want: stack.ARPConfig{Accept: 1, Ignore: 2, Announce: 2, Filter: true, Locktime: stack.LocktimeNone}, nd: true},
		{env: map[string]string{"ARP_LOCKTIME": "2s"}, args: []string{"--arp-locktime=verify"}},
		{env: map[string]string{"ARP_IGNORE": "1"}, args: []string{"--tun=tun0"}, want: stack.ARPConfig{Ignore: 1}}, // a default, which does no harm
	} {
		p, o, err := parse(t, c.env, c.args...)
		if err != nil || p.arp != c.want || o.VerifyND != c.nd {
			t.Errorf("%v %v: %+v %v", c.env, c.args, p, err)
		}
	}
	for name, value := range map[string]string{"ARP_ACCEPT": "yes", "ARP_IGNORE": "5", "ARP_FILTER": "maybe", "ARP_LOCKTIME": "-1ns"} {
		if _, _, err := parse(t, map[string]string{name: value}); err == nil {
			t.Errorf("%s=%s is accepted", name, value)
		}
	}
}
