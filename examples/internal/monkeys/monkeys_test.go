package monkeys

import (
	"strings"
	"testing"
)

func TestAnswer(t *testing.T) {
	for message, want := range map[string]string{
		"hello\n":          "hello\n",
		"":                 "",
		"a MALPKA, please": monkey,
		"malpa\r\n":        ape,
		"malpka malpa":     monkey,
	} {
		if got := string(Answer([]byte(message))); got != want {
			t.Errorf("%q: %q", message, got)
		}
	}
	both := string(Answer([]byte("malpi")))
	for _, one := range []string{monkey, ape} {
		for line := range strings.Lines(one) {
			if line = strings.TrimSpace(line); !strings.Contains(both, line) {
				t.Errorf("malpi lacks %q:%s", line, both)
			}
		}
	}
}
