package main

// This file owns docs/benchmarks.svg: how this stack compares with each other
// one, a dot for each pair on a logarithmic scale, better to the right.

import (
	"bytes"
	"fmt"
	"html"
	"math"
)

// dots are the peers in the chart, and their colours, which differ in
// lightness too.
var dots = []struct{ name, colour, title string }{
	{gvisorTAP, "#f0a020", "gVisor as it comes"},
	{gvisorPacket, "#c03030", "gVisor with super-frames"},
	{veth, "#2060a0", "Linux kernel over veth"},
}

const (
	chartWidth = 860
	labelWidth = 400
	rowHeight  = 22
	headHeight = 62
	decades    = 2.0 // each way from 1
)

// chart is made only of what every viewer of SVG has.
func (r *report) chart() []byte {
	var b bytes.Buffer
	line := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n", a...) }
	height := headHeight + rowHeight*len(r.Results) + 8
	const right = chartWidth - 20
	at := func(ratio float64) float64 {
		x := max(-decades, min(decades, math.Log10(ratio)))
		return labelWidth + (x+decades)/(2*decades)*(right-labelWidth)
	}
	line(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`, chartWidth, height)
	line(`<rect width="100%%" height="100%%" fill="#fff"/>`)
	line(`<text x="8" y="18" font-size="14" font-weight="bold">How many times better tapstack is than</text>`)
	for i, d := range dots {
		x := labelWidth - 80 + i*170
		line(`<circle cx="%d" cy="14" r="5" fill="%s"/><text x="%d" y="18">%s</text>`, x, d.colour, x+10, d.title)
	}
	for _, tick := range []float64{0.01, 0.1, 0.5, 1, 2, 10, 100} {
		colour := "#ddd"
		if tick == 1 {
			colour = "#000"
		}
		line(`<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="%s"/><text x="%.1f" y="46" text-anchor="middle" fill="#555">%g×</text>`,
			at(tick), at(tick), headHeight-10, height-4, colour, at(tick), tick)
	}
	for i, x := range r.Results {
		y := headHeight + rowHeight*i + rowHeight/2
		line(`<text x="8" y="%d">%s</text>`, y+4, html.EscapeString(x.Title))
		for _, d := range dots {
			s := x.Ratios[ours][d.name]
			if s == nil || s.Median <= 0 || s.Min <= 0 {
				continue
			}
			median, low, high := s.Median, s.Min, s.Max
			if x.Lower {
				median, low, high = 1/median, 1/high, 1/low
			}
			line(`<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="%s" stroke-width="2" opacity="0.4"/><circle cx="%.1f" cy="%d" r="5" fill="%s"><title>%s: %s</title></circle>`,
				at(low), at(high), y, y, d.colour, at(median), y, d.colour, d.title, num(median))
		}
	}
	line(`</svg>`)
	return b.Bytes()
}
