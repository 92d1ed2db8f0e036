// Telnet-mud is a game for many, as small as can be: whoever comes gives a name,
// and what one says all hear. It shows package telnet over the stack: lines are
// edited by the client, text is in the client's character set, and prompts are
// marked for clients that look for that. The game is world.go.
//
//	sudo make bridge tap && sudo go run ./examples/telnet-mud --tap tap7 --ip 10.77.0.7/24
//	telnet 10.77.0.7
package main

import (
	"context"
	"time"

	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/telnet"
)

func main() { attach.Main("", run) }

func run(ctx context.Context, host *attach.Host, _ []string) error {
	ln, err := host.Net.Listen("tcp", ":23")
	if err != nil {
		return err
	}
	server := newServer()
	context.AfterFunc(ctx, func() { server.Close() })
	if err := server.Serve(ln); err != telnet.ErrServerClosed {
		return err
	}
	return nil
}

func newServer() *telnet.Server {
	return &telnet.Server{Handler: new(world), Config: &telnet.Config{LineMode: true}, MaxConns: 1000, IdleTimeout: time.Hour}
}
