package service

// The telnet service: the shell telsh, without any login, as there is nothing
// behind it but the session itself.

import (
	"context"
	"net"
	"time"

	"github.com/tapstack/tapstack/telnet"
	"github.com/tapstack/tapstack/telnet/telsh"
)

var telnetConfig telnet.Config

// telnet serves a session (RFC 854). As with daytime what the client sends at
// the end is read before closing.
func (s *Service) telnet(nc net.Conn) error {
	c := telnet.NewServerConn(nc, &telnetConfig)
	defer c.Close()
	if err := c.Handshake(context.Background()); err != nil {
		return err
	}
	new(telsh.Shell).ServeTELNET(context.Background(), c)
	if err := closeWrite(nc); err != nil {
		return err
	}
	if err := nc.SetReadDeadline(time.Now().Add(drainTime)); err != nil {
		return err
	}
	return pump(nc, throwAway)
}
