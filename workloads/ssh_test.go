package workloads

// ssh with golang.org/x/crypto: commands whose input and output end
// separately, and ports forwarded both ways, which are connections of the
// stack's behind the connection of ssh's.

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/tapstack/tapstack/socket"
)

func newSigner(t *testing.T) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	s, err := ssh.NewSignerFromKey(key)
	must(t, err)
	return s
}

// sshServer is what one connection is served by.
type sshServer struct {
	net *socket.Network
	wg  sync.WaitGroup
}

// serve serves a connection until it ends.
func (s *sshServer) serve(c net.Conn, config *ssh.ServerConfig) {
	defer c.Close()
	conn, channels, requests, err := ssh.NewServerConn(c, config)
	if err != nil {
		return
	}
	s.wg.Go(func() { s.global(conn, requests) })
	for ch := range channels {
		switch ch.ChannelType() {
		case "session":
			s.wg.Go(func() { s.session(ch) })
		case "direct-tcpip":
			s.wg.Go(func() { s.forward(ch) })
		default:
			ch.Reject(ssh.UnknownChannelType, ch.ChannelType())
		}
	}
}

// session runs commands: "sum" answers with the sum of its input, "noise SEED
// N" with noise, "fail" with status 3 and a word on the other stream.
func (s *sshServer) session(nc ssh.NewChannel) {
	ch, requests, err := nc.Accept()
	if err != nil {
		return
	}
	defer ch.Close()
	for r := range requests {
		if r.Type != "exec" {
			r.Reply(false, nil)
			continue
		}
		var exec struct{ Command string }
		if ssh.Unmarshal(r.Payload, &exec) != nil {
			r.Reply(false, nil)
			continue
		}
		r.Reply(true, nil)
		s.wg.Go(func() { ssh.DiscardRequests(requests) })
		var code uint32
		var seed, n int
		switch {
		case exec.Command == "sum":
			got, err := sum(ch)
			if err != nil {
				code = 1
			}
			io.WriteString(ch, got)
		case exec.Command == "fail":
			io.WriteString(ch.Stderr(), "failed")
			code = 3
		default:
			fmt.Sscanf(exec.Command, "noise %d %d", &seed, &n)
			io.Copy(ch, noise(seed, n))
		}
		ch.CloseWrite()
		ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{code}))
		return
	}
}

// forward connects a channel to where the client asks (RFC 4254 §7.2).
func (s *sshServer) forward(nc ssh.NewChannel) {
	var to struct {
		Host       string
		Port       uint32
		Origin     string
		OriginPort uint32
	}
	if err := ssh.Unmarshal(nc.ExtraData(), &to); err != nil {
		nc.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	c, err := s.net.Dial("tcp", net.JoinHostPort(to.Host, strconv.Itoa(int(to.Port))))
	if err != nil {
		nc.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	ch, requests, err := nc.Accept()
	if err != nil {
		c.Close()
		return
	}
	s.wg.Go(func() { ssh.DiscardRequests(requests) })
	s.splice(c.(*socket.Conn), ch)
}

// splice copies both ways until both have ended.
func (s *sshServer) splice(c *socket.Conn, ch ssh.Channel) {
	var both sync.WaitGroup
	both.Go(func() {
		io.Copy(c, ch)
		c.CloseWrite()
	})
	both.Go(func() {
		io.Copy(ch, c)
		ch.CloseWrite()
	})
	both.Wait()
	c.Close()
	ch.Close()
}

// global listens where the client asks and opens a channel for each connection
// (RFC 4254 §7.1).
func (s *sshServer) global(conn *ssh.ServerConn, requests <-chan *ssh.Request) {
	listeners := make(map[string]net.Listener)
	for r := range requests {
		var at struct {
			Host string
			Port uint32
		}
		if r.Type != "tcpip-forward" && r.Type != "cancel-tcpip-forward" || ssh.Unmarshal(r.Payload, &at) != nil {
			r.Reply(false, nil)
			continue
		}
		address := net.JoinHostPort(at.Host, strconv.Itoa(int(at.Port)))
		if r.Type == "cancel-tcpip-forward" {
			l := listeners[address]
			if l != nil {
				l.Close()
				delete(listeners, address)
			}
			r.Reply(l != nil, nil)
			continue
		}
		l, err := s.net.Listen("tcp", address)
		if err != nil {
			r.Reply(false, nil)
			continue
		}
		port := uint32(l.Addr().(*net.TCPAddr).Port)
		listeners[net.JoinHostPort(at.Host, strconv.Itoa(int(port)))] = l
		r.Reply(true, ssh.Marshal(struct{ Port uint32 }{port}))
		s.wg.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				s.wg.Go(func() {
					from := c.RemoteAddr().(*net.TCPAddr)
					ch, requests, err := conn.OpenChannel("forwarded-tcpip", ssh.Marshal(struct {
						Host       string
						Port       uint32
						Origin     string
						OriginPort uint32
					}{at.Host, port, from.IP.String(), uint32(from.Port)}))
					if err != nil {
						c.Close()
						return
					}
					s.wg.Go(func() { ssh.DiscardRequests(requests) })
					s.splice(c.(*socket.Conn), ch)
				})
			}
		})
	}
	for _, l := range listeners {
		l.Close()
	}
}

func TestSSH(t *testing.T) {
	each(t, func(t *testing.T, h *hosts) {
		host, user := newSigner(t), newSigner(t)
		config := &ssh.ServerConfig{PublicKeyCallback: func(m ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if m.User() != "anna" || !bytes.Equal(key.Marshal(), user.PublicKey().Marshal()) {
				return nil, errors.New("unknown")
			}
			return nil, nil
		}}
		config.AddHostKey(host)
		l := h.listen(t, 22)
		server := &sshServer{net: h.server}
		server.wg.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				server.wg.Go(func() { server.serve(c, config) })
			}
		})
		t.Cleanup(func() {
			l.Close()
			server.wg.Wait()
		})
		connect := func(user ssh.Signer) (*ssh.Client, error) {
			raw, err := h.client.DialContext(h.ctx, "tcp", h.at(22))
			must(t, err)
			deadline, _ := h.ctx.Deadline()
			must(t, raw.SetDeadline(deadline))
			c, channels, requests, err := ssh.NewClientConn(raw, h.at(22), &ssh.ClientConfig{
				User: "anna", Auth: []ssh.AuthMethod{ssh.PublicKeys(user)}, HostKeyCallback: ssh.FixedHostKey(host.PublicKey()),
			})
			if err != nil {
				raw.Close()
				return nil, err
			}
			return ssh.NewClient(c, channels, requests), nil
		}
		if _, err := connect(newSigner(t)); err == nil {
			t.Error("anybody may log in")
		}
		client, err := connect(user)
		must(t, err)
		t.Cleanup(func() { client.Close() })
		n := h.size(4<<20, 1<<20)

		t.Run("exec", func(t *testing.T) {
			for range h.size(20, 5) {
				s, err := client.NewSession()
				must(t, err)
				s.Stdin = noise(3, n/10)
				got, err := s.Output("sum")
				if want := noiseSum(3, n/10); err != nil || string(got) != want {
					t.Fatalf("%s, %v; want %s", got, err, want)
				}
			}
			s, err := client.NewSession()
			must(t, err)
			got, err := s.Output(fmt.Sprintf("noise 4 %d", n))
			if err != nil || !bytes.Equal(got, noiseBytes(4, n)) {
				t.Errorf("%d bytes came, %v", len(got), err)
			}
			s, err = client.NewSession()
			must(t, err)
			var word bytes.Buffer
			s.Stderr = &word
			var status *ssh.ExitError
			if err := s.Run("fail"); !errors.As(err, &status) || status.ExitStatus() != 3 || word.String() != "failed" {
				t.Errorf("%v, %q", err, word.String())
			}
		})

		// Behind either forwarding is a server of the stack on the other side
		// from where the connection comes from, which sends everything back.
		echo := func(t *testing.T, l net.Listener) (ended chan error) {
			ended = make(chan error, 1)
			go func() {
				var conns sync.WaitGroup
				for {
					c, err := l.Accept()
					if err != nil {
						conns.Wait()
						ended <- nil
						return
					}
					conns.Go(func() {
						io.Copy(c, c)
						c.(interface{ CloseWrite() error }).CloseWrite()
						io.Copy(io.Discard, c)
						c.Close()
					})
				}
			}()
			return ended
		}
		// there and back over several connections at the same time.
		through := func(t *testing.T, dial func() (net.Conn, error)) {
			const conns = 5
			errs := make(chan error, 2*conns)
			for i := range conns {
				c, err := dial()
				must(t, err)
				go func() {
					_, err := io.Copy(c, noise(i, n/4))
					errs <- errors.Join(err, c.(interface{ CloseWrite() error }).CloseWrite())
				}()
				go func() {
					got, err := sum(c)
					if want := noiseSum(i, n/4); err == nil && got != want {
						err = fmt.Errorf("%s came back, want %s", got, want)
					}
					if e := c.Close(); e != io.EOF { // what a channel says that both sides have ended
						err = errors.Join(err, e)
					}
					errs <- err
				}()
			}
			join(t, 2*conns, errs)
		}
		t.Run("forward from the client", func(t *testing.T) {
			l := h.listen(t, 7)
			ended := echo(t, l)
			through(t, func() (net.Conn, error) {
				c, err := client.Dial("tcp", h.at(7))
				if err != nil {
					return nil, err
				}
				return half{c}, nil
			})
			l.Close()
			join(t, 1, ended)
			if _, err := client.Dial("tcp", h.at(7)); err == nil {
				t.Error("forwarded to a closed port")
			}
		})
		t.Run("forward from the server", func(t *testing.T) {
			l, err := client.Listen("tcp", h.at(8022))
			must(t, err)
			ended := echo(t, halfListener{l})
			through(t, func() (net.Conn, error) { return h.client.DialContext(h.ctx, "tcp", h.at(8022)) })
			must(t, l.Close())
			join(t, 1, ended)
			if c, err := h.client.DialContext(h.ctx, "tcp", h.at(8022)); err == nil {
				c.Close()
				t.Error("the port is still open")
			}
		})
	})
}

// half is a forwarded connection, whose channel can end one way although the
// type does not say so.
type half struct{ net.Conn }

func (h half) CloseWrite() error { return h.Conn.(interface{ CloseWrite() error }).CloseWrite() }

type halfListener struct{ net.Listener }

func (l halfListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return half{c}, nil
}
