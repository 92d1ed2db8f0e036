package socket_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
)

// newExampleHost makes a host with one interface and one address. On a TAP the
// device would be that of package ether/tap; nothing else changes.
func newExampleHost(segment *wire.Segment, addr string) *stack.Stack {
	host := stack.New(stack.Config{})
	iface, err := host.AddInterface(stack.InterfaceConfig{
		Name:   "eth0",
		Device: segment.Attach(addr, ether.Addr{}), // the stack picks a MAC address
	})
	if err == nil {
		err = iface.AddAddr(netip.MustParsePrefix(addr))
	}
	if err != nil {
		log.Fatal(err)
	}
	return host
}

// An echo server and its client on two stacks that share an Ethernet segment,
// all in one process and without privileges.
func Example() {
	segment := wire.New(nil, wire.Options{Pull: true})
	defer segment.Close()
	one := newExampleHost(segment, "10.77.0.1/24")
	defer one.Close()
	two := newExampleHost(segment, "10.77.0.2/24")
	defer two.Close()

	listener, err := socket.Net(two).Listen("tcp", ":7")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed
			}
			go func() {
				defer conn.Close()
				io.Copy(conn, conn)
			}()
		}
	}()

	conn, err := socket.Net(one).Dial("tcp", "10.77.0.2:7")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Fprintln(conn, "hello, stack")
	line, _ := bufio.NewReader(conn).ReadString('\n')
	fmt.Print(line, "from ", conn.RemoteAddr(), "\n")
	conn.Close()
	listener.Close()
	// Output:
	// hello, stack
	// from 10.77.0.2:7
}

// UDP, in the shape of package net.
func ExampleNetwork_ListenPacket() {
	segment := wire.New(nil, wire.Options{Pull: true})
	defer segment.Close()
	one := newExampleHost(segment, "10.77.0.1/24")
	defer one.Close()
	two := newExampleHost(segment, "10.77.0.2/24")
	defer two.Close()

	server, err := socket.Net(two).ListenPacket("udp", ":7")
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	go func() {
		b := make([]byte, 1500)
		for {
			n, from, err := server.ReadFrom(b)
			if err != nil {
				return
			}
			server.WriteTo(b[:n], from)
		}
	}()

	client, err := socket.Net(one).Dial("udp", "10.77.0.2:7")
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	client.Write([]byte("datagram"))
	b := make([]byte, 1500)
	n, err := client.Read(b)
	fmt.Printf("%s %v\n", b[:n], err)
	// Output: datagram <nil>
}

// The standard library's web client and server need one line each.
func ExampleNetwork_DialContext() {
	host := stack.New(stack.Config{}) // loopback is enough here
	defer host.Close()
	network := socket.Net(host)

	listener, err := network.Listen("tcp", "localhost:80")
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		fmt.Fprint(w, "hello, ", host)
	})}
	go server.Serve(listener)
	defer server.Close()

	transport := &http.Transport{DialContext: network.DialContext}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Get("http://127.0.0.1")
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	fmt.Printf("%s: %s\n", response.Status, text)
	// Output: 200 OK: hello, 127.0.0.1
}

// The Berkeley calls.
func ExampleSocket() {
	host := stack.New(stack.Config{})
	defer host.Close()

	listener, _ := socket.Socket(host, socket.AF_INET, socket.SOCK_STREAM, 0)
	defer listener.Close()
	listener.Bind(netip.MustParseAddrPort("0.0.0.0:7"))
	listener.Listen(socket.SOMAXCONN)

	client, _ := socket.Socket(host, socket.AF_INET, socket.SOCK_STREAM, 0)
	defer client.Close()
	err := client.Connect(context.Background(), netip.MustParseAddrPort("127.0.0.1:9"))
	fmt.Println("nobody is there:", err)
	err = client.Connect(context.Background(), netip.MustParseAddrPort("127.0.0.1:7"))
	fmt.Println("somebody is:", err)

	conn, from, _ := listener.Accept(context.Background())
	defer conn.Close()
	fmt.Println("from", from.Addr())
	client.Send([]byte("last words"), 0)
	client.Shutdown(socket.SHUT_WR)
	b := make([]byte, 100)
	n, err := conn.Recv(b, 0)
	fmt.Printf("%q %v\n", b[:n], err)
	_, err = conn.Recv(b, 0)
	fmt.Println(err)
	// Output:
	// nobody is there: connection refused
	// somebody is: <nil>
	// from 127.0.0.1
	// "last words" <nil>
	// EOF
}
