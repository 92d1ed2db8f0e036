package workloads

// The standard library's HTTP client and server, version 1.1 and 2 through the
// same tests: what a program asks of them is the same, what they ask of the
// sockets is not.

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
)

// version is a way to speak HTTP.
type version struct {
	name  string
	major int
	tls   bool
	// prepare says so to both sides.
	prepare func(*http.Protocols)
}

var versions = []version{
	{"HTTP1", 1, false, func(p *http.Protocols) { p.SetHTTP1(true) }},
	{"HTTPS1", 1, true, func(p *http.Protocols) { p.SetHTTP1(true) }},
	{"h2", 2, true, func(p *http.Protocols) { p.SetHTTP2(true) }},
	{"h2c", 2, false, func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) }},
}

// web is a server and a client for it.
type web struct {
	*http.Client
	url string
	// dialled counts the client's connections.
	dialled atomic.Int64
}

// serve starts a server of that version; it ends with the test, without
// complaint.
func serve(t *testing.T, h *hosts, v version, handler http.Handler) *web {
	t.Helper()
	w := new(web)
	protocols := new(http.Protocols)
	v.prepare(protocols)
	server := &http.Server{Handler: handler, Protocols: protocols}
	transport := &http.Transport{Protocols: protocols, MaxIdleConnsPerHost: 100, ExpectContinueTimeout: patience,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			w.dialled.Add(1)
			return h.client.DialContext(ctx, network, address)
		}}
	w.Client = &http.Client{Transport: transport, Timeout: patience}
	l := h.listen(t, 80)
	w.url = "http://" + h.at(80)
	served := make(chan error, 1)
	if v.tls {
		a := newAuthority(t)
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{a.server(h)}}
		transport.TLSClientConfig = &tls.Config{RootCAs: a.pool}
		w.url = "https://" + h.at(80)
		go func() { served <- server.ServeTLS(l, "", "") }()
	} else {
		go func() { served <- server.Serve(l) }()
	}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serve: %v", err)
		}
	})
	return w
}

// fetch makes a request and returns the sum of what it is answered.
func (w *web) fetch(ctx context.Context, method, path string, body io.Reader) (string, *http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, w.url+path, body)
	if err != nil {
		return "", nil, err
	}
	resp, err := w.Do(r)
	if err != nil {
		return "", nil, err
	}
	defer resp.Body.Close()
	got, err := sum(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s", method, path, resp.Status)
	}
	return got, resp, err
}

// handler answers GET /SEED/N with that noise, /chunks/SEED/N with the same in
// pieces that are flushed one by one, and what is posted with its sum.
func handler() http.Handler {
	mux := http.NewServeMux()
	number := func(r *http.Request, name string) int {
		n, _ := strconv.Atoi(r.PathValue(name))
		return n
	}
	mux.HandleFunc("GET /{seed}/{n}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", r.PathValue("n"))
		io.Copy(w, noise(number(r, "seed"), number(r, "n")))
	})
	mux.HandleFunc("GET /chunks/{seed}/{n}", func(w http.ResponseWriter, r *http.Request) {
		body := noise(number(r, "seed"), number(r, "n"))
		w.Header().Set("Trailer", "X-Pieces")
		pieces := 0
		for ; ; pieces++ {
			if n, _ := io.CopyN(w, body, 1000+int64(pieces)*100); n == 0 {
				break
			}
			w.(http.Flusher).Flush()
		}
		w.Header().Set("X-Pieces", strconv.Itoa(pieces))
	})
	mux.HandleFunc("POST /{$}", func(w http.ResponseWriter, r *http.Request) {
		s, err := sum(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		io.WriteString(w, s)
	})
	mux.HandleFunc("POST /refuse", func(w http.ResponseWriter, r *http.Request) {
		// The body is not looked at: whoever waits for 100 Continue need not send it.
		http.Error(w, "no", http.StatusForbidden)
	})
	return mux
}

// TestHTTP asks for everything that is special about a request once, then for
// large bodies both ways, then for many at the same time.
func TestHTTP(t *testing.T) {
	for _, v := range versions {
		t.Run(v.name, func(t *testing.T) {
			each(t, func(t *testing.T, h *hosts) {
				w := serve(t, h, v, handler())
				t.Run("keep-alive", func(t *testing.T) { w.testKeepAlive(t, h, v) })
				t.Run("chunked", func(t *testing.T) { w.testChunked(t, h) })
				t.Run("continue", func(t *testing.T) { w.testContinue(t, h, v) })
				t.Run("large", func(t *testing.T) { w.testLarge(t, h) })
				t.Run("parallel", func(t *testing.T) { w.testParallel(t, h, v) })
				t.Run("canceled", func(t *testing.T) { w.testCanceled(t, h) })
			})
		})
	}
}

// testKeepAlive makes one request after the other over one connection.
func (w *web) testKeepAlive(t *testing.T, h *hosts, v version) {
	for i := range h.size(300, 60) {
		got, resp, err := w.fetch(h.ctx, "GET", fmt.Sprintf("/%d/%d", i, 10*i), nil)
		if want := noiseSum(i, 10*i); err != nil || got != want {
			t.Fatalf("request %d: %s, %v; want %s", i, got, err, want)
		}
		if resp.ProtoMajor != v.major {
			t.Fatalf("spoke %s", resp.Proto)
		}
	}
	if n := w.dialled.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// testChunked sends and gets bodies whose length nobody knows beforehand.
func (w *web) testChunked(t *testing.T, h *hosts) {
	n := h.size(300_000, 100_000)
	got, resp, err := w.fetch(h.ctx, "GET", fmt.Sprintf("/chunks/5/%d", n), nil)
	if want := noiseSum(5, n); err != nil || got != want {
		t.Fatalf("%s, %v; want %s", got, err, want)
	}
	if resp.ContentLength != -1 || resp.Trailer.Get("X-Pieces") == "" {
		t.Errorf("length %d, trailer %v", resp.ContentLength, resp.Trailer)
	}
	in, out := io.Pipe()
	go func() {
		body := noise(6, n)
		for i := int64(0); ; i++ {
			if n, _ := io.CopyN(out, body, 1+i*50); n == 0 {
				break
			}
		}
		out.Close()
	}()
	w.post(t, h, in, noiseSum(6, n))
}

// post posts a body and wants its sum back.
func (w *web) post(t *testing.T, h *hosts, body io.Reader, want string) {
	t.Helper()
	r, err := http.NewRequestWithContext(h.ctx, "POST", w.url+"/", body)
	must(t, err)
	resp, err := w.Do(r)
	must(t, err)
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || string(got) != want {
		t.Errorf("posted: %s, %v; want %s", got, err, want)
	}
}

// testContinue: a body waits until the server has said that it wants it.
func (w *web) testContinue(t *testing.T, h *hosts, v version) {
	for _, c := range []struct {
		path   string
		status int
		wanted bool
	}{{"/", http.StatusOK, true}, {"/refuse", http.StatusForbidden, false}} {
		var steps []string
		body := &spy{Reader: noise(8, 100_000)}
		ctx := httptrace.WithClientTrace(h.ctx, &httptrace.ClientTrace{
			Got100Continue: func() {
				if body.read.Load() > 0 {
					t.Error("the body did not wait")
				}
				steps = append(steps, "100")
			},
			Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
				steps = append(steps, strconv.Itoa(code))
				return nil
			},
		})
		r, err := http.NewRequestWithContext(ctx, "POST", w.url+c.path, body)
		must(t, err)
		r.Header.Set("Expect", "100-continue")
		resp, err := w.Do(r)
		must(t, err)
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.status {
			t.Errorf("%s: %s", c.path, resp.Status)
		}
		if c.wanted && !slices.Contains(steps, "100") {
			t.Errorf("%s: no 100 Continue", c.path)
		}
		if read := body.read.Load(); (read > 0) != c.wanted {
			t.Errorf("%s: %d bytes of the body were read", c.path, read)
		}
	}
}

// spy counts what is read of a body.
type spy struct {
	io.Reader
	read atomic.Int64
}

func (s *spy) Read(b []byte) (int, error) {
	n, err := s.Reader.Read(b)
	s.read.Add(int64(n))
	return n, err
}

// testLarge moves a large body each way.
func (w *web) testLarge(t *testing.T, h *hosts) {
	n := h.size(16<<20, 2<<20)
	want := noiseSum(9, n)
	got, _, err := w.fetch(h.ctx, "GET", fmt.Sprintf("/9/%d", n), nil)
	if err != nil || got != want {
		t.Errorf("fetched: %s, %v; want %s", got, err, want)
	}
	w.post(t, h, bytes.NewReader(noiseBytes(9, n)), want)
}

// testParallel makes requests of all sizes from many goroutines.
func (w *web) testParallel(t *testing.T, h *hosts, v version) {
	const clients = 50
	before := w.dialled.Load()
	errs := make(chan error, clients)
	for c := range clients {
		go func() {
			errs <- func() error {
				for i := range h.size(8, 2) {
					seed, n := 100*c+i, 1<<(4+(c+i)%12)
					got, _, err := w.fetch(h.ctx, "GET", fmt.Sprintf("/%d/%d", seed, n), nil)
					if want := noiseSum(seed, n); err != nil || got != want {
						return fmt.Errorf("client %d, request %d: %s, %v; want %s", c, i, got, err, want)
					}
				}
				return nil
			}()
		}()
	}
	join(t, clients, errs)
	if n := w.dialled.Load() - before; v.major == 2 && n != 0 {
		t.Errorf("%d more connections for HTTP/2", n)
	}
}

// testCanceled gives up in the middle of an answer; others go on.
func (w *web) testCanceled(t *testing.T, h *hosts) {
	ctx, cancel := context.WithCancel(h.ctx)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", w.url+"/1/1000000000", nil)
	must(t, err)
	resp, err := w.Do(r)
	must(t, err)
	defer resp.Body.Close()
	_, err = io.CopyN(io.Discard, resp.Body, 100_000)
	must(t, err)
	cancel()
	if _, err := io.Copy(io.Discard, resp.Body); !errors.Is(err, context.Canceled) {
		t.Errorf("after cancel: %v", err)
	}
	got, _, err := w.fetch(h.ctx, "GET", "/2/1000", nil)
	if want := noiseSum(2, 1000); err != nil || got != want {
		t.Errorf("the next request: %s, %v; want %s", got, err, want)
	}
}
