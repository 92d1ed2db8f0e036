package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/tapstack/tapstack/internal/lab"
)

// TestUpTelnet: `up --services telnet` serves telsh to somebody else's client.
func TestUpTelnet(t *testing.T) {
	lab.InNamespace(t, func(l *lab.Lab) {
		r := up(t, l.Start, tapstack(t, attached(l, lab.EnvIP+"=10.77.0.7/24", "TAPSTACK_DAD=false"), "up", "--services", "telnet"))
		p := newPane(t, l, 80, 24, nil, "inetutils-telnet", "10.77.0.7")
		p.want("tel:sh>")
		p.line("help")
		p.want("quit")
		p.line("proto")
		p.want("<Peer 10.77.0.1 ")
		p.line("quit")
		if end := p.wantEnd(); !strings.Contains(end, "Goodbye.") {
			t.Error(end)
		}
		r.terminate(t)
	})
}

// clock is a date. RFC 867 leaves its form to the server.
var clock = regexp.MustCompile(`(?m)^(Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? .*\b20\d\d\b.*$`)

// TestServicesOnScreen: echo and daytime, ours on a stack and those of the inetd
// of inetutils on the kernel, look the same through telnet, and through ours as
// through Debian's.
func TestServicesOnScreen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	conf := filepath.Join(dir, "conf")
	if err := os.WriteFile(conf, []byte("daytime stream tcp nowait root internal\necho stream tcp nowait root internal\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	lab.InNamespace(t, func(l *lab.Lab) {
		inetd := exec.Command(lab.RequireProgram(t, "inetutils-inetd"), "-d", "-p"+filepath.Join(dir, "pid"), conf)
		if err := l.Start(inetd); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { inetd.Process.Kill(); inetd.Wait() })
		listening(t, l, "10.77.0.1:7")
		listening(t, l, "10.77.0.1:13")
		r := up(t, l.Start, tapstack(t, attached(l, lab.EnvIP+"=10.77.0.7/24", "TAPSTACK_DAD=false"), "up", "--services", "echo,daytime"))
		env := []string{envMain + "=1"}

		// What the programs themselves say of addresses is not the service's.
		service := func(screen string) string {
			var lines []string
			for _, line := range strings.Split(strings.TrimRight(screen, "\n "), "\n") {
				if !strings.HasPrefix(line, "Trying ") && !strings.HasPrefix(line, "Connected to ") && !strings.HasPrefix(line, "Escape character") &&
					!strings.HasPrefix(line, "Connection closed") {
					lines = append(lines, strings.TrimRight(line, " "))
				}
			}
			return strings.TrimSpace(strings.Join(lines, "\n"))
		}
		seen := make(map[string]string)
		for _, host := range []string{"10.77.0.1", "10.77.0.7"} {
			for name, args := range map[string][]string{"ours": {os.Args[0], "telnet", "--net", "host"}, "inetutils": {"inetutils-telnet"}} {
				p := newPane(t, l, 80, 24, env, args[0], append(args[1:len(args):len(args)], host, "13")...)
				end := p.wantEnd()
				if !clock.MatchString(service(end)) || !strings.Contains(end, "Connection closed by foreign host") {
					t.Errorf("daytime of %s by %s:\n%s", host, name, end)
				}
				seen["daytime of "+host+" by "+name] = clock.ReplaceAllString(service(end), "DATE")

				p = newPane(t, l, 80, 24, env, args[0], append(args[1:len(args):len(args)], host, "7")...)
				p.want("Escape character")
				for _, s := range []string{"hello", "gr\u00fc\u00dfe \u4e2d\u6587", "last"} {
					p.line(s)
					p.want(s + "\n" + s + "\n") // typed and sent back
				}
				seen["echo of "+host+" by "+name] = service(p.screen())
			}
		}
		for what, screen := range seen {
			want := "hello\nhello\ngr\u00fc\u00dfe \u4e2d\u6587\ngr\u00fc\u00dfe \u4e2d\u6587\nlast\nlast"
			if strings.HasPrefix(what, "daytime") {
				want = "DATE"
			}
			if screen != want {
				t.Errorf("%s:\n%s\nand not\n%s", what, screen, want)
			}
		}
		r.terminate(t)
	})
}
