package probe

import "testing"

// TestText: what a peer says cannot steer a terminal.
func TestText(t *testing.T) {
	if got := text([]byte("220 \u009b2J\x1b[1m\tx\u202e\r\nnext")); got != "220 \ufffd2J\ufffd[1m\tx\ufffd" {
		t.Errorf("%q", got)
	}
}
