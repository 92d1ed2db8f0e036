package traceview

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/gdamore/tcell/v2"

	"github.com/tapstack/tapstack/probe"
)

// This file owns what is on the screen.

// Control is what the keys do to the trace; *probe.Tracing is one.
type Control interface {
	Pause()
	Resume()
	Reset()
}

// View shows a trace. The exported fields are set before it is drawn first; the
// keys change some of them.
type View struct {
	Title string // first line
	Dst   string // as the user wrote it
	// Source returns what is known so far.
	Source  func() probe.TraceResult
	Control Control
	Order   string // letters of Columns
	// Names are shown with ShowNames, and the addresses behind them with ShowIPs.
	// nil: there are none.
	Names              *Names
	ShowNames, ShowIPs bool
	AS                 *ASTable
	ShowAS             bool
	ShowBack           bool // where the way back has another length
	// Mode is what is shown first, as after that many d keys: 0 figures, 1 latest
	// probes, 2 latest round trips.
	Mode int
	// Explain says why a host refuses packets.
	Explain func(*probe.Host) string
	// Clock is for the time in the corner.
	Clock func() time.Time

	history history
	dirty   chan struct{} // something has changed, see Run
	scroll  int
	paused  bool
	help    bool
	asks    bool   // for Order
	answer  string // so far
	message string // until the next key
}

// Modes: what is shown of a hop.
const (
	figures = iota
	strip   // the latest probes, as answered or not
	graded  // the latest probes, by their round trips
	numModes
)

// jitterOrder are the columns that the key j shows, mtr's.
const jitterOrder = "DR AGJMXI"

var (
	plainStyle  = tcell.StyleDefault
	headStyle   = plainStyle.Bold(true)
	noteStyle   = plainStyle.Dim(true)
	lossStyle   = plainStyle.Foreground(tcell.ColorRed)
	gradeStyles = [...]tcell.Style{plainStyle.Foreground(tcell.ColorGreen), plainStyle.Foreground(tcell.ColorGreen), plainStyle.Foreground(tcell.ColorGreen),
		plainStyle.Foreground(tcell.ColorYellow), plainStyle.Foreground(tcell.ColorYellow), plainStyle.Foreground(tcell.ColorYellow),
		plainStyle.Foreground(tcell.ColorRed), plainStyle.Foreground(tcell.ColorRed)}
)

// New makes a view of what source knows.
func New(source func() probe.TraceResult) *View {
	return &View{Source: source, Order: DefaultOrder, ShowNames: true, Clock: time.Now, dirty: make(chan struct{}, 1)}
}

// Add tells the view of a result, from any goroutine.
func (v *View) Add(ttl int, r probe.Result) {
	v.history.add(ttl, &r)
	v.Wake()
}

// Wake makes Run draw soon.
func (v *View) Wake() {
	select {
	case v.dirty <- struct{}{}:
	default:
	}
}

// canvas is a screen of which one line is written after the other.
type canvas struct {
	tcell.Screen
	w, h int
}

func (c *canvas) at(x, y int, style tcell.Style, text string) int {
	for _, r := range text {
		if x >= c.w {
			break
		}
		if r < ' ' || r == 0x7f {
			r = '?'
		}
		c.SetContent(x, y, r, nil, style)
		x++
	}
	return x
}

func (c *canvas) right(y int, style tcell.Style, text string) {
	c.at(max(c.w-len(text), 0), y, style, text)
}

// row is a line of the body.
type row struct {
	text  string
	style tcell.Style
	hop   *probe.Hop // with figures or probes behind the text
}

// Draw puts it on a screen.
func (v *View) Draw(s tcell.Screen) {
	s.Clear()
	c := &canvas{Screen: s}
	c.w, c.h = s.Size()
	r := v.Source()
	c.at(0, 0, headStyle, v.Title)
	c.right(0, plainStyle, v.Clock().Format("2006-01-02T15:04:05-0700"))
	state := fmt.Sprintf("%v > %s", r.Src, v.Dst)
	if r.Dst.IsValid() && r.Dst.String() != v.Dst {
		state += fmt.Sprintf(" (%v)", r.Dst)
	}
	c.at(0, 1, plainStyle, state)
	c.right(1, headStyle, v.state(&r))
	x := 0
	for _, k := range []string{"Help", "Display", "Names", "Z AS", "Pause", "Reset", "Order", "Quit"} {
		c.at(x, 2, headStyle, k[:1])
		x = c.at(x+1, 2, plainStyle, k[1:]) + 2
	}
	if v.help {
		v.drawHelp(c)
	} else {
		v.body(c, &r)
	}
	switch {
	case v.asks:
		end := c.at(0, c.h-1, headStyle, "Fields ("+Fields()+"): ")
		if end+len(v.answer) >= c.w { // a narrow terminal
			for x := range c.w {
				c.SetContent(x, c.h-1, ' ', nil, plainStyle)
			}
			end = c.at(0, c.h-1, headStyle, "Fields: ")
		}
		end = c.at(end, c.h-1, plainStyle, v.answer)
		s.ShowCursor(end, c.h-1)
	default:
		s.HideCursor()
		c.at(0, c.h-1, headStyle, v.message)
	}
	s.Show()
}

// state is what the trace is doing, in a word.
func (v *View) state(r *probe.TraceResult) string {
	switch {
	case v.paused:
		return "paused"
	case r.Reached():
		return "reached"
	case r.End == probe.EndLoop, r.End == probe.EndUnreachable:
		return r.End.String()
	}
	return "not reached"
}

// Host is how an address is shown, with its name and the number of its AS.
func (v *View) Host(a netip.Addr) string {
	if !a.IsValid() {
		return "???"
	}
	text := a.String()
	if v.ShowNames {
		if name := v.Names.Of(a); name != "" && v.ShowIPs {
			text = name + " (" + text + ")"
		} else if name != "" {
			text = name
		}
	}
	return text
}

func (v *View) rows(r *probe.TraceResult) (list []row) {
	found := Found(r, v.ShowBack)
	for i := range r.Hops {
		h := &r.Hops[i]
		x, _ := h.Most()
		as := ""
		if v.ShowAS {
			as = fmt.Sprintf("%-10s ", v.AS.Text(x.Addr))
		}
		list = append(list, row{text: fmt.Sprintf("%3d. %s%s", h.TTL, as, v.Host(x.Addr)), hop: h})
		notes := func(x *probe.Host) {
			for _, n := range Notes(x, v.Explain) {
				list = append(list, row{text: "       " + n, style: noteStyle})
			}
		}
		notes(&x)
		for k := range h.Hosts {
			if y := &h.Hosts[k]; y.Addr != x.Addr {
				list = append(list, row{text: fmt.Sprintf("     %s  %d of %d", v.Host(y.Addr), y.Count, h.Received)})
				notes(y)
			}
		}
		for _, n := range found[h.TTL] {
			list = append(list, row{text: "       " + n, style: noteStyle})
		}
	}
	if way := Loop(r, v.Host); way != "" {
		list = append(list, row{text: "     loop: " + way, style: lossStyle})
	}
	return list
}

// top is the first line of the body.
const top = 4

func (v *View) body(c *canvas, r *probe.TraceResult) {
	columns, _ := Order(v.Order) // it was looked at when it was set
	list := v.rows(r)
	room := max(c.h-top-1, 0)
	scale := time.Duration(0)
	width := 0 // of the figures
	if v.Mode == figures {
		for _, f := range columns {
			c.at(c.w-7*len(columns)+width, 3, headStyle, fmt.Sprintf(" %6s", f.Name))
			width += 7
		}
	} else {
		width = max(c.w*3/5, 10)
		c.at(c.w-width, 3, headStyle, fmt.Sprintf("Last %d probes", width-1))
		for i := range r.Hops {
			for _, d := range v.history.last(r.Hops[i].TTL, width-1) {
				scale = max(scale, d)
			}
		}
		room-- // for the legend
	}
	c.at(0, 3, headStyle, " Host")
	v.scroll = max(min(v.scroll, len(list)-room), 0)
	y := top
	for _, l := range list[v.scroll:min(v.scroll+max(room, 0), len(list))] {
		text := l.text
		if l.hop == nil {
			c.at(0, y, l.style, text)
			y++
			continue
		}
		if n := max(c.w-width-1, 0); len(text) > n {
			text = text[:n]
		}
		c.at(0, y, plainStyle, text)
		if v.Mode == figures {
			for i, f := range columns {
				style := plainStyle
				if f.Letter == 'L' && l.hop.Loss() > 0 {
					style = lossStyle
				}
				c.at(c.w-width+7*i, y, style, fmt.Sprintf(" %6s", fmt.Sprintf(f.Format, f.Value(l.hop))))
			}
		} else {
			x := c.w - width
			for _, d := range v.history.last(l.hop.TTL, width-1) {
				mark, style := v.mark(d, scale)
				x = c.at(x, y, style, mark)
			}
		}
		y++
	}
	switch v.Mode {
	case strip:
		c.at(0, c.h-2, noteStyle, ". answered   ? lost")
	case graded:
		var parts []string
		for i := 1; i <= grades; i++ {
			parts = append(parts, fmt.Sprintf("%d<=%.1f", i, float64(bound(i, scale).Nanoseconds())/1e6))
		}
		c.at(0, c.h-2, noteStyle, "Scale (ms): "+strings.Join(parts, "  ")+"  ? lost")
	}
}

// grades is how many steps round trips are shown in: each is the square of its
// number, of the longest of all, since most are short.
const grades = 8

func bound(grade int, longest time.Duration) time.Duration {
	return longest * time.Duration(grade*grade) / (grades * grades)
}

// mark is the sign of a probe.
func (v *View) mark(d, longest time.Duration) (string, tcell.Style) {
	switch {
	case d == lost:
		return "?", lossStyle
	case v.Mode == strip:
		return ".", plainStyle
	}
	for i := 1; i < grades; i++ {
		if d <= bound(i, longest) {
			return string(rune('0' + i)), gradeStyles[i-1]
		}
	}
	return "8", gradeStyles[grades-1]
}

var helpText = []string{
	"q  quit                       p  pause          space  go on",
	"r  forget all and begin anew  d  figures, latest probes, latest round trips",
	"n  names or addresses         b  names and addresses",
	"z  numbers of autonomous systems (--as-file)",
	"o  choose the fields          j  fields of jitter",
	"+ - arrows  scroll            h ?  this help",
	"",
	"Fields:",
}

func (v *View) drawHelp(c *canvas) {
	y := top
	for _, l := range helpText {
		c.at(1, y, plainStyle, l)
		y++
	}
	for i, f := range Columns {
		half := (len(Columns) + 1) / 2
		c.at(3+i/half*36, y+i%half, plainStyle, fmt.Sprintf("%c  %-6s %s", f.Letter, f.Name, f.Title))
	}
}
