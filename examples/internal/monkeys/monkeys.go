// Package monkeys draws what the echo services send back to those who know
// the words: malpka is a small monkey in Polish, malpa an ape, malpi what
// belongs to them.
package monkeys

import (
	"bytes"
	"strings"
)

const monkey = `
     __        __
    /  \.----./  \
    \__/ o  o \__/
       (  __  )
     ,--\ -- /--.      __
    /  / |  | \  \    /  \
    \_/  |  |  \_/    \_  |
         |  |___________| |
         |_||_|___________/
         ""  ""
`

const ape = `
         .----------.
        /  __    __  \
       |  ( o)  ( o)  |
       |      ()      |
        \  '------'  /
    .----'----------'----.
   /   /              \   \
  |   |    '      '    |   |
  |   |                |   |
   \   \     ____     /   /
    (___)___/    \___(___)
       (____)    (____)
`

// Answer returns the drawing that a message asks for, or the message itself.
func Answer(message []byte) []byte {
	word := bytes.ToLower(message)
	switch {
	case bytes.Contains(word, []byte("malpka")):
		return []byte(monkey)
	case bytes.Contains(word, []byte("malpa")):
		return []byte(ape)
	case bytes.Contains(word, []byte("malpi")):
		return []byte(beside(ape, monkey))
	}
	return message
}

// beside puts two drawings next to each other, standing on the same ground.
func beside(left, right string) string {
	l, r := strings.Split(strings.Trim(left, "\n"), "\n"), strings.Split(strings.Trim(right, "\n"), "\n")
	for len(l) < len(r) {
		l = append([]string{""}, l...)
	}
	for len(r) < len(l) {
		r = append([]string{""}, r...)
	}
	width := 0
	for _, s := range l {
		width = max(width, len(s))
	}
	var b strings.Builder
	for i := range l {
		line := l[i] + strings.Repeat(" ", width-len(l[i])+4) + r[i]
		b.WriteString("\n" + strings.TrimRight(line, " "))
	}
	return b.String() + "\n"
}
