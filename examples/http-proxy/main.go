// Http-proxy is a forward proxy: it fetches pages (GET http://HOST/...) and
// opens tunnels (CONNECT HOST:PORT) through the stack for programs that run on
// the kernel's sockets. It shows a net/http client on the stack: a Transport
// that is given the stack's DialContext, and nothing else.
//
//	sudo make bridge tap && sudo go run ./examples/http-proxy --tap tap7 --ip 10.77.0.7/24
//
// or without root, in the shell that `make lab` opens:
//
//	go run ./examples/http-proxy & python3 -m http.server &
//	curl -x http://127.0.0.1:3128 http://10.77.0.1:8000/       # python sees 10.77.0.7 come
//	curl -p -x http://127.0.0.1:3128 http://10.77.0.1:8000/    # the same through a tunnel
//
// With --on-stack it is a proxy for others on the network instead.
package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/tapstack/tapstack/examples/internal/relay"
	"github.com/tapstack/tapstack/internal/attach"
)

var (
	listen  = pflag.String("listen", "127.0.0.1:3128", "`ADDRESS:PORT` to listen on")
	onStack = pflag.Bool("on-stack", false, "listen on the stack and not on this machine")
	limit   = pflag.Int("limit", 200, "the most connections of clients at a time")
)

const (
	dialWait   = 30 * time.Second
	headerWait = 30 * time.Second // for the head of a request
	idleWait   = 2 * time.Minute  // between requests
)

func main() { attach.Main("", run) }

func run(ctx context.Context, host *attach.Host, _ []string) error {
	open := net.Listen
	if *onStack {
		open = host.Net.Listen
		if !pflag.CommandLine.Changed("listen") {
			*listen = ":3128" // nobody else reaches the stack's 127.0.0.1
		}
	}
	ln, err := open("tcp", *listen)
	if err != nil {
		return err
	}
	log.Printf("listening on %v", ln.Addr())
	p := newProxy(ctx, host.Net.DialContext, max(*limit, 1))
	server := &http.Server{Handler: p, ConnState: p.admit, ReadHeaderTimeout: headerWait, IdleTimeout: idleWait}
	context.AfterFunc(ctx, func() { server.Close() })
	return server.Serve(ln)
}

// proxy is an http.Handler whose requests are for other hosts.
type proxy struct {
	ctx  context.Context
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	// via is the name under which it finds its own mark on a request.
	via   string
	pages *httputil.ReverseProxy
	slots chan struct{} // one for each connection of a client
}

func newProxy(ctx context.Context, dial func(context.Context, string, string) (net.Conn, error), limit int) *proxy {
	p := &proxy{ctx: ctx, via: "tapstack-" + rand.Text()[:8], slots: make(chan struct{}, limit)}
	p.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		limited, cancel := context.WithTimeout(ctx, dialWait)
		defer cancel()
		return dial(limited, network, address)
	}
	p.pages = &httputil.ReverseProxy{
		// ReverseProxy takes out the fields that are for one hop only
		// (RFC 9110 §7.6.1), both ways. What else it takes out, meant for a
		// proxy in front of a server, is put back.
		Rewrite: func(r *httputil.ProxyRequest) {
			for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
				if v := r.In.Header[name]; v != nil {
					r.Out.Header[name] = v
				}
			}
			r.Out.URL.RawQuery = r.In.URL.RawQuery
			r.Out.Host = r.In.URL.Host // not what the Host field says (RFC 9112 §3.2.2)
			r.Out.Header.Add("Via", viaOf(r.In.ProtoMajor, r.In.ProtoMinor, p.via))
		},
		ModifyResponse: func(r *http.Response) error {
			r.Header.Add("Via", viaOf(r.ProtoMajor, r.ProtoMinor, p.via))
			return nil
		},
		Transport:     &http.Transport{DialContext: p.dial, DisableCompression: true, IdleConnTimeout: idleWait, MaxIdleConns: limit},
		FlushInterval: -1, // what comes slowly is meant to
		ErrorHandler:  func(w http.ResponseWriter, r *http.Request, err error) { refuse(w, r, err) },
	}
	return p
}

// viaOf is RFC 9110 §7.6.3's mark of who passed a message on.
func viaOf(major, minor int, name string) string { return fmt.Sprintf("%d.%d %s", major, minor, name) }

// admit is called by the server's one accepting goroutine with each new
// connection: while there are too many, it does not come back to accept more.
func (p *proxy) admit(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		select {
		case p.slots <- struct{}{}:
		case <-p.ctx.Done():
		}
	case http.StateClosed:
		p.release()
	}
	// A tunnel (StateHijacked) keeps its slot.
}

func (p *proxy) release() {
	select {
	case <-p.slots:
	default: // it was not admitted, but came at the end
	}
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// A request that has been here goes round in circles.
	if slices.ContainsFunc(r.Header["Via"], func(v string) bool { return strings.Contains(v, p.via) }) {
		http.Error(w, "the request has come back to the proxy", http.StatusLoopDetected)
		return
	}
	to, err := target(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	log.Printf("%s: %s %s", r.RemoteAddr, r.Method, to)
	if r.Method == http.MethodConnect {
		p.tunnel(w, r, to)
		return
	}
	p.pages.ServeHTTP(w, r)
}

// target returns the host and port that a request to a proxy is for.
func target(r *http.Request) (string, error) {
	authority := r.URL.Host
	if r.Method == http.MethodConnect {
		// RFC 9110 §9.3.6: host and port, and nothing else.
		authority = r.RequestURI
		if _, _, err := net.SplitHostPort(authority); err != nil {
			return "", errors.New("CONNECT wants HOST:PORT")
		}
	} else if r.URL.Scheme != "http" || r.URL.Host == "" {
		return "", errors.New("this is a proxy: it wants http://HOST/..., or CONNECT")
	}
	host, port, err := net.SplitHostPort(authority)
	if err != nil { // no port
		host, port = strings.TrimSuffix(strings.TrimPrefix(authority, "["), "]"), "80"
	}
	if port == "" {
		port = "80"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" {
		return "", fmt.Errorf("%q is not HOST:PORT", authority)
	}
	return net.JoinHostPort(host, port), nil
}

// tunnel joins the client with its target and stays out of what they say.
func (p *proxy) tunnel(w http.ResponseWriter, r *http.Request, to string) {
	server, err := p.dial(r.Context(), "tcp", to)
	if err != nil {
		refuse(w, r, err)
		return
	}
	defer server.Close()
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer p.release()
	defer client.Close()
	defer context.AfterFunc(p.ctx, func() { client.Close(); server.Close() })()
	_, err = io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n")
	if err == nil {
		err = client.SetDeadline(time.Time{}) // those of the request are over
	}
	if err == nil {
		err = passBuffered(server, buffered.Reader)
	}
	if err == nil {
		_, _, err = relay.Both(client, server)
	}
	if err != nil && p.ctx.Err() == nil {
		log.Printf("%s: %s: %v", r.RemoteAddr, to, err)
	}
}

// passBuffered hands on what a client has sent without waiting for the answer.
func passBuffered(server net.Conn, r *bufio.Reader) error {
	b, err := r.Peek(r.Buffered())
	if err == nil && len(b) > 0 {
		_, err = server.Write(b)
	}
	return err
}

// refuse answers a request whose target does not.
func refuse(w http.ResponseWriter, r *http.Request, err error) {
	log.Printf("%s: %v", r.RemoteAddr, err)
	status := http.StatusBadGateway
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		status = http.StatusGatewayTimeout
	}
	http.Error(w, err.Error(), status)
}
