package main

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/tapstack/tapstack/internal/lab"
)

const envMain = "TAPSTACK_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(envMain) == "1" {
		main()
	}
	lab.Main(m)
}

// program returns the program with env and no other variables of its own.
func program(env ...string) *exec.Cmd {
	c := exec.Command(os.Args[0])
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "TAPSTACK_") {
			c.Env = append(c.Env, kv)
		}
	}
	c.Env = append(append(c.Env, env...), envMain+"=1", "GORACE=atexit_sleep_ms=0")
	return c
}

// TestProgram talks to it as mtr does, against the kernel.
func TestProgram(t *testing.T) {
	lab.InNamespace(t, func(l *lab.Lab) {
		device := lab.EnvTap + "=" + l.Devices[0]
		if l.Packet {
			device = lab.EnvDev + "=" + l.Device()
		}
		c := program(device, lab.EnvIP+"=10.77.0.7/24", lab.EnvGW+"=10.77.0.1", "TAPSTACK_IN_FLIGHT=2")
		c.Args = append(c.Args, "--help") // it looks at no arguments
		in, err := c.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		c.Stderr = os.Stderr
		if err := l.Start(c); err != nil {
			t.Fatal(err)
		}
		defer c.Process.Kill()
		r := bufio.NewReader(out)
		const far = "send-probe ip-4 10.77.0.1 local-ip-4 "
		for _, x := range [][2]string{
			{"1 check-support feature send-probe", "1 feature-support support ok\n"},
			{"2 " + far + "10.77.0.7", "2 reply ip-4 10.77.0.1 round-trip-time "},
			{"3 " + far + "10.77.0.1 protocol tcp", "3 reply ip-4 10.77.0.1 round-trip-time "}, // the kernel's own
			{"4 " + far + "127.0.0.1 protocol udp port 9", "4 reply ip-4 10.77.0.1 round-trip-time "},
			{"5 " + far + "192.0.2.1", "5 address-not-available\n"},
			{"-6 " + far + "0.0.0.0 protocol sctp ttl 1", "-6 "},
		} {
			if _, err := in.Write([]byte(x[0] + "\n")); err != nil {
				t.Fatal(err)
			}
			if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, x[1]) {
				t.Errorf("%s: %q, %v", x[0], line, err)
			}
		}
		// Three at once are one too many, and the end waits for the two.
		if _, err := in.Write([]byte(strings.Repeat("7 send-probe ip-4 10.77.0.99 timeout 1\n", 3))); err != nil {
			t.Fatal(err)
		}
		in.Close()
		var got []string
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				break
			}
			got = append(got, line)
		}
		if len(got) != 3 || got[0] != "7 probes-exhausted\n" || got[1] != "7 no-reply\n" || got[2] != "7 no-reply\n" {
			t.Errorf("%q", got)
		}
		if err := c.Wait(); err != nil {
			t.Error(err)
		}
	})
}

func TestMistakes(t *testing.T) {
	for env, want := range map[string]string{
		"TAPSTACK_TAP=no-such-device":  "there is no interface no-such-device",
		"TAPSTACK_NET=host":            "need a stack",
		"TAPSTACK_IP=x":                "want address and prefix length",
		"TAPSTACK_DAD=perhaps":         "TAPSTACK_DAD",
		"TAPSTACK_IN_FLIGHT=0":         "want a number from 1 to 65536",
		"TAPSTACK_LOCAL_IP=everything": "want host or strict",
		"TAPSTACK_LOOPBACK=mine":       "want stack or host",
	} {
		c := program(env)
		var errs strings.Builder
		c.Stderr = &errs
		out, err := c.Output()
		if err == nil || len(out) > 0 || !strings.HasPrefix(errs.String(), "mtr-packet: ") || !strings.Contains(errs.String(), want) {
			t.Errorf("%s: %v, %q, %q", env, err, out, errs.String())
		}
	}
}

// TestStarts: the first probe of a program is answered, also when the one before
// it was killed a moment ago and the kernel is not done with its device.
func TestStarts(t *testing.T) {
	lab.InNamespace(t, func(l *lab.Lab) {
		if l.Packet {
			lab.Lacks(t, errors.New("no TAP"))
		}
		for i := range 20 {
			c := program(lab.EnvTap+"="+l.Devices[0], lab.EnvIP+"=10.77.0.7/24")
			in, err := c.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := c.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			c.Stderr = os.Stderr
			if err := l.Start(c); err != nil {
				t.Fatal(err)
			}
			if _, err := in.Write([]byte("1 send-probe ip-4 10.77.0.1 timeout 3\n")); err != nil {
				t.Fatal(err)
			}
			if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.HasPrefix(line, "1 reply ") {
				t.Errorf("start %d: %q, %v", i, line, err)
			}
			_ = c.Process.Kill()
			defer c.Wait() // the next one starts meanwhile
		}
	})
}
