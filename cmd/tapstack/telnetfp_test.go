package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/lab"
)

func TestTelnetFingerprintCommandLine(t *testing.T) {
	for _, tc := range []struct {
		args   string
		stderr string
	}{
		{"", "0 arguments"},
		{"a b c", "3 arguments"},
		{"localhost 0", `port "0"`},
		{"localhost --scan-type slow", "quick or full"},
		{"localhost --encoding klingon", "no character set"},
		{"localhost --banner-max-bytes 0", "--banner-max-bytes 0"},
		{"localhost --banner-max-wait -1", "--banner-max-wait -1"},
		{"localhost --mssp-wait NaN", "--mssp-wait NaN"},
		{"localhost --send-env =x", "want NAME=VALUE"},
		{"localhost --always-do klingon", "no option of this name"},
		{"localhost --ssl-cafile x", "there is no --ssl"},
		{"localhost --ssl --ssl-cafile /nonexistent", "--ssl-cafile: open"},
		{"localhost --set-name x", "needs --data-dir"},
		{"localhost --loglevel loud", "want one of trace"},
		{"localhost --logfmt xml", "text or json"},
	} {
		c := tapstack(t, nil, append([]string{"telnet-fingerprint", "--net", "host"}, strings.Fields(tc.args)...)...)
		var stderr bytes.Buffer
		c.Stderr = &stderr
		if status := outcome(t, c.Run()); status != 2 || !strings.Contains(stderr.String(), tc.stderr) || strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("%q: status %d: %s", tc.args, status, &stderr)
		}
	}
	for env, want := range map[string]string{"TAPSTACK_FINGERPRINT_MAX_FILES=x": "above 0", "TELNETLIB3_FINGERPRINT_POST_SCRIPT=telnetlib3.nowhere": "the post script"} {
		c := tapstack(t, []string{env}, "telnetd", "--net", "host", "--shell", "fingerprint")
		var stderr bytes.Buffer
		c.Stderr = &stderr
		if status := outcome(t, c.Run()); status != 2 || !strings.Contains(stderr.String(), want) {
			t.Errorf("%s: status %d: %s", env, status, &stderr)
		}
	}
}

// fingerprintd runs telnetd's shell for clients, and returns the directory.
func fingerprintd(t *testing.T, l *lab.Lab, port, post string, args ...string) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "data")
	env := []string{"TELNETLIB3_DATA_DIR=" + dir}
	if post != "" {
		script := filepath.Join(t.TempDir(), "post")
		if err := os.WriteFile(script, []byte("#!/bin/sh\n"+post), 0o755); err != nil {
			t.Fatal(err)
		}
		env = append(env, "TELNETLIB3_FINGERPRINT_POST_SCRIPT="+script)
	}
	head := []string{"telnetd", "--net", "host", "--logfmt", "json", "127.0.0.1", port, "--connect-maxwait", "0.3", "--shell"}
	if len(args) == 0 {
		args = []string{"fingerprint"}
	}
	up(t, l.Start, tapstack(t, env, append(head, args...)...))
	return dir
}

// kept is the only file of a directory, and what a fingerprint is made of.
func kept(t *testing.T, dir, kind string) (file string, data map[string]any) {
	t.Helper()
	pattern := map[string]string{"client": "client/*/*/*", "server": "server/*/*"}[kind]
	files, _ := filepath.Glob(filepath.Join(dir, pattern))
	if len(files) != 1 || !strings.HasSuffix(files[0], ".json") {
		t.Fatalf("files %v", files)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	return files[0], fingerprintData(t, b)
}

func fingerprintData(t *testing.T, b []byte) map[string]any {
	t.Helper()
	var doc map[string]json.RawMessage
	var probe struct {
		Data map[string]any `json:"fingerprint-data"`
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	for key, raw := range doc {
		if strings.HasSuffix(key, "-probe") {
			if err := json.Unmarshal(raw, &probe); err != nil {
				t.Fatal(err)
			}
		}
	}
	return probe.Data
}

func strs(v any) (list []string) {
	all, _ := v.([]any)
	for _, x := range all {
		list = append(list, x.(string))
	}
	return list
}

// TestTelnetdFingerprint: other people's clients are told apart, each twice by
// the same fingerprint, and see it.
func TestTelnetdFingerprint(t *testing.T) {
	lab.InNamespace(t, func(l *lab.Lab) {
		seen := map[string]string{}
		for n, tc := range []struct {
			program   string
			args      []string
			supported []string
			not       string
			looped    []string // they answer DO of what is on
		}{
			{"inetutils-telnet", nil, []string{"BINARY", "LFLOW", "LINEMODE", "NAWS", "NEW_ENVIRON", "SGA", "TSPEED", "TTYPE"}, "CHARSET", []string{"SGA"}},
			{"busybox", []string{"telnet"}, []string{"NAWS", "TTYPE"}, "BINARY", []string{"NAWS", "TTYPE"}},
		} {
			t.Run(tc.program, func(t *testing.T) {
				port := fmt.Sprint(6020 + n)
				dir := fingerprintd(t, l, port, "", "telnetlib3.fingerprinting_server_shell", "--data-dir", filepath.Join(t.TempDir(), "other"))
				for range 2 {
					p := piped(t, l, tc.program, append(tc.args, "127.0.0.1", port)...)
					shown := p.want("\"ttype-count\"")
					if !strings.Contains(shown, "\"probed-protocol\": \"client\"") {
						t.Errorf("%q", shown)
					}
					io.Copy(io.Discard, p.out)
				}
				if _, err := os.Stat(dir); err == nil {
					t.Error("--data-dir does not come before the environment")
				}
				other, _ := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(dir)), "*", "other"))
				if len(other) != 1 {
					t.Fatal(other)
				}
				file, data := kept(t, other[0], "client")
				supported := strs(data["supported-options"])
				for _, name := range tc.supported {
					if !slices.Contains(supported, name) {
						t.Errorf("%s is not supported: %v", name, supported)
					}
				}
				if slices.Contains(supported, tc.not) || !slices.Equal(strs(data["looped-negotiation"]), tc.looped) {
					t.Error(data)
				}
				hash := filepath.Base(filepath.Dir(filepath.Dir(file)))
				if was := seen[hash]; was != "" {
					t.Errorf("%s has the fingerprint of %s", tc.program, was)
				}
				seen[hash] = tc.program
				b, _ := os.ReadFile(file)
				if n := strings.Count(string(b), `"connected"`); n != 2 {
					t.Errorf("%d sessions", n)
				}
			})
		}
		// Our own program, with a post script: it has the file, and the terminal.
		dir := fingerprintd(t, l, "6030", `test -f "$1" && stty size && echo "post $1" && read x && echo "got $x"`)
		p := piped(t, l, "env", envMain+"=1", "script", "-qec", os.Args[0]+" telnet --net host --escape off 127.0.0.1 6030", "/dev/null")
		file := strings.TrimSpace(p.want(".json"))
		_, file, _ = strings.Cut(file, "post ")
		p.send("x\n")
		p.want("got x")
		if have, _ := kept(t, dir, "client"); have != file+".json" {
			t.Errorf("%q and not %q", file, have)
		}
	})
}

// TestTelnetFingerprint: servers are told apart, ours has no bad manners, and
// what was asked for is written.
func TestTelnetFingerprint(t *testing.T) {
	t.Parallel()
	lab.InNamespace(t, func(l *lab.Lab) {
		run := func(args ...string) (status int, out, errs string) {
			t.Helper()
			return checked(t, l, tapstack(t, nil, append([]string{"telnet-fingerprint", "--net", "host", "--banner-quiet-time", "0.15",
				"--banner-max-wait", "3", "--mssp-wait", "0.1"}, args...)...))
		}
		telnetd(t, l, "6040", "--never-send-ga")
		dir, out := t.TempDir(), filepath.Join(t.TempDir(), "out.json")
		status, text, errs := run("127.0.0.1", "6040", "--data-dir", dir, "--set-name", "tapstack", "--scan-type", "full", "--ttype", "vt52", "--loglevel", "trace")
		if status != 0 || !strings.Contains(errs, "DO TTYPE") || !strings.Contains(text, "Ready.\\r\\ntel:sh> ") {
			t.Errorf("status %d: %s %s", status, text, errs)
		}
		file, data := kept(t, dir, "server")
		if b, _ := os.ReadFile(file); string(b)+"\n" != text {
			t.Errorf("printed %s\nkept %s", text, b)
		}
		for _, key := range []string{"wrong-direction-offered", "looped-negotiation"} {
			if list, ok := data[key].([]any); !ok || len(list) != 0 {
				t.Errorf("%s: %v", key, data[key])
			}
		}
		if data["scan-type"] != "full" || !slices.Contains(strs(data["requested-options"]), "NEW_ENVIRON") || !slices.Contains(strs(data["offered-options"]), "STATUS") {
			t.Error(data)
		}
		if b, err := os.ReadFile(filepath.Join(dir, "fingerprint_names.json")); err != nil || !strings.Contains(string(b), `"`+filepath.Base(filepath.Dir(file))+`": "tapstack"`) {
			t.Errorf("%s %v", b, err)
		}
		if status, text, errs := run("127.0.0.1", "6040", "--silent", "--save-json", out); status != 0 || text != "" || errs != "" {
			t.Errorf("status %d: %q %q", status, text, errs)
		}
		b, _ := os.ReadFile(out)
		if data := fingerprintData(t, b); data["scan-type"] != "quick" {
			t.Error(data)
		}
		if status, _, errs := run("127.0.0.1", "6041"); status != 1 || !strings.Contains(errs, "refused") {
			t.Errorf("status %d: %s", status, errs)
		}

		if err := exec.Command("busybox", "telnetd", "--help").Run(); err != nil {
			lab.Lacks(t, fmt.Errorf("busybox has no telnetd: %w", err))
		}
		server := exec.Command("busybox", "telnetd", "-F", "-b", "10.77.0.1", "-p", "6042", "-l", "/bin/cat")
		if err := l.Start(server); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { server.Process.Kill(); server.Wait() })
		for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
			if c, err := l.DialKernel(t.Context(), "tcp", "10.77.0.1:6042"); err == nil {
				c.Close()
				break
			} else if time.Now().After(end) {
				t.Fatal(err)
			}
		}
		// Over a stack of our own.
		_, text, errs = checked(t, l, tapstack(t, attached(l, lab.EnvIP+"=10.77.0.7/24"), "telnet-fingerprint",
			"--banner-quiet-time", "0.15", "--mssp-wait", "0.1", "10.77.0.1", "6042"))
		if data := fingerprintData(t, []byte(text)); !slices.Equal(strs(data["wrong-direction-offered"]), []string{"ECHO"}) ||
			!slices.Contains(strs(data["requested-options"]), "NAWS") {
			t.Errorf("busybox: %v %s", data, errs)
		}
	})
}
