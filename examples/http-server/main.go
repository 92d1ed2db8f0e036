// Http-server serves web pages over the stack with the standard library's
// net/http, which neither knows nor cares: it only wants a net.Listener. The
// page shows who asked, and the stack's counters.
//
//	sudo make bridge tap && sudo go run ./examples/http-server --tap tap7 --ip 10.77.0.7/24
//
// or without root, in the shell that `make lab` opens:
//
//	go run ./examples/http-server &
//	curl http://10.77.0.7/
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/tapstack/tapstack/internal/attach"
)

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
		counters := host.Stack.Counters()
		for _, name := range slices.Sorted(maps.Keys(counters)) {
			fmt.Fprintf(w, "%-40s %d\n", name, counters[name])
		}
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}

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
