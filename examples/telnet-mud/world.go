package main

import (
	"context"
	"sync"
	"time"

	"github.com/tapstack/tapstack/telnet"
)

type world struct {
	players sync.Map // their connections by name
	turn    sync.Mutex
}

// ServeTELNET is the life of a player.
func (w *world) ServeTELNET(_ context.Context, c *telnet.Conn) {
	text := c.Text()
	text.Prompt("By what name are you known? ") // with GA or EOR, if the client wants it
	name, err := text.ReadLine()                // any end of line, in the client's character set
	if _, taken := w.players.LoadOrStore(name, c); taken || err != nil {
		w.players.CompareAndDelete(name, c) // if it is not another's
		return
	}
	for line := "(enters)"; err == nil && line != "quit"; line, err = text.ReadLine() {
		w.tell(name + ": " + line)
	}
	w.players.Delete(name)
	w.tell(name + ": (leaves)")
}

// tell lets all hear. Who does not read is not waited for.
func (w *world) tell(what string) {
	w.turn.Lock()
	defer w.turn.Unlock()
	for _, c := range w.players.Range {
		c := c.(*telnet.Conn)
		c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		if c.Text().Prompt("\r"+telnet.Printable(what)+"\n> ") != nil {
			c.Close()
		}
		c.SetWriteDeadline(time.Time{})
	}
}
