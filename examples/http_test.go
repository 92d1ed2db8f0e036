package examples_test

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tapstack/tapstack/internal/lab"
)

// TestHTTPFiles: files of a directory, whole and in ranges, and none from
// outside of it.
func TestHTTPFiles(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	lab.RequireProgram(t, "curl")
	dir := t.TempDir()
	data := pattern(5e6)
	if err := os.MkdirAll(filepath.Join(dir, "files", "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"outside": []byte("secret"), "files/sub/large": data} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(dir, "outside"), filepath.Join(dir, "files", "link")); err != nil {
		t.Fatal(err)
	}
	start(t, l, 0, "http-server", "--dir", filepath.Join(dir, "files"))
	dial(t, l, "10.77.0.7:80").Close()
	for _, host := range []string{"10.77.0.7", "[fd77::7]"} {
		url := "http://" + host + "/files/"
		if got := must(t, l, "curl", "-sSg", url+"sub/large"); got != string(data) {
			t.Errorf("%s: %d bytes", host, len(got))
		}
		if got := must(t, l, "curl", "-sSg", "-r", "1000-4000999", url+"sub/large"); got != string(data[1000:4001000]) {
			t.Errorf("%s: a range has %d bytes", host, len(got))
		}
		if got := must(t, l, "curl", "-sSg", url); !strings.Contains(got, `href="sub/"`) {
			t.Errorf("%s: the directory is %q", host, got)
		}
		for _, wrong := range []string{"link", "../outside", "%2e%2e/outside", "none"} {
			got := must(t, l, "curl", "-sSg", "--path-as-is", "-w", "%{http_code}", url+wrong)
			if strings.Contains(got, "secret") || strings.HasSuffix(got, "200") {
				t.Errorf("%s: %q", wrong, got)
			}
		}
	}
}

// pages is a web server on the kernel's side that tells who asks and how.
func pages(t *testing.T, l *lab.Lab, address string, body []byte) string {
	t.Helper()
	ln, err := l.ListenKernel("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/who", func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		w.Header().Set("Connection", "X-Of-This-Hop")
		w.Header().Set("X-Of-This-Hop", "1")
		fmt.Fprintf(w, "from %s\nfor %s %s\n", host, r.Host, r.RequestURI)
		_ = r.Header.Write(w) // curl checks what arrives
	})
	mux.HandleFunc("GET /body", func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(body) })
	mux.HandleFunc("POST /same", func(w http.ResponseWriter, r *http.Request) {
		var b bytes.Buffer
		if _, err := b.ReadFrom(r.Body); err == nil && bytes.Equal(b.Bytes(), body) {
			fmt.Fprint(w, "the same")
		}
	})
	server := &http.Server{Handler: mux}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	t.Cleanup(func() {
		server.Close()
		if err := <-served; err != http.ErrServerClosed {
			t.Error(err)
		}
	})
	return "http://" + ln.Addr().String()
}

// throughProxy fetches with curl by a way out that flags choose, over which
// the stack has to be seen to come.
func throughProxy(t *testing.T, l *lab.Lab, url, comesFrom string, body []byte, flags ...string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(file, body, 0o644); err != nil {
		t.Fatal(err)
	}
	curl := append([]string{"curl", "-sSg"}, flags...)
	if got := must(t, l, append(curl, url+"/who?a=1;b=%zz")...); !strings.HasPrefix(got, "from "+comesFrom+"\nfor "+strings.TrimPrefix(url, "http://")+" /who?a=1;b=%zz\n") {
		t.Errorf("%v: %q", flags, got)
	}
	if got := must(t, l, append(curl, url+"/body")...); got != string(body) {
		t.Errorf("%v: %d bytes of %d", flags, len(got), len(body))
	}
	if got := must(t, l, append(curl, "-H", "Expect:", "--data-binary", "@"+file, url+"/same")...); got != "the same" {
		t.Errorf("%v: %q", flags, got)
	}
}

func TestHTTPProxy(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	lab.RequireProgram(t, "curl")
	body := pattern(5e6)
	four, six := pages(t, l, "10.77.0.1:0", body), pages(t, l, "[fd77::1]:0", body)
	for _, side := range []struct {
		proxy string
		flags []string
	}{
		{"http://127.0.0.1:3128", nil},
		{"http://10.77.0.7:3128", []string{"--on-stack"}},
	} {
		t.Run(side.proxy, func(t *testing.T) {
			p := start(t, l, 0, "http-proxy", side.flags...)
			defer p.stop() // the next one takes its device
			p.waitFor("listening on")
			for _, tunnel := range [][]string{{"-x", side.proxy}, {"-p", "-x", side.proxy}} {
				throughProxy(t, l, four, "10.77.0.7", body, tunnel...)
				throughProxy(t, l, six, "fd77::7", body, tunnel...)
			}

			// What is for one hop stays there, both ways; the rest goes on.
			got := must(t, l, "curl", "-sS", "-i", "-x", side.proxy, "-H", "Connection: X-Mine", "-H", "X-Mine: 1", "-H", "Proxy-Authorization: Basic eDp5",
				"-H", "Keep-Alive: 5", "-H", "TE: trailers", "-H", "X-Other: 1", "-H", "X-Forwarded-For: 192.0.2.9", four+"/who")
			for _, hop := range []string{"X-Mine", "Proxy-", "Keep-Alive", "X-Of-This-Hop"} {
				if strings.Contains(got, hop) {
					t.Errorf("%s has come through:\n%s", hop, got)
				}
			}
			for _, end := range []string{"X-Other: 1", "Via: 1.1 tapstack-", "X-Forwarded-For: 192.0.2.9\r\n"} {
				if !strings.Contains(got, end) {
					t.Errorf("%s has not come through:\n%s", end, got)
				}
			}
			if n := strings.Count(got, "Via: 1.1 tapstack-"); n != 2 {
				t.Errorf("%d marks of the proxy, of one in the request and one in the response", n)
			}

			code := func(flags ...string) string {
				out, _ := run(t, l, append([]string{"curl", "-s", "-o", "/dev/null", "-w", "%{http_connect} %{http_code}", "-x", side.proxy}, flags...)...)
				return out
			}
			if got := code("http://10.77.0.1:1/"); got != "000 502" {
				t.Errorf("where nobody listens: %s", got)
			}
			if got := code("-p", "http://10.77.0.1:1/"); got != "502 000" {
				t.Errorf("a tunnel to where nobody listens: %s", got)
			}
			if got := code("http://10.77.0.99/"); got != "000 502" {
				t.Errorf("a host that is not there: %s", got)
			}
			if got := must(t, l, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", side.proxy+"/"); got != "400" {
				t.Errorf("a request that is not for a proxy: %s", got)
			}
			if side.flags != nil { // it can be asked to ask itself
				if got := code("http://10.77.0.7:3128/"); got != "000 508" {
					t.Errorf("to itself: %s", got)
				}
			}
		})
	}
}

// TestHTTPProxyTunnel: a tunnel keeps half-close.
func TestHTTPProxyTunnel(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	h := newHand(t, l, "10.77.0.1:0")
	at := h.ln.Addr()
	p := start(t, l, 0, "http-proxy", "--limit", "1")
	p.waitFor("listening on")
	h.halves(t, "10.77.0.7", func() *net.TCPConn {
		c := dial(t, l, "127.0.0.1:3128")
		fmt.Fprintf(c, "CONNECT %v HTTP/1.1\r\nHost: %v\r\n\r\n", at, at)
		answer := make([]byte, len("HTTP/1.1 200 Connection established\r\n\r\n"))
		if _, err := c.Read(answer); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200 ") {
			t.Fatalf("%q, %v", answer, err)
		}
		return c
	})
}
