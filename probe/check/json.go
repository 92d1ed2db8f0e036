package check

// This file owns JSON as Python's json.dumps writes it: names in the order of
// the fields, all characters beyond ASCII escaped, floating point numbers as
// the shortest text that reads back the same.

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// A member of an object, and an object, whose order is kept.
type member struct {
	name  string
	value any
}

type object []member

// list is an array. The other values are nil, bool, int, float64 and string.
type list []any

// jsonText returns v; indent is that of json.dumps, and without one all is on
// one line.
func jsonText(v any, indent int) string {
	var b strings.Builder
	writeJSON(&b, v, indent, 0)
	return b.String()
}

func writeJSON(b *strings.Builder, v any, indent, depth int) {
	switch v := v.(type) {
	case nil:
		b.WriteString("null")
	case bool:
		b.WriteString(strconv.FormatBool(v))
	case int:
		b.WriteString(strconv.Itoa(v))
	case float64:
		b.WriteString(pythonFloat(v))
	case string:
		writeString(b, v)
	case object:
		items := make([]func(), len(v))
		for i, m := range v {
			items[i] = func() {
				writeString(b, m.name)
				b.WriteString(": ")
				writeJSON(b, m.value, indent, depth+1)
			}
		}
		writeItems(b, '{', '}', items, indent, depth)
	case list:
		items := make([]func(), len(v))
		for i, x := range v {
			items[i] = func() { writeJSON(b, x, indent, depth+1) }
		}
		writeItems(b, '[', ']', items, indent, depth)
	default:
		panic(fmt.Sprintf("check: no JSON of a %T", v))
	}
}

func writeItems(b *strings.Builder, open, end byte, items []func(), indent, depth int) {
	b.WriteByte(open)
	newline := func(depth int) {
		b.WriteByte('\n')
		for range depth * indent {
			b.WriteByte(' ')
		}
	}
	for i, item := range items {
		switch {
		case i > 0 && indent == 0:
			b.WriteString(", ")
		case i > 0:
			b.WriteByte(',')
		}
		if indent > 0 {
			newline(depth + 1)
		}
		item()
	}
	if indent > 0 && len(items) > 0 {
		newline(depth)
	}
	b.WriteByte(end)
}

// pythonFloat is repr of a float that is finite.
func pythonFloat(f float64) string {
	if a := math.Abs(f); f != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// writeString writes a string as ensure_ascii does; what is not UTF-8 is
// U+FFFD.
func writeString(b *strings.Builder, s string) {
	b.WriteByte('"')
	for _, r := range s {
		switch r {
		case '"', '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case '\n':
			b.WriteString(`\n`)
		case '\r':
			b.WriteString(`\r`)
		case '\t':
			b.WriteString(`\t`)
		case '\b':
			b.WriteString(`\b`)
		case '\f':
			b.WriteString(`\f`)
		default:
			switch {
			case r < ' ' || r >= utf8.RuneSelf && r < 0x10000:
				fmt.Fprintf(b, `\u%04x`, r)
			case r >= 0x10000:
				hi, lo := utf16.EncodeRune(r)
				fmt.Fprintf(b, `\u%04x\u%04x`, hi, lo)
			default:
				b.WriteRune(r)
			}
		}
	}
	b.WriteByte('"')
}

// orNull is nil for the zero value.
func orNull[T comparable](v T) any {
	var zero T
	if v == zero {
		return nil
	}
	return v
}

func seconds(d time.Duration) float64 { return d.Seconds() }
