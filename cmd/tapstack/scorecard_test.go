package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"flag"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/ipv4"
)

// scorecard measures times as well, and others' programs; docs/probes.md says
// what came of it.
var scorecard = flag.Bool("scorecard", false, "measure mtr-packet with probe/testdata/scorecard.py")

// score is what probe/testdata/scorecard.py writes.
type score struct {
	Start struct {
		Ready float64 `json:"ready_ms"`
		Trip  float64 `json:"first_trip_ms"`
	}
	Wire struct {
		First      int `json:"first_sequence"`
		ICMP       int `json:"icmp_bytes"`
		UDP        int `json:"udp_bytes"`
		ICMPLength int `json:"icmp_length"`
		UDPLength  int `json:"udp_length"`
	}
	Unresolved map[string]int
	Batch      struct {
		Alone    float64 `json:"alone_us"`
		Together float64 `json:"together_us"`
		Answered int
	}
	Throughput struct {
		Rate  float64 `json:"per_second"`
		Reply int
	}
	TCP struct {
		Reply, Status int
		Lost          int `json:"no-reply"`
		Least         int `json:"least_ms"`
	}
	SYN struct {
		Reply int
		Lost  int `json:"no-reply"`
		Worst int `json:"worst_ms"`
	}
	UDP     struct{ Open, Closed string }
	MPLS    struct{ Reply, MPLS string }
	SCTP    struct{ Support, Reply string }
	Waiting struct {
		Reply string
		Share float64
	}
}

// scoredLine is the way to the far host of the scorecard.
func scoredLine() *line {
	var seen sync.Map               // flows, by their addresses and source port
	port := func(b []byte) uint16 { // that TCP is sent to
		if len(b) < 54 || ether.Type(binary.BigEndian.Uint16(b[12:])) != ether.TypeIPv4 || b[23] != ipv4.ProtoTCP {
			return 0
		}
		return binary.BigEndian.Uint16(b[36:])
	}
	return &line{
		delay: 5 * time.Millisecond,
		more: func(b []byte) time.Duration {
			if port(b) == 83 {
				return 500 * time.Millisecond
			}
			return 0
		},
		change: func(b []byte, toFar bool) []byte {
			switch {
			case !toFar && len(b) > 43 && b[43] == 8: // the TOS of a quote
				return labelled(b, 160, true, labels...)
			case toFar && forNobody(b):
				return nil
			case toFar && port(b) == 82 && b[35]%2 == 1:
				if _, again := seen.LoadOrStore(string(b[26:36]), true); !again {
					return nil
				}
			}
			return b
		},
	}
}

// TestScorecard: what mtr's own program gets wrong or cannot do, and this one
// does. What takes a quiet machine is measured with -scorecard.
func TestScorecard(t *testing.T) {
	if !*scorecard {
		t.Parallel()
	}
	lab.InNamespace(t, func(l *lab.Lab) {
		far := scoredLine().lay(t, l)[2]
		farServers(t, far)
		script, err := filepath.Abs("../../probe/testdata/scorecard.py")
		if err != nil {
			t.Fatal(err)
		}
		measure := func(t *testing.T, env []string, program string, rows ...string) (s score) {
			ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
			defer cancel()
			c := exec.CommandContext(ctx, "python3", append([]string{script}, rows...)...)
			var out, errs bytes.Buffer
			c.Env, c.Stdout, c.Stderr = append(env, "MTR_PACKET="+program), &out, &errs
			if err := l.Start(c); err != nil {
				t.Fatal(err)
			}
			if err := c.Wait(); err != nil {
				t.Fatalf("%v\n%s%s", err, &out, &errs)
			}
			if err := json.Unmarshal(out.Bytes(), &s); err != nil {
				t.Fatalf("%v\n%s", err, &out)
			}
			t.Logf("%s", &out)
			return s
		}
		env := packetProgram(t, l)
		rows := []string{"wire", "unresolved", "tcp", "syn", "udp", "mpls", "sctp", "waiting"}
		if *scorecard {
			rows = nil
		}
		s := measure(t, env, packetPath(env), rows...)
		if w := s.Wire; w.First != 33000 || w.ICMP != 64 || w.UDP != 64 || w.ICMPLength != 64 || w.UDPLength != 64 {
			t.Errorf("on the wire: %+v", w)
		}
		if s.Unresolved["reply"] != 100 {
			t.Errorf("100 probes to a neighbour that is not known: %v", s.Unresolved)
		}
		// The kernel of a busy machine loses some of such a burst.
		if x := s.TCP; x.Reply+x.Lost != 10000 || x.Reply == 0 || *scorecard && x.Lost > 100 || x.Status != 0 || x.Least < 500 {
			t.Errorf("10,000 SYNs: %+v", x)
		}
		if x := s.SYN; x.Reply != 5 || x.Lost != 5 || x.Worst < 10 || *scorecard && x.Worst > 900 {
			t.Errorf("lost SYNs: %+v", x)
		}
		if s.UDP.Open != "reply" || s.UDP.Closed != "reply" {
			t.Errorf("UDP: %+v", s.UDP)
		}
		if s.MPLS.Reply != "ttl-expired" || s.MPLS.MPLS != "100,5,0,7,4097,1,1,254" {
			t.Errorf("MPLS: %+v", s.MPLS)
		}
		if s.SCTP.Support != "ok" || s.SCTP.Reply != "ttl-expired" {
			t.Errorf("SCTP: %+v", s.SCTP)
		}
		if x := s.Waiting; x.Reply != "no-reply" || x.Share > 0.25 {
			t.Errorf("waiting: %+v", x)
		}
		// check is told of a closed port by the answer, not by the clock.
		cmd := tapstack(t, env, "check", far4, "9", "--udp", "--json", "-t", "100")
		var out bytes.Buffer
		cmd.Stdout = &out
		if err := l.Start(cmd); err != nil {
			t.Fatal(err)
		}
		if status := outcome(t, cmd.Wait()); status != 1 {
			t.Errorf("check: status %d", status)
		}
		var closed struct {
			Errno string  `json:"errno_name"`
			Time  float64 `json:"resp_time"`
		}
		if err := json.Unmarshal(out.Bytes(), &closed); err != nil || closed.Errno != "ECONNREFUSED" || closed.Time < 0.01 || closed.Time > 50 {
			t.Errorf("check: %v, %s", err, &out)
		}
		t.Logf("check --udp of a closed port: %.1f ms", closed.Time*1e3)
		if !*scorecard {
			return
		}
		if s.Batch.Answered != 1500 || s.Batch.Together > 2*s.Batch.Alone {
			t.Errorf("100 at once: %+v", s.Batch)
		}
		if s.Throughput.Reply != 20000 {
			t.Errorf("20,000 probes: %+v", s.Throughput)
		}
		// mtr's own, from a namespace of the kernel's in the same place.
		other, err := exec.LookPath("mtr-packet")
		if err != nil {
			t.Skip("mtr's own program is not installed: nothing to compare with")
		}
		c := exec.Command("unshare", "--net", "sleep", "1000")
		if err := l.Start(c); err != nil {
			t.Fatal(err)
		}
		defer func() { c.Process.Kill(); _ = c.Wait() }() // killed
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if out, err := l.Output(ctx, "sh", "-c", `
			while [ "$(readlink /proc/$0/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do sleep 0.02; done
			ip link add n0 type veth peer name n1
			ip link set n0 master br0 up
			ip link set n1 netns $0
			nsenter -t $0 -n sh -c "ip link set lo up; ip link set n1 up; ip addr add 10.77.0.9/24 dev n1; ip route add default via 10.77.0.1"`,
			strconv.Itoa(c.Process.Pid)); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		// What a machine can do is seen by what the other one does on it.
		if o := measure(t, env, "nsenter -t "+strconv.Itoa(c.Process.Pid)+" -n "+other); s.Throughput.Rate < o.Throughput.Rate || s.Batch.Together > o.Batch.Together {
			t.Errorf("%+v and %+v; mtr's own: %+v and %+v", s.Throughput, s.Batch, o.Throughput, o.Batch)
		}
	})
}
