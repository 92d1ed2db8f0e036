package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tapstack/tapstack/internal/lab"
)

// TestTelnetFlags: the flags of telnetlib3's three programs are ours by the same
// names, but for those that docs/telnet.md says are not, and all of them are in
// its tables. So are the flags that are ours alone.
func TestTelnetFlags(t *testing.T) {
	b, err := os.ReadFile("../../docs/telnet.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)
	for _, tc := range []struct {
		command    *cobra.Command
		section    string
		seed, none string
		ours       string
	}{
		{telnetdCommand(), "## The server: ", `shell encoding force-binary timeout connect-maxwait pty-exec pty-fork-limit pty-raw line-mode robot-check
			status-interval never-send-ga loglevel logfile logfmt compression no-compression ssl-certfile ssl-keyfile tls-auto data-dir`, "",
			"max-connections"},
		{telnetCommand(), "## The client program", `term encoding encoding-errors force-binary speed send-environ connect-minwait connect-maxwait shell
			loglevel logfile logfmt connect-timeout raw-mode line-mode always-will always-do always-wont always-dont ansi-keys ascii-eol
			compression no-compression gmcp-modules ssl ssl-cafile ssl-no-verify typescript typescript-mode logfile-mode`, "shell ansi-keys ascii-eol",
			"escape"},
		{telnetFingerprintCommand(), "## Fingerprints", `data-dir save-json connect-timeout loglevel logfmt logfile silent set-name encoding ttype scan-type
			send-env always-will always-do mssp-wait banner-quiet-time banner-max-wait banner-max-bytes ssl ssl-cafile ssl-no-verify`, "", ""},
	} {
		_, section, ok := strings.Cut(doc, "\n"+tc.section)
		if !ok {
			t.Fatal(tc.section)
		}
		section, _, _ = strings.Cut(section, "\n## ")
		known := map[string]bool{}
		for _, name := range strings.Fields(tc.seed + " " + tc.ours) {
			known[name] = true
			none := strings.Contains(" "+tc.none+" ", " "+name+" ")
			if has := tc.command.Flags().Lookup(name) != nil; has == none {
				t.Errorf("%s --%s: there %v, said to be %v", tc.command.Name(), name, has, !none)
			}
			if !regexp.MustCompile(`--` + name + "[^-a-z]").MatchString(section) {
				t.Errorf("%s --%s is not in the document", tc.command.Name(), name)
			}
		}
		// Those of all commands for a stack are in no table here.
		stack := map[string]bool{}
		pingCommand().Flags().VisitAll(func(f *pflag.Flag) { stack[f.Name] = true })
		tc.command.Flags().VisitAll(func(f *pflag.Flag) {
			if !known[f.Name] && !stack[f.Name] && f.Name != "help" {
				t.Errorf("%s --%s is in neither list", tc.command.Name(), f.Name)
			}
		})
	}
}

// TestTelnetFlagEffects: what a server hears, and what is shown and written, for
// the client's flags, one at a time.
func TestTelnetFlagEffects(t *testing.T) {
	t.Parallel()
	gmcp := "\xff\xfd\xc9\xff\xfa\xc9Core.Hello {\"client\":\"tapstack\",\"version\":\"1\"}\xff\xf0" +
		"\xff\xfa\xc9Core.Supports.Set [\"Char 1\",\"Room 1\"]\xff\xf0"
	lab.InNamespace(t, func(l *lab.Lab) {
		for _, tc := range []struct {
			args, say, in string
			told, out     string
			status        int
		}{
			{args: "--speed 1200,300", say: "\xff\xfd\x20\xff\xfa\x20\x01\xff\xf0", told: "\xff\xfb\x20\xff\xfa\x20\x001200,300\xff\xf0"},
			{args: "--speed 9600", say: "\xff\xfd\x20\xff\xfa\x20\x01\xff\xf0", told: "\xff\xfb\x20\xff\xfa\x20\x009600,9600\xff\xf0"},
			{args: "--term vt52,dumb", say: "\xff\xfd\x18\xff\xfa\x18\x01\xff\xf0\xff\xfa\x18\x01\xff\xf0",
				told: "\xff\xfb\x18\xff\xfa\x18\x00vt52\xff\xf0\xff\xfa\x18\x00dumb\xff\xf0"},
			{args: "--send-environ FLAG", say: "\xff\xfd\x27\xff\xfa\x27\x01\x00FLAG\x00HOME\xff\xf0", told: "\xff\xfb\x27\xff\xfa\x27\x00\x00FLAG\x01set\x00HOME\xff\xf0"},
			{args: "--always-will 222", told: "\xff\xfb\xde"},
			{args: "--always-do gmcp", told: "\xff\xfd\xc9"},
			{args: "--always-wont ttype,naws", say: "\xff\xfd\x18\xff\xfd\x1f", told: "\xff\xfc\x18\xff\xfc\x1f"},
			{args: "--always-dont 1", say: "\xff\xfb\x01", told: "\xff\xfe\x01"},
			{args: `--gmcp-modules Char_1,Room_1`, say: "\xff\xfb\xc9", told: gmcp},
			{args: "--raw-mode", say: "x", in: "a\n", told: "a\n", out: "x"},
			{args: "--line-mode", say: "x", in: "a\n", told: "a\r\n", out: "x"},
			{args: "--encoding utf8 --force-binary=false", say: "x", in: "\u00e4\n", told: "?\r\n", out: "x"},
			{args: "--encoding utf8", say: "x", in: "\u00e4\n", told: "\u00e4\r\n", out: "x"},
			{args: "--encoding cp437", say: "\x81", in: "\u00fc\n", told: "\x81\r\n", out: "\u00fc"},
			{args: "--encoding utf8 --encoding-errors ignore", say: "a\xc3(b", in: "\n", told: "\r\n", out: "a(b"},
			{args: "--encoding utf8 --encoding-errors replace", say: "a\xc3(b", in: "\n", told: "\r\n", out: "a\ufffd(b"},
			{args: "--encoding utf8 --encoding-errors strict", say: "a\xc3(b", status: 1},
		} {
			port, told := serveOnce(t, l, tc.say, len(tc.told))
			args := append([]string{"telnet", "--net", "host", "127.0.0.1", port}, strings.Fields(tc.args)...)
			for i := range args {
				args[i] = strings.ReplaceAll(args[i], "_1", " 1")
			}
			c := tapstack(t, []string{"FLAG=set"}, args...)
			c.Stdin = strings.NewReader(tc.in)
			status, out, errs := checked(t, l, c)
			if got := <-told; status != tc.status || got != tc.told || out != tc.out {
				t.Errorf("%s: status %d, told %q, shown %q\n%s", tc.args, status, got, out, errs)
			}
		}

		// Nothing is sent too early.
		port, told := serveOnce(t, l, "x", 3)
		c := tapstack(t, nil, "telnet", "--net", "host", "--connect-minwait", "0.3", "127.0.0.1", port)
		c.Stdin = strings.NewReader("a\n")
		start := time.Now()
		if checked(t, l, c); <-told != "a\r\n" || time.Since(start) < 300*time.Millisecond {
			t.Errorf("--connect-minwait: after %v", time.Since(start))
		}
		// Nobody has this address, of which the kernel is not to learn too soon.
		if out, err := l.Output(t.Context(), "ip", "neighbour", "add", "10.77.0.200", "lladdr", "02:00:00:00:00:c8", "dev", lab.Bridge, "nud", "permanent"); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		status, _, errs := checked(t, l, tapstack(t, nil, "telnet", "--net", "host", "--connect-timeout", "0.1", "10.77.0.200"))
		if status != 1 || !strings.Contains(errs, "no connection within 100ms") {
			t.Errorf("--connect-timeout: status %d: %s", status, errs)
		}
		status, _, errs = checked(t, l, tapstack(t, nil, "telnet-fingerprint", "--net", "host", "--connect-timeout", "0.1", "10.77.0.201"))
		if status != 1 || !strings.Contains(errs, "no connection within 100ms") {
			t.Errorf("--connect-timeout: status %d: %s", status, errs)
		}
		// Files.
		dir := t.TempDir()
		script, log := filepath.Join(dir, "script"), filepath.Join(dir, "log")
		for n, mode := range []string{"append", "append", "rewrite"} {
			port, _ := serveOnce(t, l, "\x1b[1mtext", 0)
			status, out, errs := checked(t, l, tapstack(t, nil, "telnet", "--net", "host", "--typescript", script, "--typescript-mode", mode,
				"--logfile", log, "--logfile-mode", mode, "--loglevel", "info", "--logfmt", "json", "127.0.0.1", port))
			want := []int{1, 2, 1}[n]
			s, _ := os.ReadFile(script)
			g, _ := os.ReadFile(log)
			if status != 0 || out != "\x1b[1mtext" || string(s) != strings.Repeat(out, want) || strings.Count(string(g), `"msg":"connected"`) != want {
				t.Errorf("%s: status %d, shown %q, script %q, log %q\n%s", mode, status, out, s, g, errs)
			}
		}
	})
}

// TestTelnetdFlagEffects: flags of the server that TestTelnetd does not have.
func TestTelnetdFlagEffects(t *testing.T) {
	lab.InNamespace(t, func(l *lab.Lab) {
		visit := func(port string, args ...string) *wire {
			telnetd(t, l, port, args...)
			w := dialTelnetd(t, l, port)
			w.want(doTType)
			w.send(wontTType)
			return w
		}
		stty := func(port string, args ...string) string {
			b, err := io.ReadAll(visit(port, append(args, "--never-send-ga", "--pty-exec", "stty", "--", "-a")...))
			if err != nil {
				t.Fatal(err)
			}
			return string(b)
		}
		if s := stty("6050"); !strings.Contains(s, " icanon") {
			t.Errorf("%q", s)
		}
		if s := stty("6051", "--pty-raw"); !strings.Contains(s, "-icanon") || !strings.Contains(s, "-echo ") {
			t.Errorf("--pty-raw: %q", s)
		}
		// Bytes as they are.
		w := visit("6052", "--encoding", "false", "--never-send-ga")
		w.want("Ready.\r\ntel:sh> ")
		w.send("reader\r")
		w.want("\r\n<TelnetReaderUnicode encoding='ISO-8859-1' limit=65536 buflen=0 eof=False>")
		// Prompts are followed by GA, unless that was forbidden, as above.
		visit("6053").want("Ready.\r\ntel:sh> \xff\xf9")
		visit("6054", "--shell", "telnetlib3.telnet_server_shell").want("Ready.\r\n")
		visit("6055", "--shell", "busy").want("Machine is busy, do not touch! ")
		// Compression is only offered if that was said.
		for n, flag := range []string{"--compression", "--no-compression"} {
			w := visit([]string{"6056", "6057"}[n], flag, "--never-send-ga")
			w.want("Ready.\r\ntel:sh> ")
			w.send("\xff\xfd\x56")
			w.want([]string{"\xff\xfb\x56\xff\xfa\x56\xff\xf0", "\xff\xfc\x56"}[n])
		}
	})
}
