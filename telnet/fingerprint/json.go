package fingerprint

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// This file owns the text of the files, and the hash over it. A hash is good
// only if all who make it write the same bytes: keys sorted, no blanks, ASCII,
// what is beyond it as \u and four digits (as Python's json.dumps does with
// sort_keys). encoding/json escapes other characters.

// object is a JSON object.
type object = map[string]any

// hashOf is the first 16 hexadecimal digits of the SHA-256 of an object's
// compact text.
func hashOf(v object) string {
	sum := sha256.Sum256(appendJSON(nil, v, -1))
	return hex.EncodeToString(sum[:8])
}

// pretty is a text for people and files: two blanks for each level.
func pretty(v object) []byte { return appendJSON(nil, v, 0) }

// appendJSON appends the text of a value. level is that of indentation, -1 for
// none.
func appendJSON(b []byte, v any, level int) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...)
	case bool:
		return strconv.AppendBool(b, v)
	case int:
		return strconv.AppendInt(b, int64(v), 10)
	case float64:
		return appendFloat(b, v)
	case json.Number:
		return append(b, v...)
	case string:
		return appendString(b, v)
	case []string:
		return appendList(b, len(v), level, "[]", func(b []byte, i, level int) []byte { return appendString(b, v[i]) })
	case []any:
		return appendList(b, len(v), level, "[]", func(b []byte, i, level int) []byte { return appendJSON(b, v[i], level) })
	case object:
		keys := slices.Sorted(maps.Keys(v))
		return appendList(b, len(keys), level, "{}", func(b []byte, i, level int) []byte {
			b = append(appendString(b, keys[i]), ':')
			if level >= 0 {
				b = append(b, ' ')
			}
			return appendJSON(b, v[keys[i]], level)
		})
	}
	panic(fmt.Sprintf("fingerprint: no JSON for %T", v)) // a mistake in this package
}

func appendList(b []byte, n, level int, brackets string, element func(b []byte, i, level int) []byte) []byte {
	b = append(b, brackets[0])
	if n == 0 {
		return append(b, brackets[1])
	}
	inner := level
	if level >= 0 {
		inner++
	}
	for i := range n {
		if i > 0 {
			b = append(b, ',')
		}
		b = element(newLine(b, inner), i, inner)
	}
	return append(newLine(b, level), brackets[1])
}

func newLine(b []byte, level int) []byte {
	if level < 0 {
		return b
	}
	return append(append(b, '\n'), strings.Repeat("  ", level)...)
}

// appendFloat writes a whole number with ".0", as Python does.
func appendFloat(b []byte, f float64) []byte {
	n := len(b)
	b = strconv.AppendFloat(b, f, 'f', -1, 64)
	if !strings.Contains(string(b[n:]), ".") {
		b = append(b, ".0"...)
	}
	return b
}

var shortEscapes = map[rune]byte{'"': '"', '\\': '\\', '\b': 'b', '\f': 'f', '\n': 'n', '\r': 'r', '\t': 't'}

// appendString quotes. What is not UTF-8 becomes U+FFFD.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		short, ok := shortEscapes[r]
		switch {
		case ok:
			b = append(b, '\\', short)
		case r >= ' ' && r < 0x7f:
			b = append(b, byte(r))
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			b = fmt.Appendf(b, `\u%04x\u%04x`, hi, lo)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
	}
	return append(b, '"')
}

// maxValue bounds what is kept of each thing that a peer says, in bytes.
const maxValue = 256

// clip is s within that bound, cut between characters.
func clip(s string) string { return clipTo(s, maxValue) }

func clipTo(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}
