package check_test

import (
	"context"
	"fmt"
	"io"
	"net/netip"

	"github.com/tapstack/tapstack/probe/check"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
)

// A service on a stack's own loopback is checked by its preset.
func ExampleCheck() {
	s := stack.New(stack.Config{})
	defer s.Close()
	network := socket.Net(s)
	l, _ := network.Listen("tcp", "127.0.0.1:0")
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		io.WriteString(c, "220 mail.example ready\r\n")
		c.Close()
	}()
	q := check.Request{Host: "127.0.0.1", Port: netip.MustParseAddrPort(l.Addr().String()).Port()}
	check.LookupService("smtp").Apply(&q)
	r := check.Check(context.Background(), network, q)
	fmt.Println(r.OK, r.Verdict, r.Summary)
	q.Port = 4
	r = check.Check(context.Background(), network, q)
	fmt.Println(r.OK, r.Verdict, r.Phase, r.ErrnoName)
	// Output:
	// true open SMTP, mail.example ready
	// false closed connect ECONNREFUSED
}
