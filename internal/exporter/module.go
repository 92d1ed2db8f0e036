package exporter

// This file owns modules: what a probe by that name does. There are some that
// every exporter has; a file in JSON adds others, or takes their place.

import (
	"cmp"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/tapstack/tapstack/probe"
	"github.com/tapstack/tapstack/probe/check"
)

// The values of Module.Prober.
const (
	ProberICMP  = "icmp"  // echo requests
	ProberTCP   = "tcp"   // a connection, and what the module says about it
	ProberUDP   = "udp"   // a datagram that has to be answered
	ProberMTU   = "mtu"   // what the path carries
	ProberTrace = "trace" // the routers on the way
)

// Duration is a time.Duration that JSON writes as "5s".
type Duration time.Duration

// UnmarshalJSON implements json.Unmarshaler.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("%s: want a time as \"5s\"", b)
	}
	v, err := time.ParseDuration(s)
	if err != nil || v < 0 {
		return fmt.Errorf("%q: want a time as \"5s\"", s)
	}
	*d = Duration(v)
	return nil
}

// Module says how to probe. The zero value of a field is its default.
type Module struct {
	// Prober is one of icmp, tcp, udp, mtu and trace; it may be left out where
	// Service says it.
	Prober string `json:"prober"`
	// Service is a preset of check's: port, request and answer.
	Service string `json:"service"`
	// Timeout bounds the whole; 0: Prometheus' own is the only bound.
	Timeout Duration `json:"timeout"`
	// IPProtocol is ip4 or ip6: the family that is preferred, and alone used if
	// the name has such addresses. "": the resolver's order.
	IPProtocol string `json:"preferred_ip_protocol"`
	// Fallback, unless false, lets the other family take its place where there is none.
	Fallback *bool `json:"ip_protocol_fallback"`

	// Of tcp and udp; see check.Request and check.TLS.
	Port      int      `json:"port"` // where the target has none
	Send      string   `json:"send"`
	SendHex   string   `json:"send_hex"`
	Banner    bool     `json:"require_banner"`
	Expect    string   `json:"expect"` // a regular expression
	ReadBytes int      `json:"read_bytes"`
	TLS       bool     `json:"tls"`
	StartTLS  string   `json:"starttls"`
	ALPN      []string `json:"alpn"`
	TLSName   string   `json:"tls_name"`
	TLSCA     string   `json:"tls_ca"` // a file
	Insecure  bool     `json:"insecure_skip_verify"`
	ValidDays int      `json:"valid_days"`
	// Of http and https: Path is asked for where the target is no URL, Status
	// are those that are a success; none: all are.
	Path   string `json:"path"`
	Status []int  `json:"valid_status_codes"`

	// Of icmp, mtu and trace.
	Count    int      `json:"count"`    // requests, 1 unless given; of trace cycles
	Interval Duration `json:"interval"` // between them, 0.2 s unless given
	Size     int      `json:"payload_size"`
	TTL      int      `json:"ttl"`
	DF       bool     `json:"dont_fragment"`
	TOS      int      `json:"tos"`
	Source   string   `json:"source_ip_address"`
	// Protocol is of trace and mtu: icmp, udp, tcp or sctp. Port is theirs too.
	Protocol string `json:"protocol"`

	name    string
	payload []byte
	expect  *regexp.Regexp
	roots   *x509.CertPool
	proto   probe.Proto
	source  netip.Addr
}

// The most that a module may ask for: a scrape is to end, and to be bounded.
const (
	maxCount   = 1000
	maxTimeout = 10 * time.Minute
)

// Presets returns the modules that every exporter has, by name.
func Presets() map[string]*Module {
	m := map[string]*Module{
		"icmp":        {Prober: ProberICMP},
		"tcp_connect": {Prober: ProberTCP},
		"tls":         {Prober: ProberTCP, TLS: true},
		"udp":         {Prober: ProberUDP},
		"mtu":         {Prober: ProberMTU},
		"trace":       {Prober: ProberTrace},
		"http_2xx":    {Prober: ProberTCP, Service: "http", Status: status2xx()},
	}
	for _, s := range check.Services() {
		m[s.Name] = &Module{Service: s.Name}
	}
	for _, p := range check.StartTLS() {
		m[p+"_starttls"] = &Module{Service: p, StartTLS: p}
	}
	for name, x := range m {
		if err := x.prepare(name); err != nil {
			panic(err) // a mistake above
		}
	}
	return m
}

func status2xx() (list []int) {
	for n := 200; n < 300; n++ {
		list = append(list, n)
	}
	return list
}

// ReadModules reads a file of modules, {"modules": {"NAME": {...}}}, and adds
// them to the presets.
func ReadModules(r io.Reader) (map[string]*Module, error) {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	var file struct {
		Modules map[string]*Module `json:"modules"`
	}
	if err := d.Decode(&file); err != nil {
		return nil, err
	}
	if d.Decode(new(any)) != io.EOF {
		return nil, errors.New("something follows the object")
	}
	all := Presets()
	for _, name := range slices.Sorted(maps.Keys(file.Modules)) {
		m := file.Modules[name]
		if m == nil {
			return nil, fmt.Errorf("module %s: there is nothing in it", name)
		}
		if err := m.prepare(name); err != nil {
			return nil, fmt.Errorf("module %s: %w", name, err)
		}
		all[name] = m
	}
	return all, nil
}

// prepare checks a module and reads its texts.
func (m *Module) prepare(name string) (err error) {
	m.name = name
	if name == "" {
		return errors.New("a module needs a name")
	}
	if err := m.prepareService(); err != nil {
		return err
	}
	switch m.Prober {
	case ProberICMP, ProberTCP, ProberUDP, ProberMTU, ProberTrace:
	case "":
		return errors.New("want a prober (icmp, tcp, udp, mtu, trace) or a service")
	default:
		return fmt.Errorf("prober %q: want icmp, tcp, udp, mtu or trace", m.Prober)
	}
	for _, c := range []struct {
		name           string
		value, low, up int
	}{
		{"port", m.Port, 0, 65535}, {"read_bytes", m.ReadBytes, 0, check.MaxReadBytes}, {"valid_days", m.ValidDays, 0, 36500},
		{"count", m.Count, 0, maxCount}, {"payload_size", m.Size, 0, 65507}, {"ttl", m.TTL, 0, 255}, {"tos", m.TOS, 0, 255},
		{"timeout", int(m.Timeout), 0, int(maxTimeout)}, {"interval", int(m.Interval), 0, int(time.Minute)},
	} {
		if c.value < c.low || c.value > c.up {
			return fmt.Errorf("%s is out of range", c.name)
		}
	}
	if !slices.Contains([]string{"", "ip4", "ip6"}, m.IPProtocol) {
		return fmt.Errorf("preferred_ip_protocol %q: want ip4 or ip6", m.IPProtocol)
	}
	if m.proto, err = probe.ParseProto(cmp.Or(m.Protocol, "icmp")); err != nil {
		return err
	}
	if m.Source != "" {
		if m.source, err = netip.ParseAddr(m.Source); err != nil {
			return fmt.Errorf("source_ip_address %q: not an address", m.Source)
		}
	}
	if m.packets() {
		return m.checkOther()
	}
	return m.prepareCheck()
}

// prepareService lets a service say the prober.
func (m *Module) prepareService() error {
	if m.Service == "" {
		return nil
	}
	s := check.LookupService(m.Service)
	if s == nil {
		return fmt.Errorf("service %q: there is none of this name", m.Service)
	}
	want := ProberTCP
	if s.UDP {
		want = ProberUDP
	}
	if m.Prober = cmp.Or(m.Prober, want); m.Prober != want {
		return fmt.Errorf("service %s is over %s", m.Service, want)
	}
	return nil
}

// packets reports that the module sends packets of its own making, for which
// there has to be a stack.
func (m *Module) packets() bool { return m.Prober != ProberTCP && m.Prober != ProberUDP }

// checkOther refuses what would be stored and ignored.
func (m *Module) checkOther() error {
	if m.Send != "" || m.SendHex != "" || m.Banner || m.Expect != "" || m.ReadBytes != 0 || m.hasTLS() || m.Path != "" || m.Status != nil {
		return fmt.Errorf("prober %s sends no text and reads none", m.Prober)
	}
	if m.Prober == ProberICMP && (m.Protocol != "" || m.Port != 0) {
		return errors.New("prober icmp has no protocol and no port")
	}
	if m.Prober == ProberMTU && (m.Size != 0 || m.DF || m.TTL != 0 || m.Interval != 0) {
		return errors.New("prober mtu chooses size, DF, TTL and times itself")
	}
	if m.Prober == ProberTrace && (m.DF || m.TTL != 0) {
		return errors.New("prober trace chooses the TTL, and leaves DF alone")
	}
	return nil
}

func (m *Module) hasTLS() bool {
	return m.TLS || m.StartTLS != "" || m.ALPN != nil || m.TLSName != "" || m.TLSCA != "" || m.Insecure || m.ValidDays != 0
}

func (m *Module) prepareCheck() (err error) {
	s := check.LookupService(m.Service)
	web := s != nil && (s.Name == "http" || s.Name == "https")
	switch {
	case m.Count != 0 || m.Interval != 0 || m.Size != 0 || m.TTL != 0 || m.DF || m.TOS != 0 || m.Source != "" || m.Protocol != "":
		return fmt.Errorf("prober %s has none of count, interval, payload_size, ttl, dont_fragment, tos, source_ip_address and protocol", m.Prober)
	case m.Send != "" && m.SendHex != "":
		return errors.New("send and send_hex: want one of the two")
	case !web && (m.Path != "" || m.Status != nil):
		return errors.New("path and valid_status_codes are of service http")
	case m.Path != "" && (m.Path[0] != '/' || strings.ContainsAny(m.Path, " \r\n")):
		return fmt.Errorf("path %q: want one as in a URL", m.Path)
	case web && m.Send != "":
		return errors.New("service http has a request of its own")
	case m.hasTLS() && m.Prober == ProberUDP:
		return errors.New("TLS is over tcp only")
	case m.hasTLS() && !m.speaksTLS() && !web:
		return errors.New("settings of TLS, but neither tls nor starttls nor a service that has it")
	case m.StartTLS != "" && !slices.Contains(check.StartTLS(), m.StartTLS):
		return fmt.Errorf("starttls %q: want one of %s", m.StartTLS, strings.Join(check.StartTLS(), ", "))
	}
	if m.Send != "" {
		m.payload = []byte(m.Send)
	}
	if m.SendHex != "" {
		if m.payload, err = check.ParseHex(m.SendHex); err != nil {
			return fmt.Errorf("send_hex: %w", err)
		}
	}
	if m.Expect != "" {
		if m.expect, err = regexp.Compile(m.Expect); err != nil {
			return fmt.Errorf("expect: %w", err)
		}
	}
	if m.TLSCA != "" {
		b, err := os.ReadFile(m.TLSCA)
		if err != nil {
			return fmt.Errorf("tls_ca: %w", err)
		}
		if m.roots = x509.NewCertPool(); !m.roots.AppendCertsFromPEM(b) {
			return fmt.Errorf("tls_ca %s: there is no certificate in it", m.TLSCA)
		}
	}
	return nil
}

func (m *Module) speaksTLS() bool {
	s := check.LookupService(m.Service)
	return m.TLS || m.StartTLS != "" || s != nil && s.TLS
}

func (m *Module) fallback() bool { return m.Fallback == nil || *m.Fallback }
