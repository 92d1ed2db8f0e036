package main

import (
	"fmt"
	"io"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"github.com/tapstack/tapstack/probe/dnsquery"
)

// This file owns how host tells what DNS says: in the words of BIND's host, whole
// messages, or JSON.

// hostReport is what --json prints.
type hostReport struct {
	Name    string      `json:"name"`
	Found   bool        `json:"found"`
	Queries []hostQuery `json:"queries"`
}

type hostQuery struct {
	Question   string       `json:"question"`
	Type       string       `json:"type"`
	Class      string       `json:"class"`
	Server     string       `json:"server"`
	Protocol   string       `json:"protocol"`
	Truncated  bool         `json:"truncated"` // by UDP, and so asked for by TCP
	EDNS       bool         `json:"edns"`      // the answer has it
	Sent       int          `json:"sent"`
	Ignored    int          `json:"ignored"`
	Time       float64      `json:"time_ms"`
	Size       int          `json:"size"`
	Rcode      string       `json:"rcode"`
	Flags      []string     `json:"flags"`
	Answer     []hostRecord `json:"answer"`
	Authority  []hostRecord `json:"authority"`
	Additional []hostRecord `json:"additional"`
	Error      string       `json:"error,omitempty"`
}

type hostRecord struct {
	Name  string `json:"name"`
	TTL   uint32 `json:"ttl"`
	Class string `json:"class"`
	Type  string `json:"type"`
	Data  string `json:"data"`
}

func (r *hostReport) add(list []dnsquery.Answer) {
	for _, a := range list {
		q := hostQuery{Question: a.Question.Name, Type: dns.Type(a.Question.Qtype).String(), Class: dns.Class(a.Question.Qclass).String(), Server: a.Server.String(),
			Protocol: "udp", Truncated: a.Truncated, Sent: a.Queries, Ignored: a.Ignored, Time: ms(a.Time), Size: a.Size, Flags: []string{}}
		if a.TCP {
			q.Protocol = "tcp"
		}
		if a.Err != nil {
			q.Error = a.Err.Error()
		}
		q.Answer, q.Authority, q.Additional = []hostRecord{}, []hostRecord{}, []hostRecord{}
		if m := a.Msg; m != nil {
			q.EDNS = m.IsEdns0() != nil
			q.Rcode = dns.RcodeToString[m.Rcode]
			if q.Rcode == "" {
				q.Rcode = strconv.Itoa(m.Rcode)
			}
			q.Flags = append(q.Flags, flagsOf(m)...)
			q.Answer, q.Authority, q.Additional = hostRecords(m.Answer), hostRecords(m.Ns), hostRecords(m.Extra)
		}
		r.Queries = append(r.Queries, q)
	}
}

func flagsOf(m *dns.Msg) (list []string) {
	for _, f := range []struct {
		on   bool
		name string
	}{{m.Authoritative, "aa"}, {m.Truncated, "tc"}, {m.RecursionDesired, "rd"}, {m.RecursionAvailable, "ra"}, {m.AuthenticatedData, "ad"}, {m.CheckingDisabled, "cd"}} {
		if f.on {
			list = append(list, f.name)
		}
	}
	return list
}

func hostRecords(list []dns.RR) []hostRecord {
	out := []hostRecord{}
	for _, rr := range list {
		if rr.Header().Rrtype != dns.TypeOPT {
			h := rr.Header()
			out = append(out, hostRecord{h.Name, h.Ttl, dns.Class(h.Class).String(), dns.Type(h.Rrtype).String(), recordData(rr)})
		}
	}
	return out
}

// recordData is a record as it is written, without what is the same for all.
func recordData(rr dns.RR) string {
	// Name, TTL, class, type, and the data, which may have tabs.
	f := strings.SplitN(rr.String(), "\t", 5)
	return f[len(f)-1]
}

// print writes what BIND's host writes, or with -v the messages.
func (o *hostOptions) print(w io.Writer, display string, list []dnsquery.Answer, one bool) {
	aliases := map[string]bool{}
	for _, a := range list {
		if o.verbose || o.all {
			printMessage(w, &a)
			continue
		}
		if a.Msg == nil {
			fmt.Fprintf(w, ";; no answer from %v: %v\n", a.Server, a.Err)
			continue
		}
		if a.Msg.Rcode != dns.RcodeSuccess {
			fmt.Fprintf(w, "Host %s not found: %d(%s)\n", strings.TrimSuffix(a.Question.Name, "."), a.Msg.Rcode, dns.RcodeToString[a.Msg.Rcode])
			continue
		}
		for _, c := range dnsquery.Aliases(a.Msg) {
			if line := fmt.Sprintf("%s is an alias for %s", noDot(c.Hdr.Name), c.Target); a.Question.Qtype != dns.TypeCNAME && !aliases[line] {
				aliases[line] = true
				fmt.Fprintln(w, line)
			}
		}
		if !a.Found() && one {
			fmt.Fprintf(w, "%s has no %s record\n", noDot(a.Question.Name), dns.Type(a.Question.Qtype))
		}
		records := slices.Clone(a.Msg.Answer)
		sort.SliceStable(records, func(i, j int) bool { // the better mail server first
			x, ok := records[i].(*dns.MX)
			y, ok2 := records[j].(*dns.MX)
			return ok && ok2 && x.Preference < y.Preference
		})
		for _, rr := range records {
			if _, ok := rr.(*dns.CNAME); ok && a.Question.Qtype != dns.TypeCNAME {
				continue
			}
			fmt.Fprintln(w, sentence(rr))
		}
	}
	if o.verbose || o.all || len(list) == 0 {
		return
	}
	if last := list[len(list)-1]; !slices.ContainsFunc(list, func(a dnsquery.Answer) bool { return a.Found() || a.Msg == nil || a.Msg.Rcode != dns.RcodeSuccess }) && !one {
		fmt.Fprintf(w, "%s has no records of these types\n", noDot(last.Question.Name))
	}
}

func noDot(name string) string {
	if name == "." {
		return name
	}
	return strings.TrimSuffix(name, ".")
}

// sentence says a record as BIND's host does.
func sentence(rr dns.RR) string {
	name := noDot(rr.Header().Name)
	switch r := rr.(type) {
	case *dns.A:
		return fmt.Sprintf("%s has address %v", name, r.A)
	case *dns.AAAA:
		return fmt.Sprintf("%s has IPv6 address %v", name, r.AAAA)
	case *dns.MX:
		return fmt.Sprintf("%s mail is handled by %d %s", name, r.Preference, r.Mx)
	case *dns.PTR:
		return fmt.Sprintf("%s domain name pointer %s", name, r.Ptr)
	case *dns.NS:
		return fmt.Sprintf("%s name server %s", name, r.Ns)
	case *dns.CNAME:
		return fmt.Sprintf("%s is an alias for %s", name, r.Target)
	case *dns.TXT:
		return fmt.Sprintf("%s descriptive text %s", name, recordData(rr))
	}
	return fmt.Sprintf("%s has %s record %s", name, dns.Type(rr.Header().Rrtype), recordData(rr))
}

// printMessage writes an answer whole, and how it came.
func printMessage(w io.Writer, a *dnsquery.Answer) {
	how := "UDP"
	if a.TCP {
		how = "TCP"
	}
	if a.Truncated {
		how += ", as the answer by UDP was truncated"
	}
	if a.NoEDNS {
		how += ", without EDNS, which the server does not know"
	}
	if a.Msg == nil {
		fmt.Fprintf(w, ";; no answer to %s %s from %v: %v\n", a.Question.Name, dns.Type(a.Question.Qtype), a.Server, a.Err)
		return
	}
	fmt.Fprintf(w, "%s\n;; %d bytes from %v in %.3f ms by %s\n\n", strings.TrimRight(a.Msg.String(), "\n"), a.Size, a.Server, ms(a.Time), how)
}
