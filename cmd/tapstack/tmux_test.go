package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/lab"
)

// pane is a terminal that a program sees as a person's: tmux keeps its screen,
// is told keys, and changes its size.
type pane struct {
	t    *testing.T
	l    *lab.Lab
	tmux string
	args []string
	env  []string
}

// newPane starts a program in the lab on a terminal of its own. When it has
// ended its last screen stays.
func newPane(t *testing.T, l *lab.Lab, cols, rows int, env []string, name string, args ...string) *pane {
	t.Helper()
	p := &pane{t: t, l: l, tmux: lab.RequireProgram(t, "tmux")}
	path := lab.RequireProgram(t, name)
	dir := t.TempDir()
	conf := filepath.Join(dir, "conf")
	if err := os.WriteFile(conf, []byte("set -g status off\nset -s escape-time 0\n"+
		"set -g default-terminal screen\nset -g exit-empty off\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.args = []string{"-u", "-f", conf, "-S", filepath.Join(dir, "s")}
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "TAPSTACK_") && !strings.HasPrefix(kv, "TMUX") && !strings.HasPrefix(kv, "LC_") {
			p.env = append(p.env, kv)
		}
	}
	p.env = append(append(p.env, "HOME="+dir, "TMPDIR="+dir, "LANG=C.UTF-8", "TERM=dumb"), env...)
	t.Cleanup(func() { p.try("kill-server") }) // this one's: it has a socket of its own
	p.do(append([]string{"new-session", "-d", "-x", fmt.Sprint(cols), "-y", fmt.Sprint(rows), "sh", "-c", ending, path}, args...)...)
	return p
}

func (p *pane) try(args ...string) (out []byte, err error) {
	c := exec.Command(p.tmux, append(p.args[:len(p.args):len(p.args)], args...)...)
	c.Env = p.env
	p.l.Do(func() { out, err = c.CombinedOutput() })
	return out, err
}

func (p *pane) do(args ...string) string {
	p.t.Helper()
	out, err := p.try(args...)
	if err != nil {
		p.t.Fatalf("tmux %q: %v: %s", args, err, out)
	}
	return string(out)
}

// screen is what the terminal shows, without blanks at the ends of lines.
func (p *pane) screen() string { p.t.Helper(); return p.do("capture-pane", "-p") }

// await waits until the screen is as ok wants it, and returns it.
func (p *pane) await(what string, ok func(screen string) bool) string {
	p.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		s := p.screen()
		if ok(s) {
			return s
		}
		if time.Now().After(end) {
			p.t.Fatalf("no %s on the screen:\n%s", what, s)
		}
	}
}

// want waits for a text on the screen.
func (p *pane) want(s string) string {
	p.t.Helper()
	return p.await(fmt.Sprintf("%q", s), func(screen string) bool { return strings.Contains(screen, s) })
}

// wantLast waits until the last line of the screen that is not empty is s.
func (p *pane) wantLast(s string) string {
	p.t.Helper()
	return p.await(fmt.Sprintf("last line %q", s), func(screen string) bool {
		lines := strings.Split(strings.TrimRight(screen, "\n "), "\n")
		return strings.TrimRight(lines[len(lines)-1], " ") == strings.TrimRight(s, " ")
	})
}

// text types a text; key names a key as tmux does, as Enter or C-c.
func (p *pane) text(s string) { p.t.Helper(); p.do("send-keys", "-l", s) }

func (p *pane) key(names ...string) { p.t.Helper(); p.do(append([]string{"send-keys"}, names...)...) }

func (p *pane) line(s string) { p.t.Helper(); p.text(s); p.key("Enter") }

func (p *pane) resize(cols, rows int) {
	p.t.Helper()
	p.do("resize-window", "-x", fmt.Sprint(cols), "-y", fmt.Sprint(rows))
}

// ending is the shell's script that runs a program, says on the terminal that it
// has ended, and keeps the terminal: of one that nobody has open any more tmux
// does not read what the kernel has not handed over yet.
const ending = `trap : INT QUIT; "$0" "$@"; printf '\033]2;ended\007'; exec sleep infinity`

// wantEnd waits until the program has ended, and all it has said is on the screen.
func (p *pane) wantEnd() string {
	p.t.Helper()
	for end := time.Now().Add(patience); strings.TrimSpace(p.do("display-message", "-p", "#{pane_title}")) != "ended"; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("it does not end:\n%s", p.screen())
		}
	}
	return p.screen()
}
