package main

// This file owns the flame graph: the calls of a profile as nested bars, the
// outermost function at the bottom, as wide as the time spent below it.

import (
	"bytes"
	"cmp"
	"fmt"
	"hash/fnv"
	"html"
	"slices"
	"strings"
)

// call is a function called from one place.
type call struct {
	us    float64
	calls map[string]*call
}

const (
	flameWidth = 1200
	barHeight  = 16
	charWidth  = 6.5
	minBar     = 0.5 // narrower ones are left out, in pixels
)

func flameGraph(samples []sample, title string) []byte {
	root, depth := &call{calls: make(map[string]*call)}, 0
	for _, s := range samples {
		c := root
		c.us += s.us
		depth = max(depth, len(s.stack))
		for _, name := range slices.Backward(s.stack) {
			next := c.calls[name]
			if next == nil {
				next = &call{calls: make(map[string]*call)}
				c.calls[name] = next
			}
			c = next
			c.us += s.us
		}
	}
	var b bytes.Buffer
	height := (depth + 3) * barHeight
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="monospace" font-size="11">`+"\n", flameWidth, height)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="#fff"/><text x="4" y="14" font-size="13">%s: %.2f s of CPU</text>`+"\n", html.EscapeString(title), root.us/1e6)
	if root.us > 0 {
		root.draw(&b, 0, height-barHeight, flameWidth/root.us, root.us)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// draw draws what c calls, side by side from x and with their feet at y.
func (c *call) draw(b *bytes.Buffer, x float64, y int, scale, all float64) {
	times := make(map[string]float64)
	for name, d := range c.calls {
		times[name] = d.us
	}
	for _, name := range descending(times) {
		d := c.calls[name]
		width := d.us * scale
		if width < minBar {
			continue
		}
		h := fnv.New32()
		h.Write([]byte(name)) // never fails
		short := strings.TrimPrefix(name, "github.com/tapstack/tapstack/")
		if room := int(width / charWidth); len(short) > room {
			short = short[:max(0, room)]
		}
		fmt.Fprintf(b, `<g><title>%s: %.1f %%</title><rect x="%.1f" y="%d" width="%.1f" height="%d" fill="hsl(%d,70%%,65%%)" stroke="#fff"/><text x="%.1f" y="%d">%s</text></g>`+"\n",
			html.EscapeString(name), 100*d.us/all, x, y-barHeight, width, barHeight, h.Sum32()%50, x+2, y-4, html.EscapeString(short))
		d.draw(b, x, y-barHeight, scale, all)
		x += width
	}
}

// descending lists the keys of m, the largest value first.
func descending(m map[string]float64) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b string) int {
		return cmp.Or(cmp.Compare(m[b], m[a]), strings.Compare(a, b))
	})
	return keys
}
