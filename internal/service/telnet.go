package service

// The telnet service: the shell telsh, without any login, as there is nothing
// behind it but the session itself.

import (
	"net"
	"time"

	"github.com/tapstack/tapstack/telnet"
	"github.com/tapstack/tapstack/telnet/telsh"
)

// telnetIdle is after how long a session in which nothing is typed ends, so that
// those who have gone away do not keep the places of others.
const telnetIdle = 5 * time.Minute

func newTelnet() *telnet.Server {
	return &telnet.Server{Handler: new(telsh.Shell), IdleTimeout: telnetIdle}
}

// telnet serves a session (RFC 854). How many there may be is for Serve to say.
func (s *Service) telnet(nc net.Conn) error {
	s.sessions.ServeConn(nc)
	return nil
}
