package interop

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/tapstack/tapstack/probe/check"
)

// envPyminitcp names a source tree of pyminitcp 2.0.0, which is asked the same
// as check where it can be: it knows no banners. What differs between that
// version and its description is in docs/probes.md.
const envPyminitcp = "TAPSTACK_TEST_PYMINITCP"

// compareSeed asks pyminitcp and compares the fields that it has with ours.
func compareSeed(t *testing.T, h *host, q check.Request, ours map[string]any) {
	t.Helper()
	dir := os.Getenv(envPyminitcp)
	if dir == "" {
		return
	}
	args := []string{"-m", "pyminitcp.cli", q.Host, strconv.Itoa(int(q.Port)), "--json"}
	if q.UDP {
		args = append(args, "--udp", "--hex-payload", hex.EncodeToString(q.Payload))
	}
	c := exec.CommandContext(within(t, patience), "python3", args...)
	c.Dir, c.Env = t.TempDir(), append(os.Environ(), "PYTHONPATH="+dir, "PYTHONDONTWRITEBYTECODE=1")
	var out []byte
	var err error
	h.lab.Do(func() { out, err = c.Output() })
	var theirs map[string]any
	if err == nil {
		err = json.Unmarshal(out, &theirs)
	}
	if err != nil {
		t.Fatalf("pyminitcp %s: %v\n%s", args, err, out)
	}
	if theirs["family"] == 2.0 { // a number, where its description has a name
		theirs["family"] = "AF_INET"
	}
	for _, k := range []string{"status", "error", "family", "sockaddr"} {
		a, _ := json.Marshal(ours[k])
		b, _ := json.Marshal(theirs[k])
		if string(a) != string(b) {
			t.Errorf("%s:%d: %s is %s, and %s of pyminitcp", q.Host, q.Port, k, a, b)
		}
	}
	for _, k := range []string{"resp_time", "namelookup_time", "connect_time"} {
		if v, ok := theirs[k].(float64); !ok || v < 0 {
			t.Errorf("pyminitcp %s: %s is %v", args, k, theirs[k])
		}
	}
}
