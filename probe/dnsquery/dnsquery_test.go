package dnsquery

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/miekg/dns"
)

func TestCandidates(t *testing.T) {
	for _, c := range []struct {
		name  string
		ndots int
		want  string
	}{
		{"a", 1, "a.one.test. a.two.test. a."}, {"a.b", 1, "a.b. a.b.one.test. a.b.two.test."}, {"a.b", 2, "a.b.one.test. a.b.two.test. a.b."}, {"a.b.", 9, "a.b."},
	} {
		if got := fmt.Sprint(Candidates(c.name, []string{"one.test", ".two.test.", ""}, c.ndots)); got != "["+c.want+"]" {
			t.Errorf("%s: %s", c.name, got)
		}
	}
}

// fakeConn has a message to read, and then nothing.
type fakeConn struct {
	net.Conn
	io.Reader
}

func (c fakeConn) Read(b []byte) (int, error) { return c.Reader.Read(b) }

// FuzzAnswer: whatever comes is an answer to the question, or is not taken.
func FuzzAnswer(f *testing.F) {
	q := new(dns.Msg).SetQuestion("a.test.", dns.TypeA)
	q.Id = 7
	for _, s := range []string{"a.test. 60 IN A 192.0.2.1", "a.test. 60 IN CNAME a.test.", "a.test. 60 IN TXT x"} {
		m := new(dns.Msg).SetReply(q)
		rr, err := dns.NewRR(s)
		if err != nil {
			f.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(b[:len(b)-3])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > dns.MaxMsgSize {
			return
		}
		for _, tcp := range []bool{false, true} {
			a := Answer{Question: q.Question[0], TCP: tcp}
			stream := data
			if tcp {
				stream = append(binary.BigEndian.AppendUint16(nil, uint16(len(data))), data...)
			}
			err := new(Client).receive(fakeConn{Reader: bytes.NewReader(stream)}, q, &a)
			if (err == nil) != (a.Msg != nil) {
				t.Fatalf("%v with %v", err, a.Msg)
			}
			if a.Msg == nil {
				continue
			}
			if !a.Msg.Response || a.Msg.Id != q.Id || len(a.Msg.Question) > 0 && a.Msg.Question[0].Qtype != dns.TypeA || a.Size != len(data) {
				t.Errorf("taken: %v", a.Msg)
			}
			if len(Aliases(a.Msg)) > maxAliases {
				t.Error("a chain without an end")
			}
			_, _ = a.Found(), a.Msg.String()
		}
	})
}
