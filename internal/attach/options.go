// Package attach is how a command joins a network: the one set of flags that
// every program of tapstack shares, with defaults from the environment, and
// what it takes to get from them to a stack whose addresses may be used.
//
// This file owns the flags and the checking of what they say; open.go acts on
// them; main.go is the frame around a small program.
package attach

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/tap"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
	"github.com/tapstack/tapstack/tcp/cc"
)

// DefaultTAP is the device of `make tap`, used when no other is named.
const DefaultTAP = "tap7"

// envPrefix and a flag's name in capitals make its environment variable.
const envPrefix = "TAPSTACK_"

// Options say where to attach and with which addresses. Texts are checked by
// Open, so that one message covers flag and environment variable.
type Options struct {
	TAP     string   // --tap: a TAP device by name
	TUN     string   // --tun: a TUN device by name
	Dev     string   // --dev: "tap:NAME" or "packet:NAME"
	Net     string   // --net: as Dev, or "host": no stack, the host's own network
	IP      []string // --ip: own addresses with the length of the link's prefix
	Gateway []string // --gw: default routers
	Routes  []string // --route: other routes, see parseRoute
	DNS     []string // --dns: servers to ask for names
	MAC     string   // --mac: "": the device's own, or one made of names
	VLAN    uint16   // --vlan: 1 to 4094; 0: frames without tag
	// VLANPriority, --vlan-priority: of what is sent, 0 to 7.
	VLANPriority uint8
	SNAP         bool   // --snap: IEEE 802.3 with SNAP instead of Ethernet II
	MTU          int    // --mtu: bytes; 0 takes the device's
	Offload      string // --offload: super-frames on a TAP; "" is auto
	Queues       int    // --queues: receive queues of a TAP; 0 is one
	// BusyPoll, --busy-poll: look for frames so long before sleeping.
	BusyPoll time.Duration
	// Congestion, --congestion: congestion control of TCP by name; "" is cc.Default.
	Congestion string
	ECN        string // --ecn: congestion marks for TCP; "" is passive
	// MTUProbing, --mtu-probing: search what paths carry; "" is blackhole.
	MTUProbing string
	Memory     string // --memory: budget of the stack, as "256M"; "": stack.Limits' default
	Pcap       string // --pcap: file for a capture of all that passes
	TCPTrace   string // --tcp-trace: "-" or a directory for what TCP's connections tell
	DHCP       bool   // --dhcp: an IPv4 address from a DHCP server
	LinkLocal  string // --link-local: what to do when there is none; "" is fallback
	LeaseFile  string // --lease-file: where the lease outlives the program
	Inform     bool   // --inform: ask DHCP servers for all but an address
	SLAAC      bool   // --slaac: IPv6 addresses from router advertisements
	DHCP6Options
	IID       string // --iid: what their interface identifiers are made of; "" is opaque
	TempAddrs string // --temp-addrs: addresses that take turns beside them; "" is off
	// IgnoreRA, --ra-ignore: what of router advertisements is left aside.
	IgnoreRA   []string
	Sharing    bool // --router-sharing: spread destinations over equal routers
	Optimistic bool // --optimistic-dad: use IPv6 addresses while they are probed
	NoDAD      bool // --dad=false: use IPv6 addresses unprobed
	ACD        bool // --acd: probe IPv4 addresses before use (RFC 5227)
	ARPOptions
	Settings
	// Recorder, unless nil, chooses what is in that capture.
	Recorder Recorder
	Seed     uint64 // --seed: reproducible random choices; 0: real ones

	// What programs choose and no flag does.

	// Localnet sends what is for loopback addresses to the gateways, as the
	// stack then has none.
	Localnet bool
	// NeighbourQueue is how many frames may wait for one neighbour; 0:
	// stack.Limits' default.
	NeighbourQueue int

	flags  *pflag.FlagSet
	envErr map[string]error // of environment variables, by flag
}

// UsageError is a mistake in what the user asked for, as opposed to one that
// happened while doing it: exit status 2.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }
func (e *UsageError) Unwrap() error { return e.Err }

// ExitCode is the exit status of a program that was used wrongly.
func (e *UsageError) ExitCode() int { return 2 }

// Usagef makes a UsageError.
func Usagef(format string, a ...any) error { return &UsageError{fmt.Errorf(format, a...)} }

// Register adds the flags to fs. Their defaults are the fields' values, or
// the values of environment variables where these are set.
func (o *Options) Register(fs *pflag.FlagSet) {
	o.flags, o.envErr = fs, make(map[string]error)
	text := func(p *string, name, usage string) {
		if v := os.Getenv(envName(name)); v != "" {
			*p = v
		}
		fs.StringVar(p, name, *p, usage)
	}
	list := func(p *[]string, name, usage string) {
		if v := os.Getenv(envName(name)); v != "" {
			*p = strings.Split(v, ",")
		}
		fs.StringSliceVar(p, name, *p, usage)
	}
	number := func(p *int, name, usage string) {
		fromEnv(o, p, name, strconv.Atoi)
		fs.IntVar(p, name, *p, usage)
	}
	truth := func(p *bool, name, usage string) {
		fromEnv(o, p, name, strconv.ParseBool)
		fs.BoolVar(p, name, *p, usage)
	}
	text(&o.TAP, "tap", "attach to the TAP device `NAME` (default "+DefaultTAP+")")
	text(&o.TUN, "tun", "attach to the TUN device `NAME`: a link to this host only, without Ethernet")
	text(&o.Dev, "dev", "attach to `DEVICE` instead: tap:NAME, tun:NAME, or packet:NAME for an interface by packet socket")
	text(&o.Net, "net", "use `NETWORK`: a stack on tap:NAME, tun:NAME or packet:NAME, or host for no stack but the host's own sockets")
	list(&o.IP, "ip", "own `ADDRESS/LENGTH`, as 10.77.0.7/24 or fd77::7/64; repeat or separate by commas")
	list(&o.Gateway, "gw", "default gateway `ADDRESS`, or dev on a TUN, which needs none; of several for one family each --ip address leaves by the one on its own link")
	o.registerRoutes(list)
	list(&o.DNS, "dns", "ask the DNS server `ADDRESS` for names (default those that DHCP tells)")
	text(&o.MAC, "mac", "own MAC `ADDRESS` (default the device's own; for a TAP a locally administered one that stays the same for this host and device)")
	number(&o.MTU, "mtu", "largest IP packet in `BYTES` (default the device's)")
	fromEnv(o, &o.VLAN, "vlan", parseVLAN)
	fs.Uint16Var(&o.VLAN, "vlan", o.VLAN, "send and take frames of the VLAN `ID`, 1 to 4094, with IEEE 802.1Q tags (default frames without)")
	fromEnv(o, &o.VLANPriority, "vlan-priority", parsePriority)
	fs.Uint8Var(&o.VLANPriority, "vlan-priority", o.VLANPriority, "send tagged frames with the priority `N`, 0 to 7")
	truth(&o.SNAP, "snap", "send IEEE 802.3 frames with SNAP (RFC 1042), and take such as well as Ethernet II")
	text(&o.Offload, "offload", "leave segmentation and checksums to the kernel on a TAP: `MODE` auto, off or require")
	number(&o.Queues, "queues", "receive on `N` queues of a multi-queue TAP (default 1)")
	fromEnv(o, &o.BusyPoll, "busy-poll", time.ParseDuration)
	fs.DurationVar(&o.BusyPoll, "busy-poll", o.BusyPoll, "on a TAP, go on looking for frames for `TIME` (as 50us) before sleeping: shorter round trips for a busy core")
	text(&o.Congestion, "congestion", "congestion control of TCP: `NAME` "+strings.Join(cc.Names(), ", ")+" (default "+cc.Default+")")
	text(&o.ECN, "ecn", "let routers mark TCP's packets instead of dropping them: `MODE` off, passive (when the peer asks), on (ask for it), accecn or accecn-passive (RFC 9768 where the peer has it; default passive)")
	text(&o.MTUProbing, "mtu-probing", "find out by trying what a path carries whose routers do not say: `WHEN` off, blackhole (large TCP segments seem to vanish) or always (default blackhole)")
	text(&o.Memory, "memory", "hold at most `SIZE` bytes (with K, M or G) of what connections buffer and queue: near it windows shrink, at it connections are refused (default 1G)")
	text(&o.Pcap, "pcap", "write a pcapng capture of all that passes to `FILE`")
	text(&o.TCPTrace, "tcp-trace", "write what happens inside each TCP connection as qlog to a file of its own in `DIR`, or - for lines on standard output")
	truth(&o.DHCP, "dhcp", "get an IPv4 address by DHCP")
	text(&o.LinkLocal, "link-local", "when no DHCP server answers for 12 s: `MODE` fallback (take an address of 169.254/16, RFC 3927, and go on asking) or off (fail; default fallback)")
	text(&o.LeaseFile, "lease-file", "keep the DHCP lease in `FILE` for the next start instead of releasing it at the end")
	truth(&o.Inform, "inform", "ask DHCP servers for all but an address, with that of --ip")
	truth(&o.SLAAC, "slaac", "get IPv6 addresses from router advertisements")
	o.registerDHCP6(fs, text)
	text(&o.IID, "iid", "make IPv6 addresses `OF` opaque identifiers, which stay the same on one network (RFC 7217), or eui64: the MAC address (default opaque)")
	text(&o.TempAddrs, "temp-addrs", "make temporary IPv6 addresses beside those of --slaac, and use them: `MODE` off, usable (by who binds them) or prefer (RFC 8981; default off)")
	list(&o.IgnoreRA, "ra-ignore", "leave `WHAT` of router advertisements aside: routers, routes, prefixes, addresses, mtu or dns; repeat or separate by commas")
	truth(&o.Sharing, "router-sharing", "spread IPv6 destinations over routers that are equally good (RFC 4311), which moves some when a router comes or goes")
	truth(&o.Optimistic, "optimistic-dad", "use the IPv6 addresses that are made by oneself while duplicates are still looked for (RFC 4429)")
	not := func(p *bool, name, usage string) {
		v := &notValue{p}
		if text := os.Getenv(envName(name)); text != "" {
			o.noteEnv(name, text, v.Set(text))
		}
		fs.VarPF(v, name, "", usage).NoOptDefVal = "true"
	}
	not(&o.NoDAD, "dad", "look for duplicates of IPv6 addresses before using them (RFC 4862), which takes a second")
	truth(&o.ACD, "acd", "look for duplicates of IPv4 addresses before using them (RFC 5227), which takes 5 to 7 s; Linux does not")
	f := flagMaker{text, list, number, truth, not}
	o.registerARP(f)
	o.registerSettings(fs, f)
	fromEnv(o, &o.Seed, "seed", func(s string) (uint64, error) { return strconv.ParseUint(s, 10, 64) })
	fs.Uint64Var(&o.Seed, "seed", o.Seed, "make random choices reproducible, for tests only")
	_ = fs.MarkHidden("seed") // it is there
	fs.SortFlags = false
}

func envName(flag string) string {
	return envPrefix + strings.ReplaceAll(strings.ToUpper(flag), "-", "_")
}

// fromEnv sets *p from the environment variable of a flag, if there is one.
func fromEnv[T any](o *Options, p *T, name string, parse func(string) (T, error)) {
	if v := os.Getenv(envName(name)); v != "" {
		x, err := parse(v)
		if o.noteEnv(name, v, err); err == nil {
			*p = x
		}
	}
}

func (o *Options) noteEnv(name, value string, err error) {
	if err != nil {
		o.envErr[name] = fmt.Errorf("%s: invalid value %q", envName(name), value)
	}
}

// notValue is a boolean flag that shows the opposite of what it sets, so that
// the zero Options have switched on what hosts usually do.
type notValue struct{ p *bool }

func (v *notValue) String() string { return strconv.FormatBool(v.p == nil || !*v.p) }
func (v *notValue) Type() string   { return "bool" }
func (v *notValue) Set(s string) error {
	b, err := strconv.ParseBool(s)
	if err == nil {
		*v.p = !b
	}
	return err
}

// given reports whether a flag stood on the command line.
func (o *Options) given(name string) bool { return o.flags != nil && o.flags.Changed(name) }

// plan is what checked Options say.
type plan struct {
	kind, name string // of the device: "tap", "tap7"; or kindHost
	addrs      []netip.Prefix
	gateways   []netip.Addr
	routes     []stack.Route
	byDevice   bool   // default routes need no gateway
	vlan       uint16 // 0: none
	priority   uint8
	snap       bool
	dns        []netip.Addr
	offload    tap.Offload
	queues     int
	busyPoll   time.Duration
	mac        ether.Addr      // zero: not said
	tcp        stack.TCPConfig // zero fields: the defaults
	memory     int             // 0: not said
	linkLocal  bool            // as the last resort
	inform     netip.Addr      // valid with --inform: whom to ask as
	dhcp6      dhcp6Plan
	arp        stack.ARPConfig
}

// kindHost is the plan without a stack.
const kindHost = "host"

// check reads all texts. Every error is a UsageError.
func (o *Options) check() (*plan, error) {
	p := new(plan)
	steps := []func(*plan) error{o.checkLink, o.checkOffload, o.checkCongestion, o.checkTCP, o.checkMAC, o.checkMTU, o.checkMemory, o.checkAddrs, o.checkGateways, o.checkRoutes, o.checkDNS, o.checkDHCP, o.checkDHCP6, o.checkARP, o.checkSettings}
	err := o.checkEnv(p)
	if err == nil {
		err = o.checkDevice(p)
	}
	if p.kind == kindHost {
		steps = []func(*plan) error{o.checkNoStack}
	}
	for _, step := range steps {
		if err == nil {
			err = step(p)
		}
	}
	if err != nil {
		return nil, &UsageError{err}
	}
	return p, nil
}

func (o *Options) checkEnv(*plan) error {
	for name, err := range o.envErr {
		if !o.given(name) {
			return err
		}
	}
	return nil
}

// checkDevice finds the one of three flags that says where to attach. What
// stands on the command line has the word, else the environment.
func (o *Options) checkDevice(p *plan) error {
	type choice struct{ flag, value string }
	var all, given []choice
	for _, c := range []choice{{"tap", o.TAP}, {"tun", o.TUN}, {"dev", o.Dev}, {"net", o.Net}} {
		if c.value == "" {
			continue
		}
		all = append(all, c)
		if o.given(c.flag) {
			given = append(given, c)
		}
	}
	if len(given) > 0 {
		all = given
	}
	c := choice{"tap", DefaultTAP}
	switch len(all) {
	case 0:
	case 1:
		c = all[0]
	default:
		return fmt.Errorf("--%s %s and --%s %s: want one of the two", all[0].flag, all[0].value, all[1].flag, all[1].value)
	}
	ok := true
	switch {
	case c.flag == "tap", c.flag == "tun":
		p.kind, p.name = c.flag, c.value
	case c.flag == "net" && c.value == kindHost:
		p.kind = kindHost
		return nil
	default:
		p.kind, p.name, ok = strings.Cut(c.value, ":")
	}
	if !ok || p.kind != "tap" && p.kind != "tun" && p.kind != "packet" {
		if c.flag == "net" {
			return fmt.Errorf("--net %q: want tap:NAME, tun:NAME, packet:NAME or host", c.value)
		}
		return fmt.Errorf("--dev %q: want tap:NAME, tun:NAME or packet:NAME", c.value)
	}
	// The kernel's rules for names (dev_valid_name) and IFNAMSIZ.
	if p.name == "" || len(p.name) > 15 || p.name == "." || p.name == ".." || strings.ContainsAny(p.name, "/: \t\r\n\v\f") {
		return fmt.Errorf("%q cannot be the name of a network device: 1 to 15 characters without slash, colon and space", p.name)
	}
	return nil
}

func (o *Options) checkCongestion(p *plan) error {
	if o.Congestion == "" {
		return nil
	}
	var ok bool
	if p.tcp.NewController, ok = cc.ByName(o.Congestion); !ok {
		return fmt.Errorf("--congestion %q: want one of %s", o.Congestion, strings.Join(cc.Names(), ", "))
	}
	return nil
}

func (o *Options) checkMAC(p *plan) (err error) {
	if o.MAC == "" {
		return nil
	}
	if p.mac, err = ether.ParseAddr(o.MAC); err != nil {
		return fmt.Errorf("--mac %q: want six bytes, as 02:00:00:00:00:07", o.MAC)
	}
	if p.mac.IsGroup() {
		return fmt.Errorf("--mac %v: a group address (lowest bit of the first byte) cannot belong to a station", p.mac)
	}
	if p.mac.IsZero() {
		return fmt.Errorf("--mac %v: no station may use the zero address", p.mac)
	}
	return nil
}

// The range of an IPv4 MTU (RFC 791 §3.2), and the least for IPv6 (RFC 8200 §5).
const (
	minMTU4 = 68
	minMTU6 = 1280
	maxMTU  = 65535
)

func (o *Options) checkMTU(*plan) error {
	if o.MTU != 0 && (o.MTU < minMTU4 || o.MTU > maxMTU) {
		return fmt.Errorf("--mtu %d: want %d to %d bytes", o.MTU, minMTU4, maxMTU)
	}
	return nil
}

func (o *Options) checkAddrs(p *plan) error {
	for _, s := range o.IP {
		s = strings.TrimSpace(s)
		prefix, err := netip.ParsePrefix(s)
		if err != nil {
			if _, e := netip.ParseAddr(s); e == nil && !strings.Contains(s, "/") {
				return fmt.Errorf("--ip %s: say how long the link's prefix is, as in 10.77.0.7/24 or fd77::7/64", s)
			}
			return fmt.Errorf("--ip %q: want address and prefix length, as 10.77.0.7/24 or fd77::7/64", s)
		}
		if err := checkHost(prefix); err != nil {
			return fmt.Errorf("--ip %s: %w", s, err)
		}
		if prefix.Addr().Is6() && o.MTU != 0 && o.MTU < minMTU6 {
			return fmt.Errorf("--ip %s: IPv6 needs an MTU of at least %d, not %d (RFC 8200 §5)", s, minMTU6, o.MTU)
		}
		if !o.given("ip") && (prefix.Addr().Is4() && o.given("dhcp") || prefix.Addr().Is6() && (o.given("slaac") || o.given("dhcp6"))) {
			continue // a default gives way to another source of addresses
		}
		if slices.ContainsFunc(p.addrs, func(q netip.Prefix) bool { return q.Addr() == prefix.Addr() }) {
			return fmt.Errorf("--ip %s: given twice", s)
		}
		p.addrs = append(p.addrs, prefix)
	}
	if err := o.identifiers(&stack.InterfaceConfig{}); err != nil {
		return err
	}
	if o.SLAAC && o.MTU != 0 && o.MTU < minMTU6 {
		return fmt.Errorf("--slaac: IPv6 needs an MTU of at least %d, not %d (RFC 8200 §5)", minMTU6, o.MTU)
	}
	return nil
}

// checkHost says what is wrong with an address for a host.
func checkHost(p netip.Prefix) error {
	a := p.Addr()
	switch {
	case a.Is4In6():
		return errors.New("write IPv4 addresses as such")
	case a.IsUnspecified(), a.Is4() && a.As4()[0] == 0:
		return errors.New("not an address of a host (RFC 1122 §3.2.1.3)")
	case a.IsMulticast():
		return errors.New("a multicast address belongs to no host")
	case a.IsLoopback():
		return errors.New("loopback addresses exist anyway, and never on a network")
	case a.Is4() && a.As4()[0] >= 240:
		return errors.New("reserved, not an address of a host (RFC 1112 §4)")
	}
	// The ends of a prefix, except where it is too short to have ends
	// (RFC 3021, RFC 6164).
	if a.BitLen()-p.Bits() < 2 {
		return nil
	}
	if p.Masked().Addr() == a {
		if a.Is6() {
			return errors.New("the subnet-router anycast address (RFC 4291 §2.6.1), not a host's")
		}
		return errors.New("the address of the network itself; give a host's")
	}
	if a.Is4() && !p.Contains(a.Next()) {
		return errors.New("the broadcast address of the network; give a host's")
	}
	return nil
}

const (
	maxQueues   = 256 // Linux's MAX_TAP_QUEUES
	maxBusyPoll = 100 * time.Millisecond
)

func (o *Options) checkOffload(p *plan) (err error) {
	p.offload, p.queues, p.busyPoll = tap.OffloadAuto, o.Queues, o.BusyPoll
	if o.Offload != "" {
		if p.offload, err = tap.ParseOffload(o.Offload); err != nil {
			return fmt.Errorf("--offload: %w", err)
		}
	}
	if p.queues < 0 || p.queues > maxQueues {
		return fmt.Errorf("--queues %d: want 1 to %d", p.queues, maxQueues)
	}
	if o.BusyPoll < 0 || o.BusyPoll > maxBusyPoll || o.BusyPoll > 0 && p.kind == "packet" {
		return fmt.Errorf("--busy-poll %v: want at most %v, on a TAP or TUN", o.BusyPoll, maxBusyPoll)
	}
	if p.queues > 1 && (p.kind == "packet" || p.offload == tap.OffloadOff) {
		return fmt.Errorf("--queues %d: several queues take a TAP or TUN with offload", p.queues)
	}
	return nil
}

func (o *Options) checkTCP(p *plan) (err error) {
	if o.ECN != "" {
		if p.tcp.ECN, err = tcp.ParseECN(o.ECN); err != nil {
			return fmt.Errorf("--ecn: %w", err)
		}
	}
	if o.MTUProbing != "" {
		if p.tcp.MTUProbing, err = tcp.ParseMTUProbing(o.MTUProbing); err != nil {
			return fmt.Errorf("--mtu-probing: %w", err)
		}
	}
	return nil
}

func (o *Options) checkGateways(p *plan) error {
	for _, s := range o.Gateway {
		if ok, err := o.deviceGateway(p, s); ok || err != nil {
			if err != nil {
				return err
			}
			continue
		}
		gw, err := netip.ParseAddr(strings.TrimSpace(s))
		if err != nil || gw.Is4In6() {
			return fmt.Errorf("--gw %q: want an address, as 10.77.0.1 or fe80::1", s)
		}
		if err := p.checkZone(gw); err != nil {
			return fmt.Errorf("--gw %s: %w", s, err)
		}
		gw = gw.WithZone("")
		if err := p.checkGateway(gw, o); err != nil {
			if !o.given("gw") && (o.given("ip") || o.given("dhcp") || o.given("slaac") || o.given("dhcp6")) {
				continue // a default that went with other addresses
			}
			return fmt.Errorf("--gw %v: %w", gw, err)
		}
		p.gateways = append(p.gateways, gw)
	}
	return nil
}

func (p *plan) checkGateway(gw netip.Addr, o *Options) error {
	if slices.ContainsFunc(p.addrs, func(a netip.Prefix) bool { return a.Addr() == gw }) {
		return errors.New("this is our own address")
	}
	if slices.Contains(p.gateways, gw) {
		return errors.New("given twice")
	}
	if gw.Is6() && gw.IsLinkLocalUnicast() {
		if o.MTU != 0 && o.MTU < minMTU6 {
			return fmt.Errorf("IPv6 needs an MTU of at least %d, not %d (RFC 8200 §5)", minMTU6, o.MTU)
		}
		return nil
	}
	if gw.IsUnspecified() || gw.IsMulticast() || gw.IsLoopback() {
		return errors.New("not the address of a router")
	}
	// A gateway is reached directly or not at all.
	if slices.ContainsFunc(p.addrs, func(a netip.Prefix) bool { return a.Contains(gw) }) {
		return nil
	}
	switch {
	case gw.Is4() && o.DHCP:
		return errors.New("not on the link of an --ip address; with --dhcp the server names the gateway")
	case gw.Is6() && o.SLAAC:
		return errors.New("not on the link of an --ip address; with --slaac routers name themselves")
	}
	return errors.New("not on the link of any --ip address")
}
