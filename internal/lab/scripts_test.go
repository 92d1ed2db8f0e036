package lab

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// TestScripts runs scripts/bridge.sh and scripts/tap.sh in an otherwise empty
// network with a machine's uplink in it.
func TestScripts(t *testing.T) {
	Require(t)
	sh(t)
	RequireProgram(t, "ip")
	l := newLab(t)
	do := func(script string) (string, error) {
		var out []byte
		var err error
		l.Do(func() {
			cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
			cmd.Dir = "../../scripts"
			cmd.Env = append(cmd.Environ(), "BRIDGE=mybr", "TAP=mytap")
			out, err = cmd.CombinedOutput()
		})
		return string(out), err
	}
	must := func(script string) string {
		t.Helper()
		out, err := do(script)
		if err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
		return out
	}
	state := func() string {
		t.Helper()
		return must("ip -o addr show scope global; ip -o link show; ip route; ip -6 route show dev up0")
	}
	must(`ip link add up0 type veth peer name far; ip link set far up; ip link set up0 up
		ip addr add 192.0.2.5/24 dev up0; ip addr add 192.0.2.6/24 dev up0; ip -6 addr add 2001:db8::5/64 dev up0 nodad
		ip route add default via 192.0.2.1; ip route add 198.51.100.0/24 dev up0; ip -6 route add default via 2001:db8::1`)
	for range 2 {
		must("./bridge.sh up; ./tap.sh up")
		out := must("ip -o addr show dev mybr; ip -o link show master mybr")
		for _, want := range []string{"10.77.0.1/24", "fd77::1/64", "mytap: <", ",UP", "qlen 5000"} {
			if !strings.Contains(out, want) {
				t.Errorf("no %q after up:\n%s", want, out)
			}
		}
	}
	// What `make` calls does the same.
	if _, err := exec.LookPath("make"); err == nil {
		must("./tap.sh down; ./bridge.sh down; make -C .. bridge tap; make -C .. bridge tap")
		if out := must("ip -o link show master mybr"); !strings.Contains(out, "mytap: <") {
			t.Errorf("after make bridge tap:\n%s", out)
		}
	}
	for range 2 {
		must("./tap.sh down; ./bridge.sh down")
		if out := must("ip -o link show"); strings.Contains(out, "mybr") || strings.Contains(out, "mytap") {
			t.Errorf("after down:\n%s", out)
		}
	}

	for range 2 {
		must("UPLINK=up0 ./bridge.sh up")
		out := state()
		for _, want := range []string{"mybr    inet 192.0.2.5/24", "mybr    inet 192.0.2.6/24", "mybr    inet6 2001:db8::5/64", "default via 192.0.2.1 dev mybr", "198.51.100.0/24 dev mybr"} {
			if !strings.Contains(out, want) {
				t.Errorf("no %q with an uplink:\n%s", want, out)
			}
		}
		if strings.Contains(out, "10.77.0.1/24 brd 10.77.0.255 scope global mybr") {
			t.Errorf("an address of its own with an uplink:\n%s", out)
		}
	}
	if out, err := do("./bridge.sh down"); err == nil || !strings.Contains(out, "UPLINK=up0") {
		t.Errorf("removed with an uplink on it: %v, %s", err, out)
	}
	must("UPLINK=up0 ./bridge.sh down")
	out := state()
	for _, want := range []string{"up0    inet 192.0.2.5/24", "up0    inet 192.0.2.6/24", "up0    inet6 2001:db8::5/64", "default via 192.0.2.1 dev up0", "198.51.100.0/24 dev up0"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q after down:\n%s", want, out)
		}
	}

	// What others have made stays.
	for script, want := range map[string]string{
		"BRIDGE=up0 ./bridge.sh up":          "up0 is not a bridge",
		"UPLINK=none ./bridge.sh up":         "there is no interface none",
		"BRIDGE=none ./tap.sh up":            "there is no bridge none",
		"BRIDGE=br0 TAP=up0 ./tap.sh up":     "up0 is not a TAP",
		"UPLINK=port7 ./bridge.sh up":        "port7 belongs to br0 already",
		"./bridge.sh":                        "usage:",
		"./bridge.sh up UPLINK=up0":          "usage:",
		"./tap.sh sideways":                  "usage:",
		"BRIDGE=br0 ./bridge.sh down; false": "br0 was not made by this script",
		"TAP=port7 ./tap.sh down; false":     "port7 was not made by this script",
	} {
		if out, err := do(script); err == nil || !strings.Contains(out, want) {
			t.Errorf("%s: %v, %s", script, err, fmt.Sprintf("%q, want %q", out, want))
		}
	}
	if out := must("ip -o link show"); !strings.Contains(out, "br0") || !strings.Contains(out, "port7") {
		t.Errorf("something of others was removed:\n%s", out)
	}
}
