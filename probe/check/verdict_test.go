package check

import (
	"encoding/json"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/icmp"
)

// Parts of a frame with IPv4 without options and TCP.
const tcpAt = ether.HeaderLen + 20

func isTCP(f []byte) bool {
	return len(f) >= tcpAt+20 && f[ether.HeaderLen] == 0x45 && f[ether.HeaderLen+9] == 6
}
func flagsOf(f []byte) int { return int(f[tcpAt+13]) }
func hasText(f []byte) bool {
	n := int(f[ether.HeaderLen+2])<<8 | int(f[ether.HeaderLen+3])
	return isTCP(f) && n > 20+int(f[tcpAt+12]>>4)*4
}

const flagSYN = 2

// nth says yes to the first n frames for which f does.
func nth(n int, f func([]byte) bool) func([]byte) bool {
	return func(b []byte) bool {
		if f(b) {
			n--
			return n >= 0
		}
		return false
	}
}

func echo(c net.Conn) { io.Copy(c, c); c.Close() }

// TestVerdict: what is wrong on the way, and what the check makes of it.
func TestVerdict(t *testing.T) {
	ask := Request{Payload: []byte("hello"), Banner: true, Require: true}
	for _, tc := range []struct {
		name  string
		setup func(t *testing.T, p *pair)
		host  string
		q     Request
		want  Verdict
		errno string
		look  func(t *testing.T, r *Result, at *Attempt)
	}{
		{name: "as it should be", q: ask, want: Open, look: func(t *testing.T, r *Result, at *Attempt) {
			h := at.Handshake
			if h.SYNs != 1 || h.SYNACKs != 1 || h.Answered != 1 || h.RTT != 2*delay || h.Retransmits != 0 || h.PeerMSS != 1460 || h.MSS != 1448 ||
				!h.SACK || !h.Timestamps || !h.WScale || h.Window == 0 || h.Sent != 5 || h.Acked < 5 || h.Received < 5 || h.Reset || h.PathMTU != 1500 {
				t.Errorf("%+v", h)
			}
		}},
		{name: "filtered", setup: func(t *testing.T, p *pair) { p.drop(true, isTCP) }, want: Filtered, errno: "ETIMEDOUT",
			look: func(t *testing.T, r *Result, at *Attempt) {
				// RFC 6298 §2, and Linux's tcp_syn_linear_timeouts.
				if h := at.Handshake; h.SYNs < 2 || !slices.IsSorted(h.SYNAt) || h.SYNAt[1] != time.Second || !strings.Contains(r.Reason, "no answer to") {
					t.Errorf("%s, %+v", r.Reason, h)
				}
			}},
		{name: "a SYN is lost", setup: func(t *testing.T, p *pair) {
			p.drop(true, nth(1, func(f []byte) bool { return isTCP(f) && flagsOf(f)&flagSYN != 0 }))
		}, q: ask, want: Open, look: func(t *testing.T, r *Result, at *Attempt) {
			h := at.Handshake
			if h.SYNs != 2 || h.Answered != 2 || h.RTT != 2*delay || at.Took < time.Second || h.Retransmits != 1 || !strings.Contains(r.Reason, "1 of 2 SYNs") {
				t.Errorf("%s, %+v", r.Reason, h)
			}
		}},
		{name: "a SYN-ACK is late", setup: func(t *testing.T, p *pair) {
			p.drop(false, nth(1, func(f []byte) bool { return isTCP(f) && flagsOf(f)&flagSYN != 0 }))
		}, q: ask, want: Open, look: func(t *testing.T, r *Result, at *Attempt) {
			if h := at.Handshake; h.SYNs < 1 || at.Took < time.Second || h.RTT > at.Took {
				t.Errorf("%+v", h)
			}
		}},
		{name: "no neighbour", host: "10.77.0.99", q: Request{Timeout: 10 * time.Second}, want: NoNeighbour, errno: "EHOSTUNREACH",
			look: func(t *testing.T, r *Result, at *Attempt) {
				if at.Report == nil || at.Report.From.IsValid() || at.Took > 4*time.Second {
					t.Errorf("%+v", at)
				}
			}},
		{name: "no neighbour of IPv6", host: "fd77::99", q: Request{Timeout: 10 * time.Second}, want: NoNeighbour, errno: "EHOSTUNREACH"},
		{name: "no neighbour, UDP", host: "10.77.0.99", q: Request{UDP: true, Timeout: 10 * time.Second}, want: NoNeighbour, errno: "EHOSTUNREACH"},
		{name: "no route", host: "192.0.2.1", want: NoRoute, errno: "ENETUNREACH"},
		{name: "rejected", host: "192.0.2.1", setup: func(t *testing.T, p *pair) { p.router(t, "10.77.0.254", icmp.TypeUnreachable4, icmp.CodeFiltered4) },
			want: Rejected, errno: "EHOSTUNREACH", look: func(t *testing.T, r *Result, at *Attempt) {
				rep := at.Report
				if rep == nil || rep.From != netip.MustParseAddr("10.77.0.254") || rep.Type != 3 || rep.Code != 13 {
					t.Fatalf("%+v", rep)
				}
				if !strings.Contains(r.Reason, "10.77.0.254 answers with ICMP type 3 code 13 (administratively prohibited)") {
					t.Error(r.Reason)
				}
			}},
		{name: "rejected with port unreachable", host: "192.0.2.1", setup: func(t *testing.T, p *pair) { p.router(t, "10.77.0.254", icmp.TypeUnreachable4, icmp.CodePort4) },
			want: Rejected, errno: "ECONNREFUSED"},
		{name: "UDP rejected", host: "192.0.2.1", setup: func(t *testing.T, p *pair) { p.router(t, "10.77.0.254", icmp.TypeUnreachable4, icmp.CodeFiltered4) },
			q: Request{UDP: true}, want: Rejected, errno: "EHOSTUNREACH", look: func(t *testing.T, r *Result, at *Attempt) {
				if rep := at.Report; rep == nil || rep.From != netip.MustParseAddr("10.77.0.254") || rep.Type != 3 || rep.Code != 13 {
					t.Errorf("%+v", rep)
				}
			}},
		{name: "UDP, host unreachable", host: "192.0.2.1", setup: func(t *testing.T, p *pair) { p.router(t, "10.77.0.254", icmp.TypeUnreachable4, icmp.CodeHost4) },
			q: Request{UDP: true}, want: Rejected, errno: "EHOSTUNREACH"},
		{name: "a loop", host: "192.0.2.1", setup: func(t *testing.T, p *pair) { p.router(t, "10.77.0.254", icmp.TypeTimeExceeded4, icmp.CodeHopLimit) },
			want: Rejected, errno: "EHOSTUNREACH"},
		{name: "black hole for what is sent", setup: func(t *testing.T, p *pair) { p.drop(true, hasText) }, q: ask, want: BlackHole,
			look: func(t *testing.T, r *Result, at *Attempt) {
				if h := at.Handshake; h.Unacked != 5 || h.Retransmits < 2 || !strings.Contains(r.Reason, "5 bytes were sent") || r.Text != textNoBanner {
					t.Errorf("%s, %+v", r.Reason, h)
				}
			}},
		{name: "half open", setup: func(t *testing.T, p *pair) {
			p.drop(true, func(f []byte) bool { return isTCP(f) && flagsOf(f)&flagSYN == 0 })
		},
			q: Request{Banner: true, Require: true}, want: BlackHole, look: func(t *testing.T, r *Result, at *Attempt) {
				if h := at.Handshake; h.SYNACKs < 2 || !strings.Contains(r.Reason, "SYN-ACKs came") {
					t.Errorf("%s, %+v", r.Reason, h)
				}
			}},
		{name: "a SYN-ACK is lost, and nothing is said", setup: func(t *testing.T, p *pair) {
			p.drop(false, nth(1, func(f []byte) bool { return isTCP(f) && flagsOf(f)&flagSYN != 0 }))
		}, q: Request{Banner: true, Require: true}, want: Silent},
		{name: "acknowledged, not answered", setup: func(t *testing.T, p *pair) { p.drop(false, hasText) }, q: ask, want: Silent},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, p *pair) {
				q := tc.q
				q.Host, q.Port = tc.host, 7
				if q.Host == "" {
					// Known neighbours, so that times are those of the path.
					q.Host, q.Port = "10.77.0.2", serve(t, p.nb, "10.77.0.2", echo)
					Check(t.Context(), p.na, q)
				}
				if tc.setup != nil {
					tc.setup(t, p)
				}
				r := Check(t.Context(), p.na, q)
				at := &r.Attempts[0]
				if r.Verdict != tc.want || r.ErrnoName != tc.errno || r.OK != (tc.want == Open) {
					t.Errorf("%s, %s: %s", r.Verdict, r.ErrnoName, r.Reason)
				}
				if tc.look != nil {
					tc.look(t, r, at)
				}
				p.drop(true, nil)
				p.drop(false, nil)
			})
		})
	}
}

// TestFullJSON: everything is JSON, begins with the twelve fields, and one line
// has the target in front.
func TestFullJSON(t *testing.T) {
	bubble(t, func(t *testing.T, p *pair) {
		port := serve(t, p.nb, "10.77.0.2", func(c net.Conn) { io.WriteString(c, "he\"llo\x01\n"); c.Close() })
		r := Check(t.Context(), p.na, Request{Host: "10.77.0.2", Port: port, Banner: true})
		full, one := r.FullJSON(), r.Line(true)
		if !strings.HasPrefix(full, strings.TrimSuffix(r.JSON(), "\n}")) || strings.Contains(one, "\n") {
			t.Errorf("%s\n%s", full, one)
		}
		var v struct {
			Host, Verdict, Banner string
			BannerHex             string `json:"banner_hex"`
			Attempts              []struct {
				TCP struct {
					SYNs    int
					RTT     float64
					Options struct {
						WindowScale []int `json:"window_scale"`
						PeerMSS     int   `json:"peer_mss"`
					}
				}
			}
			TLS *struct{}
		}
		for _, text := range []string{full, one} {
			must(t, json.Unmarshal([]byte(text), &v))
		}
		if v.Host != "10.77.0.2" || v.Verdict != "open" || v.Banner != "he\"llo\x01" || v.BannerHex != "6865226c6c6f010a" || len(v.Attempts) != 1 ||
			v.Attempts[0].TCP.SYNs != 1 || v.Attempts[0].TCP.RTT <= 0 || v.Attempts[0].TCP.Options.PeerMSS != 1460 ||
			len(v.Attempts[0].TCP.Options.WindowScale) != 2 || v.TLS != nil {
			t.Errorf("%+v of\n%s", v, full)
		}
		var out strings.Builder
		r.Print(&out, false)
		for _, want := range []string{"Status         : Success\n", "Family         : AF_INET\n", "Banner         : he\"llo\\x01\n", "Verdict        : open", "MSS 1448, peer's 1460"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("no %q in\n%s", want, &out)
			}
		}
		// A terminal is not steered by what a peer says.
		if strings.ContainsAny(out.String(), "\x01\x1b\r") {
			t.Errorf("%q", &out)
		}
	})
}

// TestJSONText: as json.dumps of Python 3 writes it.
func TestJSONText(t *testing.T) {
	v := object{{"a", nil}, {"b", list{1, true, 0.001, 1e-5, 12.0, 2.5e-7, "é\U0001f600\"\\\n\x7f\x00"}}, {"c", object{}}, {"d", list{}}}
	const flat = `{"a": null, "b": [1, true, 0.001, 1e-05, 12.0, 2.5e-07, "\u00e9\ud83d\ude00\"\\\n` + "\x7f" + `\u0000"], "c": {}, "d": []}`
	if got := jsonText(v, 0); got != flat {
		t.Errorf("got\n%s\nwant\n%s", got, flat)
	}
	const deep = "{\n  \"a\": [\n    1\n  ],\n  \"b\": {\n    \"c\": 0.0\n  }\n}"
	if got := jsonText(object{{"a", list{1}}, {"b", object{{"c", 0.0}}}}, 2); got != deep {
		t.Errorf("got\n%s\nwant\n%s", got, deep)
	}
}

// TestLeavesNothing: after many checks the host that checks holds no
// connection.
func TestLeavesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, p *pair) {
		port := serve(t, p.nb, "10.77.0.2", echo)
		p.drop(true, hasText)
		var list []Request
		for range 50 {
			list = append(list, Request{Host: "10.77.0.2", Port: port, Payload: []byte("x"), Banner: true, Require: true},
				Request{Host: "10.77.0.2", Port: 4}, Request{Host: "10.77.0.2", Port: port})
		}
		next, ended, failed := 0, 0, 0
		Many(t.Context(), p.na, list, 20, func(i int, r *Result) {
			if i != next || r.Port != list[i].Port {
				t.Errorf("result %d at place %d", i, next)
			}
			if next++; !r.OK {
				failed++
			}
		}, func(*Result) { ended++ })
		if next != len(list) || ended != len(list) || failed != 100 {
			t.Errorf("%d results, %d ended, %d failed", next, ended, failed)
		}
		// What remains waits out TIME-WAIT only: nothing keeps a stack that is
		// drained waiting.
		begin := time.Now()
		p.a.Drain(t.Context())
		if d := time.Since(begin); d > time.Second {
			t.Errorf("drained after %v", d)
		}
	})
}
