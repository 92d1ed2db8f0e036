// Http-server serves web pages over the stack with the standard library's
// net/http, which neither knows nor cares: it only wants a net.Listener. The
// page shows who asked, and the stack's counters; with --dir the files of a
// directory are served too, whole or in ranges.
//
//	sudo make bridge tap && sudo go run ./examples/http-server --tap tap7 --ip 10.77.0.7/24
//
// or without root, in the shell that `make lab` opens:
//
//	go run ./examples/http-server &
//	curl http://10.77.0.7/
//	curl http://10.77.0.7/bytes/1000000000 | sha256sum; curl http://10.77.0.7/sha256/1000000000
//	go run ./examples/http-server --dir . & curl -r 0-99 http://10.77.0.7/files/README.md
package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"github.com/tapstack/tapstack/internal/attach"
)

var dir = pflag.String("dir", "", "serve the files of this `DIRECTORY` below /files/")

func main() { attach.Main("", run) }

func run(ctx context.Context, host *attach.Host, _ []string) error {
	ln, err := host.Net.Listen("tcp", ":80")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		log.Printf("%s: %s %s", r.RemoteAddr, r.Method, r.URL)
		fmt.Fprintf(w, "Hello, %s. This came over a TCP/IP stack in user space.\n\n", r.RemoteAddr)
		counters := host.Counters()
		for _, name := range slices.Sorted(maps.Keys(counters)) {
			fmt.Fprintf(w, "%-40s %d\n", name, counters[name])
		}
	})
	mux.HandleFunc("GET /bytes/{n}", sendBytes)
	mux.HandleFunc("GET /sha256/{n}", sendSum)
	if *dir != "" {
		// A root lets no name and no symbolic link lead out of it.
		root, err := os.OpenRoot(*dir)
		if err != nil {
			return err
		}
		defer root.Close()
		mux.Handle("GET /files/", http.StripPrefix("/files/", http.FileServerFS(root.FS())))
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}

	// Shutdown lets requests finish that are being answered.
	closed := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(closed)
		limited, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if err := server.Shutdown(limited); err != nil {
			log.Print(err)
		}
	})
	if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	<-closed
	return nil
}

// maxBytes bounds what can be asked for.
const maxBytes = 100e9

// noise is n bytes that look random and are the same each time.
func noise(r *http.Request) (io.Reader, int64, error) {
	n, err := strconv.ParseInt(r.PathValue("n"), 10, 64)
	if err != nil || n < 0 || n > maxBytes {
		return nil, 0, fmt.Errorf("want a number of bytes up to %.0f", float64(maxBytes))
	}
	return io.LimitReader(rand.NewChaCha8([32]byte{}), n), n, nil
}

// sendBytes answers with as many bytes as are asked for, so that a client can
// see how fast they come and that they are right.
func sendBytes(w http.ResponseWriter, r *http.Request) {
	body, n, err := noise(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	start := time.Now()
	sent, err := io.CopyBuffer(struct{ io.Writer }{w}, body, make([]byte, 256<<10))
	log.Printf("%s: %s: %d bytes, %.0f MB/s, %v", r.RemoteAddr, r.URL, sent, float64(sent)/1e6/time.Since(start).Seconds(), err)
}

// sendSum answers with the SHA-256 of those bytes, as sha256sum prints it.
func sendSum(w http.ResponseWriter, r *http.Request) {
	body, _, err := noise(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	h := sha256.New()
	io.Copy(h, body)
	fmt.Fprintf(w, "%x  -\n", h.Sum(nil))
}
