package fingerprint

import (
	"bytes"
	"regexp"
	"time"

	"github.com/tapstack/tapstack/telnet"
)

// This file owns what a server says in words, and what is answered to get it to
// say more: terminals' answers to its questions about the terminal, a yes where
// it wants one, else a Return.

// maxAnswers bounds the answers to questions about the terminal: a server that
// asks without end is heard to the end of its time only.
const maxAnswers = 16

// visit is a session with a server.
type visit struct {
	s        *Scan
	c        *telnet.Conn
	answered int
	over     bool // it has hung up
}

// banner reads until the server is quiet, has said enough, or is gone.
func (v *visit) banner() (text []byte) {
	quiet, most, limit := v.s.orWait(v.s.Quiet, 2*time.Second), v.s.orWait(v.s.Most, defaultMost), v.s.MaxBanner
	if limit <= 0 {
		limit = 64 << 10
	}
	end := time.Now().Add(most)
	defer v.c.SetReadDeadline(time.Time{})
	looked := 0
	for b := make([]byte, 4096); len(text) < limit; {
		until := time.Now().Add(quiet)
		if until.After(end) {
			until = end
		}
		v.c.SetReadDeadline(until)
		n, err := v.c.Read(b[:min(len(b), limit-len(text))])
		text = append(text, b[:n]...)
		looked = v.answer(text, looked)
		if err != nil {
			v.over = v.over || !telnet.IsTimeout(err)
			return text
		}
		if !time.Now().Before(end) {
			return text
		}
	}
	return text
}

// questions are those that a terminal answers by itself: where the cursor is and
// whether all is well (DSR), what it is (DA), and ENQ.
var questions = regexp.MustCompile("\x1b\\[([56])n|\x1b\\[0?c|\x05")

// answer answers what is asked from looked on, and returns how far it has seen.
func (v *visit) answer(text []byte, looked int) int {
	for v.answered < maxAnswers {
		at := questions.FindSubmatchIndex(text[looked:])
		if at == nil {
			return max(looked, bytes.LastIndexByte(text, 0x1b)) // one may be half here
		}
		answer := "\x1b[?1;2c"
		switch q := text[looked+at[0] : looked+at[1]]; {
		case q[0] == 5:
			answer = v.s.Term
		case at[2] >= 0 && text[looked+at[2]] == '5':
			answer = "\x1b[0n"
		case at[2] >= 0:
			answer = "\x1b[1;1R"
		}
		looked += at[1]
		v.answered++
		v.c.Write([]byte(answer)) // who does not take it shows in the next read
	}
	return len(text)
}

var (
	yesNo  = regexp.MustCompile(`(?i)(?:^|[^a-z0-9])(yes/no|y/n)(?:[^a-z0-9]|$)`)
	escape = regexp.MustCompile(`(?i)\besc(?:ape)?\b[^\n]{0,20}\b(?:twice|two times|2 times)\b|(?:\[esc\]|<esc>)\s*(?:\[esc\]|<esc>)`)
	menu   = regexp.MustCompile(`(?im)(?:^|[\s\[(])(\d{1,2})\s*[\])}.:=-]+\s*[^\r\n\d]{0,20}?\b(utf-?8|ansi|english)\b`)
)

// answerTo is what is said to a banner.
func answerTo(banner []byte) string {
	if m := yesNo.FindSubmatch(banner); m != nil {
		if len(m[1]) > len("y/n") {
			return "yes\r\n"
		}
		return "y\r\n"
	}
	if escape.Match(banner) {
		return "\x1b\x1b"
	}
	choice, best := "", 3
	for _, m := range menu.FindAllSubmatch(banner, maxHeard) {
		rank := map[byte]int{'u': 0, 'a': 1, 'e': 2}[m[2][0]|0x20]
		if rank < best {
			choice, best = string(m[1]), rank
		}
	}
	return choice + "\r\n"
}
