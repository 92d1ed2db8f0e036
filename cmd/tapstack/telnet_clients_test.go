package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/telnet"
	"github.com/tapstack/tapstack/telnet/engine"
	"github.com/tapstack/tapstack/telnet/option"
)

// served is a telnetd of ours that a test's clients talk to.
type served struct {
	host, port string
	said       func() []string // what was negotiated since the last call
}

// everywhere runs f with a telnetd on a stack of its own behind a TAP, and with
// one on the host's sockets.
func everywhere(t *testing.T, l *lab.Lab, f func(t *testing.T, s served), args ...string) {
	t.Run("tap", func(t *testing.T) {
		env := attached(l, lab.EnvIP+"=10.77.0.7/24", "TAPSTACK_DAD=false")
		f(t, served{"10.77.0.7", "6023", tracing(t, l, env, append([]string{"0.0.0.0", "6023"}, args...)...)})
	})
	t.Run("loopback", func(t *testing.T) {
		f(t, served{"127.0.0.1", "6023", tracing(t, l, nil, append([]string{"--net", "host", "127.0.0.1", "6023"}, args...)...)})
	})
}

// in puts a server's address into a command line.
func (s served) in(args []string) []string {
	r := strings.NewReplacer("HOST", s.host, "PORT", s.port)
	out := make([]string, len(args))
	for i, a := range args {
		out[i] = r.Replace(a)
	}
	return out
}

// TestTelnetClients: other people's clients on terminals, over a TAP and on the
// host's loopback: what each of them agreed to, told and refused, from the
// decoded trace, and that nobody was asked the same thing twice.
func TestTelnetClients(t *testing.T) {
	t.Parallel()
	bsd := []string{"WILL TTYPE", "WILL NAWS", `SB NAWS "\x00d\x00("`, "DO SGA", "DO ECHO", "DO BINARY", "WILL BINARY", "WILL NEW_ENVIRON",
		"WONT CHARSET", "WILL TM"}
	for _, tc := range []struct {
		name  string
		args  []string
		first string   // typed first
		wakes bool     // says nothing but after input
		said  []string // received from it
		not   []string // by their beginnings
	}{
		{name: "inetutils", args: []string{"inetutils-telnet", "HOST", "PORT"},
			// Variables that it does not have come without a value.
			said: append([]string{`SB TTYPE "\x00SCREEN"`, `SB NEW_ENVIRON "\x00\x03LANG\x03LC_ALL\x03LC_CTYPE\x03COLORTERM\x03TERM_PROGRAM\x03COLUMNS\x03LINES"`}, bsd...)},
		{name: "telnet-ssl", args: []string{"telnet-ssl", "HOST", "PORT"},
			said: append([]string{`SB TTYPE "\x00screen"`, `SB NEW_ENVIRON "\x00"`}, bsd...)},
		{name: "busybox", args: []string{"busybox", "telnet", "HOST", "PORT"},
			said: []string{"WILL TTYPE", `SB TTYPE "\x00screen"`, "WILL NAWS", `SB NAWS "\x00d\x00("`, "DO SGA", "DO ECHO", "DONT BINARY",
				"WONT CHARSET", "WONT NEW_ENVIRON", "WONT TM"},
			not: []string{"WILL BINARY", "SB NEW_ENVIRON"}},
		// It offers before it is asked, and tells its user's name though nobody
		// wants to know.
		{name: "plink", args: []string{"plink", "-telnet", "-batch", "-P", "PORT", "HOST"},
			said: []string{"WILL NAWS", `SB NAWS "\x00d\x00("`, "WILL TSPEED", `SB TSPEED "\x0038400,38400"`, "WILL TTYPE", `SB TTYPE "\x00XTERM"`,
				"WILL NEW_ENVIRON", "DO ECHO", "WILL SGA", "DO SGA", "DO BINARY", "WILL BINARY", "WONT CHARSET", "WONT TM"}},
		// It looks at what it received only after something was typed.
		{name: "curl", args: []string{"curl", "-sN", "-t", "TTYPE=vt100", "-t", "NEW_ENV=LANG,C", "telnet://HOST:PORT/"}, wakes: true,
			said: []string{"WILL TTYPE", `SB TTYPE "\x00vt100"`, "WILL BINARY", "DO BINARY", "WILL SGA", "DO SGA", "WILL NEW_ENVIRON",
				`SB NEW_ENVIRON "\x00\x00LANG\x01C"`, "WILL NAWS", "WONT CHARSET", "DO ECHO", "WONT TM"}},
		{name: "tintin", args: []string{"/usr/games/tt++", "-G"}, first: "#session a HOST PORT",
			said: []string{"WILL TTYPE", `SB TTYPE "\x00TINTIN++"`, `SB TTYPE "\x00screen"`, `SB TTYPE "\x00MTTS 271"`, "WILL NAWS", `SB NAWS "\x00d\x00("`,
				"DO SGA", "DONT BINARY", "WILL CHARSET", `SB CHARSET "\x02UTF-8"`, "WILL NEW_ENVIRON", "WONT TM"},
			not: []string{"DO ECHO", "DONT ECHO"}}, // games' clients are not offered it
	} {
		t.Run(tc.name, func(t *testing.T) {
			lab.InNamespace(t, func(l *lab.Lab) {
				everywhere(t, l, func(t *testing.T, s served) {
					args := s.in(tc.args)
					p := newPane(t, l, 100, 40, nil, args[0], args[1:]...)
					if tc.first != "" {
						p.line(s.in([]string{tc.first})[0])
					}
					want := func(s string) {
						t.Helper()
						p.await(s, func(screen string) bool {
							if tc.wakes {
								p.key("Enter")
							}
							return strings.Contains(screen, s)
						})
					}
					want("tel:sh>")
					p.line("proto")
					want("<Peer ")
					var got []string
					for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) { // curl's words come late
						got = append(got, s.said()...)
						missing := slices.DeleteFunc(slices.Clone(tc.said), func(w string) bool { return slices.Contains(got, "received "+w) })
						if len(missing) == 0 {
							break
						}
						if time.Now().After(end) {
							t.Fatalf("it did not say %q:\n%s", missing, strings.Join(got, "\n"))
						}
						if tc.wakes {
							p.key("Enter")
						}
					}
					p.line("quit")
					want("Goodbye.")
					got = append(got, s.said()...)
					for i, g := range got {
						for _, n := range tc.not {
							if strings.HasPrefix(g, "received "+n) {
								t.Errorf("it said %s", g)
							}
						}
						if strings.HasPrefix(g, "sent ") && !strings.Contains(g, " TM") && !strings.Contains(g, " SB ") && slices.Contains(got[:i], g) {
							t.Errorf("%s twice", g)
						}
					}
				})
			})
		})
	}
}

// TestSmallBuffer: the client of inetutils has room for 256 bytes of a
// subnegotiation and passes over the rest. It is asked for more names than
// that holds, and answers for all of them.
func TestSmallBuffer(t *testing.T) {
	var vars []option.Var
	for i := range 60 {
		vars = append(vars, option.Var{Name: fmt.Sprintf("VARIABLE%02d", i)})
	}
	lab.InNamespace(t, func(l *lab.Lab) {
		ln, err := l.ListenKernel("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		told := make(chan int, 1)
		requests := 0
		s := &telnet.Server{Logger: slog.New(slog.DiscardHandler), Config: &telnet.Config{Server: option.ServerConfig{Env: vars},
			Trace: func(_ *telnet.Conn, sent bool, cmd engine.Command, code engine.Code, content []byte) {
				if sent && cmd == engine.SB && code == engine.NewEnviron {
					if requests++; len(content) > 250 {
						t.Errorf("%d bytes at once", len(content))
					}
				}
			}},
			Handler: telnet.HandlerFunc(func(ctx context.Context, c *telnet.Conn) {
				limited, cancel := context.WithTimeout(ctx, patience)
				defer cancel()
				c.WaitFor(limited, func(e *engine.Engine) bool { return e.Option(engine.NewEnviron).(*option.Environ).Done() })
				n := 0
				c.View(func(e *engine.Engine) { n = len(e.Option(engine.NewEnviron).(*option.Environ).Vars) })
				told <- n
			})}
		go s.Serve(ln)
		defer s.Close()
		_, port, _ := net.SplitHostPort(ln.Addr().String())
		newPane(t, l, 80, 24, nil, "inetutils-telnet", "127.0.0.1", port)
		if n := <-told; n != len(vars) || requests < 3 {
			t.Errorf("%d of %d variables after %d requests", n, len(vars), requests)
		}
	})
}

// sniffing starts tcpdump for segments with urgent data, and returns a function
// that waits for one from an address.
func sniffing(t *testing.T, l *lab.Lab) (wantUrgent func(from string)) {
	t.Helper()
	c := exec.CommandContext(limited(t), lab.RequireProgram(t, "tcpdump"), "-n", "-l", "--immediate-mode", "-i", lab.Bridge, "tcp[tcpflags] & tcp-urg != 0")
	r := &running{Cmd: c, wrote: make(chan struct{}, 1)}
	c.Stdout, c.Stderr = r, r
	if err := l.Start(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	want := func(s string) {
		t.Helper()
		for !strings.Contains(r.errors(), s) {
			select {
			case <-r.wrote:
			case <-limited(t).Done():
				t.Fatalf("no %q in %s", s, r.errors())
			}
		}
	}
	want("listening on")
	return func(from string) { t.Helper(); want("IP " + from + ".") }
}

// TestTelnetSynch: the Synch of the client of inetutils, and ours for its AO, as
// TCP's urgent data both ways through our stack; the session goes on behind.
func TestTelnetSynch(t *testing.T) {
	lab.InNamespace(t, func(l *lab.Lab) {
		urgent := sniffing(t, l)
		said := overTAP(t, l)
		p := newPane(t, l, 80, 24, nil, "inetutils-telnet", "10.77.0.7")
		var got []string
		wantSaid := func(s string) {
			t.Helper()
			for end := time.Now().Add(patience); !slices.Contains(got, s); time.Sleep(10 * time.Millisecond) {
				if got = append(got, said()...); time.Now().After(end) {
					t.Fatalf("no %s in\n%s", s, strings.Join(got, "\n"))
				}
			}
		}
		command := func(s string) {
			t.Helper()
			p.key("C-]")
			p.wantLast("inetutils-telnet>")
			p.line(s)
		}
		p.want("tel:sh>")
		command("send synch")
		wantSaid("received DM")
		urgent("10.77.0.1")
		command("send ao")
		wantSaid("received AO")
		wantSaid("sent DM")
		urgent("10.77.0.7")
		command("send ayt")
		p.want("[Yes]")
		p.line("proto")
		p.want("<Peer 10.77.0.1 ")
		p.line("quit")
		p.want("Goodbye.")
	})
}
