// Telnet-mud is a game for many, as small as can be: whoever comes gives a name,
// and what one says all hear. It shows package telnet over the stack: lines are
// edited by the client, text is in the client's character set, and prompts are
// marked for clients that look for that.
//
//	sudo make bridge tap && sudo go run ./examples/telnet-mud --tap tap7 --ip 10.77.0.7/24
//	telnet 10.77.0.7
package main

import (
	"context"
	"fmt"
	"sync"

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
	return server.Serve(ln)
}

func newServer() *telnet.Server {
	return &telnet.Server{Handler: &world{players: map[string]*telnet.Text{}}, Config: &telnet.Config{LineMode: true}, MaxConns: 1000}
}

type world struct {
	mu      sync.Mutex
	players map[string]*telnet.Text
}

// ServeTELNET is the life of a player.
func (w *world) ServeTELNET(_ context.Context, c *telnet.Conn) {
	text := c.Text()
	text.Prompt("By what name are you known? ")
	name, err := text.ReadLine()
	if err != nil || name == "" || !w.enter(name, text) {
		text.Printf("Another time, then.\n")
		return
	}
	defer w.leave(name)
	for {
		text.Prompt("> ")
		line, err := text.ReadLine()
		if err != nil || line == "quit" {
			return
		}
		w.tell(fmt.Sprintf("%s says: %s", name, line))
	}
}

func (w *world) enter(name string, text *telnet.Text) bool {
	w.mu.Lock()
	_, taken := w.players[name]
	if !taken {
		w.players[name] = text
	}
	w.mu.Unlock()
	if !taken {
		w.tell(name + " has come.")
	}
	return !taken
}

func (w *world) leave(name string) {
	w.mu.Lock()
	delete(w.players, name)
	w.mu.Unlock()
	w.tell(name + " has left.")
}

func (w *world) tell(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, text := range w.players {
		text.Printf("%s\n", what)
	}
}
