package telnet

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"testing"
)

// TestDialledAddress: an address without a port has telnet's, also one of IPv6.
func TestDialledAddress(t *testing.T) {
	stop := errors.New("stop")
	for address, want := range map[string]string{"host": "host:23", "::1": "[::1]:23", "[::1]": "[::1]:23", "[::1]:24": "[::1]:24", "host:24": "host:24"} {
		d := Dialer{Dial: func(_ context.Context, _, got string) (net.Conn, error) {
			if got != want {
				t.Errorf("%s: %s is dialled, want %s", address, got, want)
			}
			return nil, stop
		}}
		if _, err := d.DialContext(t.Context(), "tcp", address); err != stop {
			t.Error(err)
		}
	}
	d := Dialer{TLS: &tls.Config{}, Dial: func(_ context.Context, _, got string) (net.Conn, error) {
		if got != "[fe80::1%x]:992" {
			t.Error(got)
		}
		return nil, stop
	}}
	if _, err := d.DialContext(t.Context(), "tcp", "[fe80::1%x]"); err != stop {
		t.Error(err)
	}
}
