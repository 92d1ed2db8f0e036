package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tapstack/tapstack/internal/lab"
)

// TestPTYExec: bash behind telnetd, as a person uses it through the client of
// inetutils: it knows the window's size and follows it, ^C interrupts, UTF-8
// survives, editing too, and its end is the session's.
func TestPTYExec(t *testing.T) {
	t.Parallel()
	bash := lab.RequireProgram(t, "bash")
	lab.InNamespace(t, func(l *lab.Lab) {
		everywhere(t, l, func(t *testing.T, s served) {
			p := newPane(t, l, 90, 25, nil, "inetutils-telnet", s.host, s.port)
			p.wantLast("$")
			p.line("stty size; echo on $TERM")
			p.want("25 90\non screen\n")
			p.resize(70, 20)
			p.await("the new size", func(screen string) bool { p.line("stty size"); return strings.Contains(screen, "20 70\n") })
			p.line("clear")
			p.wantLast("$")

			p.line("sh -c 'echo run\"\"ning; exec sleep 1000'; echo never")
			p.want("\nrunning\n")
			p.key("C-c")
			p.want("^C\n$")
			p.line("echo sum $((40+2))")
			screen := p.want("sum 42")
			if strings.Count(screen, "never") != 1 {
				t.Errorf("it was not interrupted:\n%s", screen)
			}

			p.text("echo 'gr\u00fc\u00dfe \u4e2d\u6587 \u20acx'")
			p.key("Left")   // before the quote
			p.key("BSpace") // the x
			p.key("Enter")
			p.want("\ngr\u00fc\u00dfe \u4e2d\u6587 \u20ac\n")
			p.line("exit 3")
			if end := p.wantEnd(); !strings.Contains(end, "Connection closed by foreign host") {
				t.Error(end)
			}
		}, "--pty-exec", "/usr/bin/env", "--", "-u", "PROMPT_COMMAND", "PS1=$ ", bash, "--norc", "--noprofile")
	})
}

// TestScreenIsTheSame: a program that paints the whole screen shows the same
// through telnet, its colours too, as on the terminal itself: at its start,
// after keys, and after a change of the window's size.
func TestScreenIsTheSame(t *testing.T) {
	t.Parallel()
	lab.RequireProgram(t, "vim")
	dir := t.TempDir()
	file := filepath.Join(dir, "text.c")
	var text strings.Builder
	for range 20 {
		text.WriteString("int main(void) { return puts(\"gr\u00fc\u00dfe \u4e2d\u6587\"); } /* a comment */\n#include <stdio.h>\n\tfor (;;) { }\n")
	}
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	vim := []string{"-u", "NONE", "-n", "-i", "NONE", "-c", "set nocompatible ruler showmode t_RV= t_u7= | syntax on | set number", file}
	lab.InNamespace(t, func(l *lab.Lab) {
		everywhere(t, l, func(t *testing.T, s served) {
			ours := []string{"telnet", "--net", "host", s.host, s.port}
			clients := map[string]*pane{
				"inetutils": newPane(t, l, 80, 24, nil, "inetutils-telnet", s.host, s.port),
				"ours":      newPane(t, l, 80, 24, []string{envMain + "=1"}, os.Args[0], ours...),
			}
			direct := newPane(t, l, 80, 24, nil, "vim", vim...)
			same := func(what string, ready func(screen string) bool) {
				t.Helper()
				direct.await(what, ready)
				for name, p := range clients {
					p.await(name+": "+what, func(string) bool {
						return p.do("capture-pane", "-p", "-e") == direct.do("capture-pane", "-p", "-e")
					})
				}
			}
			all := append([]*pane{direct}, clients["inetutils"], clients["ours"])
			keys := func(names ...string) {
				for _, p := range all {
					p.key(names...)
				}
			}
			shows := func(s string) func(string) bool {
				return func(screen string) bool { return strings.Contains(screen, s) }
			}
			same("start", shows("1,1"))
			keys("G", "o")
			same("insertion", shows("-- INSERT --"))
			for _, p := range all {
				p.text("end \u00e4\u4e2d")
			}
			same("text", shows("61 end \u00e4\u4e2d"))
			keys("Escape", "d", "d", "g", "g")
			same("top", shows("1,1"))
			for _, p := range all {
				p.resize(60, 18)
			}
			same("new size", shows("@"))
			keys(":", "q", "!", "Enter")
			for _, p := range all {
				p.wantEnd()
			}
		}, append([]string{"--pty-exec", "vim", "--"}, vim...)...)
	})
}

// TestNethack: a game with menus and colours beside what was there, through
// other people's client and ours, is on screen as it is on the terminal itself,
// up to where chance begins. One after the other: two under one name would meet
// each other's lock.
func TestNethack(t *testing.T) {
	game := []string{lab.RequireProgram(t, "/usr/games/nethack"), "-u", "telnet"}
	steps := []struct{ key, shows string }{
		{"", "[ynaq]"},
		{"n", "Pick a role"},
		{"w", "Pick a race"},
		{"?", "Pick a role"}, // the menus above each other differ in size
	}
	lab.InNamespace(t, func(l *lab.Lab) {
		play := func(t *testing.T, p *pane, want []string) (screens []string) {
			t.Helper()
			for n, step := range steps {
				if step.key != "" {
					p.key(step.key)
				}
				if p.want(step.shows); want != nil {
					p.await(step.shows+" as on the terminal", func(string) bool { return p.do("capture-pane", "-p", "-e") == want[n] })
				}
				screens = append(screens, p.do("capture-pane", "-p", "-e"))
			}
			p.key("q")
			p.wantEnd()
			return screens
		}
		direct := play(t, newPane(t, l, 80, 24, nil, game[0], game[1:]...), nil)
		everywhere(t, l, func(t *testing.T, s served) {
			play(t, newPane(t, l, 80, 24, nil, "inetutils-telnet", s.host, s.port), direct)
			play(t, newPane(t, l, 80, 24, []string{envMain + "=1"}, os.Args[0], "telnet", "--net", "host", s.host, s.port), direct)
		}, append([]string{"--pty-exec", game[0], "--"}, game[1:]...)...)
	})
}
