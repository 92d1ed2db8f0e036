package traceview

import (
	"context"
	"time"

	"github.com/gdamore/tcell/v2"
)

// This file owns the keys, mtr's, and the loop that takes them.

// Key takes a key and reports whether the user has seen enough.
func (v *View) Key(k *tcell.EventKey) (quit bool) {
	v.message = ""
	if v.asks {
		v.answerKey(k)
		return false
	}
	switch k.Key() {
	case tcell.KeyCtrlC, tcell.KeyEscape:
		if v.help && k.Key() == tcell.KeyEscape {
			v.help = false
			return false
		}
		return true
	case tcell.KeyUp:
		v.scroll--
	case tcell.KeyDown:
		v.scroll++
	case tcell.KeyPgUp:
		v.scroll -= 10
	case tcell.KeyPgDn:
		v.scroll += 10
	case tcell.KeyRune:
		return v.letter(k.Rune())
	}
	return false
}

func (v *View) letter(r rune) (quit bool) {
	if v.help && r != 'q' {
		v.help = false // any key ends it
		return false
	}
	switch r {
	case 'q':
		return true
	case 'h', '?':
		v.help = true
	case 'p':
		if v.paused = !v.paused; v.paused {
			v.Control.Pause()
		} else {
			v.Control.Resume()
		}
	case ' ':
		if v.paused {
			v.paused = false
			v.Control.Resume()
		}
	case 'r':
		v.history.reset()
		v.Control.Reset()
		v.scroll = 0
	case 'd':
		v.Mode = (v.Mode + 1) % numModes
	case 'n':
		if v.ShowNames = !v.ShowNames; v.ShowNames && v.Names == nil {
			v.message = "no names: no DNS server is known (--dns)"
		}
	case 'b':
		v.ShowIPs = !v.ShowIPs
	case 'z':
		if v.ShowAS = !v.ShowAS && v.AS != nil; v.AS == nil {
			v.message = "no AS numbers: they come from --as-file"
		}
	case 'o':
		v.asks, v.answer = true, v.Order
	case 'j':
		if v.Order == jitterOrder {
			v.Order = DefaultOrder
		} else {
			v.Order = jitterOrder
		}
	case '+':
		v.scroll++
	case '-':
		v.scroll--
	}
	return false
}

// answerKey edits the letters of the fields.
func (v *View) answerKey(k *tcell.EventKey) {
	switch k.Key() {
	case tcell.KeyEnter:
		v.asks = false
		if list, err := Order(v.answer); err != nil {
			v.message = err.Error()
		} else if len(list) > 0 {
			v.Order = v.answer
		}
	case tcell.KeyEscape, tcell.KeyCtrlC:
		v.asks = false
	case tcell.KeyBackspace, tcell.KeyBackspace2:
		if n := len(v.answer); n > 0 {
			v.answer = v.answer[:n-1]
		}
	case tcell.KeyRune:
		if r := k.Rune(); r >= ' ' && r <= '~' && len(v.answer) < 64 {
			v.answer += string(r)
		}
	}
}

// pace is the least time between two drawings.
const pace = 50 * time.Millisecond

// Run shows the view on a screen that was initialised, until the user has seen
// enough, which it reports, or ctx ends, or done is closed. It draws when there is
// something new.
func (v *View) Run(ctx context.Context, s tcell.Screen, done <-chan struct{}) (quit bool) {
	events, over := make(chan tcell.Event), make(chan struct{})
	defer close(over)
	go s.ChannelEvents(events, over)
	var soon <-chan time.Time
	v.Draw(s)
	for {
		select {
		case <-ctx.Done():
			return false
		case <-done:
			v.Draw(s)
			return false
		case <-v.dirty:
			if soon == nil {
				soon = time.After(pace)
			}
		case <-soon:
			soon = nil
			v.Draw(s)
		case e := <-events:
			switch e := e.(type) {
			case *tcell.EventKey:
				if v.Key(e) {
					return true
				}
			case *tcell.EventResize:
				s.Sync()
			case nil:
				return true // the screen is gone
			}
			v.Draw(s)
		}
	}
}
