package telnet

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
)

// This file owns Dialer.

// Dialer makes clients' connections. The zero value is ready.
type Dialer struct {
	Config *Config // nil: the zero Config
	// Dial makes the connection underneath, as the DialContext of this module's
	// socket.Network; nil: that of net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// TLS, if not nil, is spoken from the first byte (TELNETS, port 992). An
	// empty ServerName is that of the address.
	TLS *tls.Config
}

// DialContext connects. An address without a port has 23, or 992 with TLS. Call
// Handshake to wait for the beginning of the session; Read does without.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (*Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")
		port := "23"
		if d.TLS != nil {
			port = "992"
		}
		address = net.JoinHostPort(host, port)
	}
	dial := d.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	nc, err := dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if d.TLS != nil {
		cfg := d.TLS.Clone()
		if cfg.ServerName == "" {
			cfg.ServerName = host
		}
		t := tls.Client(nc, cfg)
		if err := t.HandshakeContext(ctx); err != nil {
			nc.Close()
			return nil, err
		}
		nc = t
	}
	return NewClientConn(nc, d.Config), nil
}
