package pktscript

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
	"github.com/tapstack/tapstack/tcp/cc"
)

// This file owns the commands in backquotes. There is no shell here: what sets
// something that this stack has is done, what only tidies up or sets what is
// so anyway is passed over, and anything else makes the script unsupported.

// settings are what commands change before the first event.
type settings struct {
	stack  stack.Config
	v      map[string]string
	frozen bool     // the stack exists
	socket [][3]int // options of every socket: level, name and value
}

// command does one command line.
func (r *runner) command(line string) error {
	line = strings.ReplaceAll(line, "\\\n", " ")
	for _, one := range strings.FieldsFunc(line, func(c rune) bool { return c == '\n' || c == ';' }) {
		for part := range strings.SplitSeq(one, "&&") {
			if i := strings.Index(part, "#"); i >= 0 {
				part = part[:i]
			}
			if err := r.simpleCommand(words(part)); err != nil {
				return err
			}
		}
	}
	return nil
}

// words splits a command at blanks outside quotes and drops redirections.
func words(s string) (list []string) {
	var b strings.Builder
	var quote rune
	some := false
	flush := func() {
		w := b.String()
		b.Reset()
		if some && !strings.Contains(w, ">") && w != "/dev/null" {
			list = append(list, w)
		}
		some = false
	}
	for _, c := range s {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote, some = c, true
		case quote == 0 && (c == ' ' || c == '\t'):
			flush()
		default:
			b.WriteRune(c)
			some = true
		}
	}
	flush()
	return list
}

func (r *runner) simpleCommand(w []string) error {
	if len(w) == 0 {
		return nil
	}
	base := w[0][strings.LastIndex(w[0], "/")+1:]
	line := strings.Join(w, " ")
	switch {
	case base == "defaults.sh":
		return r.defaults()
	case base == "set_sysctls.py":
		for _, a := range w[1:] {
			if err := r.sysctl(strings.TrimPrefix(a, "/proc/sys/")); err != nil {
				return err
			}
		}
		return nil
	case strings.HasPrefix(base, "sysctl_restore"):
		return nil
	case base == "sysctl":
		for _, a := range w[1:] {
			if a[0] == '-' {
				continue
			}
			if err := r.sysctl(a); err != nil {
				return err
			}
		}
		return nil
	case base == "ethtool" && strings.Contains(line, "tso off"):
		// Linux makes super-frames all the same, and cuts them itself, as here.
		return nil
	case line == "tc qdisc add dev tun0 root pfifo", strings.HasPrefix(line, "ip tcp_metrics flush"), base == "nstat":
		return nil
	case base == "sockstat":
		// A count of sockets in a state: the segments that follow tell it.
		r.ignored = append(r.ignored, line)
		return nil
	case line == "echo 3 /sys/module/tcp_cubic/parameters/hystart_detect":
		return nil // the default of Linux; HyStart++ is always on here
	case base == "tcpdrop", base == "sleep", base == "true", base == "echo" && len(w) < 3:
		return nil
	}
	return &Unsupported{Reason: "command " + line}
}

// set changes a setting by name, unless the stack exists already with another.
func (r *runner) set(name, value string, do func()) error {
	if r.set0.frozen && r.set0.v[name] != value {
		return &Unsupported{Reason: fmt.Sprintf("%s becomes %s in the middle", name, value)}
	}
	if r.set0.v == nil {
		r.set0.v = map[string]string{}
	}
	r.set0.v[name] = value
	if do != nil {
		do()
	}
	return nil
}

// defaults are what Google's scripts run with.
func (r *runner) defaults() error {
	for _, s := range []string{
		"net.ipv4.tcp_rmem=4096 540000 15728640", "net.ipv4.tcp_wmem=4096 262144 4194304", "net.ipv4.tcp_timestamps=1",
		"net.ipv4.tcp_syn_retries=5", "net.ipv4.tcp_synack_retries=5", "net.ipv4.tcp_sack=1", "net.ipv4.tcp_dsack=1",
		"net.ipv4.tcp_congestion_control=cubic", "net.ipv4.tcp_slow_start_after_idle=0", "net.ipv4.tcp_ecn=0", "net.ipv4.tcp_mtu_probing=0",
		"net.ipv4.tcp_fastopen=0x70403", "net.ipv4.tcp_fastopen_key=a1a1a1a1-b2b2b2b2-c3c3c3c3-d4d4d4d4",
	} {
		if err := r.sysctl(s); err != nil {
			return err
		}
	}
	return nil
}

// sysctl does one "name=value".
func (r *runner) sysctl(assignment string) error {
	name, value, ok := strings.Cut(assignment, "=")
	if !ok {
		return nil // a question
	}
	name = strings.ReplaceAll(name, "/", ".")
	value = strings.Trim(value, `"`)
	if strings.HasPrefix(name, "net.inet.") || strings.HasPrefix(name, "kern.") {
		return r.bsdSysctl(name, value)
	}
	s, ok := sysctls[name]
	if !ok {
		return &Unsupported{Reason: "sysctl " + name}
	}
	switch {
	case s.any:
		return nil
	case s.live:
		return s.apply(r, value)
	}
	var err error
	setErr := r.set(name, value, func() { err = s.apply(r, value) })
	if setErr != nil {
		return setErr
	}
	return err
}

// sysctl is what becomes of one of Linux's settings.
type sysctl struct {
	any   bool // whatever it is set to makes no difference here
	live  bool // can change when the stack exists
	apply func(r *runner, value string) error
}

// only accepts one value, the one that is so here.
func only(want string) sysctl {
	return sysctl{apply: func(_ *runner, v string) error {
		if v != want {
			return &Unsupported{Reason: "a sysctl is " + v + ", here it is always " + want}
		}
		return nil
	}}
}

// ignored are settings without a counterpart that would change a segment.
var ignoredSysctl = sysctl{any: true}

func intSysctl(f func(c *stack.Config, n int)) sysctl {
	return sysctl{apply: func(r *runner, v string) error {
		n, err := strconv.ParseInt(v, 0, 64)
		if err != nil {
			return &Unsupported{Reason: "sysctl value " + v}
		}
		f(&r.set0.stack, int(n))
		return nil
	}}
}

// socketSysctl is the default of a socket option: every socket gets it.
func socketSysctl(level, name int) sysctl {
	return sysctl{apply: func(r *runner, v string) error {
		n, err := strconv.ParseUint(v, 0, 32)
		if err != nil {
			return &Unsupported{Reason: "sysctl value " + v}
		}
		r.set0.socket = append(r.set0.socket, [3]int{level, name, int(n)})
		return nil
	}, live: true}
}

// sizes reads the three numbers of tcp_rmem and tcp_wmem.
func sizes(f func(c *stack.Config, min, def, max int)) sysctl {
	return sysctl{apply: func(r *runner, v string) error {
		var n [3]int
		w := strings.Fields(v)
		for i := range n {
			if len(w) != 3 {
				return &Unsupported{Reason: "sysctl value " + v}
			}
			var err error
			if n[i], err = strconv.Atoi(w[i]); err != nil {
				return &Unsupported{Reason: "sysctl value " + v}
			}
		}
		f(&r.set0.stack, n[0], n[1], n[2])
		return nil
	}}
}

var sysctls = map[string]sysctl{
	"net.ipv4.tcp_rmem":                           sizes(func(c *stack.Config, _, _, n int) { c.Limits.TCPReceive = n }),
	"net.ipv4.tcp_wmem":                           sizes(func(c *stack.Config, _, _, n int) { c.Limits.TCPSend = n }),
	"net.ipv4.tcp_timestamps":                     intSysctl(func(c *stack.Config, n int) { c.TCP.NoTimestamps = n == 0 }),
	"net.ipv4.tcp_sack":                           intSysctl(func(c *stack.Config, n int) { c.TCP.NoSACK = n == 0 }),
	"net.ipv4.tcp_dsack":                          only("1"),
	"net.ipv4.tcp_window_scaling":                 intSysctl(func(c *stack.Config, n int) { c.TCP.NoWScale = n == 0 }),
	"net.ipv4.tcp_ecn":                            {apply: setECN},
	"net.ipv4.tcp_ecn_option_beacon":              ignoredSysctl,
	"net.ipv4.tcp_mtu_probing":                    {apply: setMTUProbing},
	"net.ipv4.tcp_base_mss":                       only("1024"),
	"net.ipv4.tcp_retries1":                       only("3"),
	"net.ipv4.tcp_keepalive_time":                 socketSysctl(socket.SOL_TCP, socket.TCP_KEEPIDLE),
	"net.ipv4.tcp_keepalive_intvl":                socketSysctl(socket.SOL_TCP, socket.TCP_KEEPINTVL),
	"net.ipv4.tcp_keepalive_probes":               socketSysctl(socket.SOL_TCP, socket.TCP_KEEPCNT),
	"net.ipv4.tcp_notsent_lowat":                  socketSysctl(socket.SOL_TCP, socket.TCP_NOTSENT_LOWAT),
	"net.ipv4.tcp_syn_retries":                    intSysctl(func(c *stack.Config, n int) { c.TCP.SynRetries = n }),
	"net.ipv4.tcp_synack_retries":                 intSysctl(func(c *stack.Config, n int) { c.TCP.SynAckRetries = n }),
	"net.ipv4.tcp_retries2":                       intSysctl(func(c *stack.Config, n int) { c.TCP.Retries = n }),
	"net.ipv4.tcp_fin_timeout":                    intSysctl(func(c *stack.Config, n int) { c.TCP.FinWait2 = time.Duration(n) * time.Second }),
	"net.ipv4.tcp_congestion_control":             {apply: setCongestion},
	"net.ipv4.tcp_slow_start_after_idle":          intSysctl(func(c *stack.Config, n int) { c.TCP.KeepIdleWindow = n == 0 }),
	"net.ipv4.tcp_min_tso_segs":                   {apply: setLeastFrame},
	"net.ipv4.tcp_tso_win_divisor":                ignoredSysctl,
	"net.ipv4.tcp_pacing_ss_ratio":                ignoredSysctl,
	"net.ipv4.tcp_pacing_ca_ratio":                ignoredSysctl,
	"net.ipv4.tcp_frto":                           ignoredSysctl,
	"net.ipv4.tcp_fack":                           ignoredSysctl,
	"net.ipv4.tcp_reordering":                     only("3"),
	"net.ipv4.tcp_recovery":                       only("1"),
	"net.ipv4.tcp_early_retrans":                  only("3"),
	"net.ipv4.tcp_syncookies":                     intSysctl(setSynCookies),
	"net.ipv4.tcp_fastopen":                       intSysctl(setFastOpen),
	"net.ipv4.tcp_fastopen_key":                   {apply: setFastOpenKeys},
	"net.ipv4.tcp_rfc1337":                        intSysctl(func(c *stack.Config, n int) { c.TCP.RFC1337 = n != 0 }),
	"net.ipv4.tcp_abort_on_overflow":              intSysctl(func(c *stack.Config, n int) { c.TCP.AbortOnOverflow = n != 0 }),
	"net.ipv4.tcp_moderate_rcvbuf":                ignoredSysctl,
	"net.ipv4.tcp_comp_sack_nr":                   ignoredSysctl,
	"net.ipv4.tcp_no_metrics_save":                ignoredSysctl,
	"net.ipv4.tcp_ecn_fallback":                   ignoredSysctl,
	"net.ipv4.tcp_invalid_ratelimit":              only("500"),
	"net.ipv4.tcp_challenge_ack_limit":            ignoredSysctl,
	"net.ipv4.tcp_fastopen_blackhole_timeout_sec": ignoredSysctl,
}

func setCongestion(r *runner, v string) error {
	f, ok := cc.ByName(v)
	if !ok {
		return &Unsupported{Reason: "congestion control " + v}
	}
	r.set0.stack.TCP.NewController = f
	return nil
}

// setLeastFrame does not: where super-frames end is seen by PSH only.
func setLeastFrame(r *runner, v string) error {
	r.cfg.anyPush = r.cfg.anyPush || v != "2"
	return nil
}

// setECN turns Linux's numbers into ours. Its 4 asks for less than it accepts.
func setECN(r *runner, v string) error {
	modes := map[string]tcp.ECN{"0": tcp.ECNOff, "1": tcp.ECNOn, "2": tcp.ECNPassive, "3": tcp.ECNAccurate, "5": tcp.ECNAccuratePassive}
	mode, ok := modes[v]
	if !ok {
		return &Unsupported{Reason: "tcp_ecn " + v}
	}
	r.set0.stack.TCP.ECN = mode
	return nil
}

// setMTUProbing turns Linux's numbers into ours.
func setMTUProbing(r *runner, v string) error {
	modes := map[string]tcp.MTUProbing{"0": tcp.MTUProbeOff, "1": tcp.MTUProbeBlackHole, "2": tcp.MTUProbeAlways}
	mode, ok := modes[v]
	if !ok {
		return &Unsupported{Reason: "tcp_mtu_probing " + v}
	}
	r.set0.stack.TCP.MTUProbing = mode
	return nil
}

// setSynCookies turns Linux's numbers into ours.
func setSynCookies(c *stack.Config, n int) {
	c.TCP.SynCookies = [...]stack.SynCookies{stack.SynCookiesOff, stack.SynCookiesAuto, stack.SynCookiesAlways}[min(max(n, 0), 2)]
}

// setFastOpen sets the permissions; those of Linux that are not about them are
// the black-hole detection's, which a script never waits for.
func setFastOpen(c *stack.Config, n int) {
	const all = stack.FastOpenClient | stack.FastOpenServer | stack.FastOpenClientNoCookie | stack.FastOpenServerNoCookie |
		stack.FastOpenAllListeners
	c.TCP.FastOpen = stack.FastOpen(n) & all
	if c.TCP.FastOpen == 0 {
		c.TCP.FastOpen = stack.FastOpenOff
	}
}

// setFastOpenKeys reads one or two keys in Linux's form: words of eight digits,
// each in the order of the machine.
func setFastOpenKeys(r *runner, v string) error {
	var keys [][16]byte
	for one := range strings.SplitSeq(v, ",") {
		var w [4]uint32
		if _, err := fmt.Sscanf(one, "%x-%x-%x-%x", &w[0], &w[1], &w[2], &w[3]); err != nil {
			return &Unsupported{Reason: "sysctl value " + v}
		}
		var k [16]byte
		for i, x := range w {
			binary.LittleEndian.PutUint32(k[4*i:], x)
		}
		keys = append(keys, k)
	}
	r.set0.stack.TCP.FastOpenKeys = keys
	return nil
}

// bsdDefaults are FreeBSD's settings as its scripts find them; scripts that
// change them to test FreeBSD's alternative behaviour are not for us.
var bsdDefaults = map[string]string{
	"net.inet.tcp.rfc1323": "1", "net.inet.tcp.sack.enable": "1", "net.inet.tcp.ecn.enable": "2",
	"net.inet.tcp.blackhole": "0", "net.inet.tcp.insecure_rst": "0", "net.inet.tcp.insecure_syn": "0",
	"net.inet.tcp.drop_synfin": "0", "net.inet.tcp.icmp_may_rst": "1", "net.inet.tcp.rexmit_initial": "1000",
	"net.inet.tcp.rexmit_slop": "200", "net.inet.tcp.rexmit_drop_options": "0", "net.inet.tcp.syncookies": "1",
	"net.inet.tcp.syncookies_only": "0", "net.inet.tcp.delacktime": "40", "net.inet.tcp.keepinit": "75000",
	"net.inet.tcp.keepidle": "7200000", "net.inet.tcp.keepintvl": "75000", "net.inet.tcp.keepcnt": "8",
	"net.inet.tcp.path_mtu_discovery": "1", "net.inet.tcp.pmtud_blackhole_detection": "0",
	"net.inet.tcp.recvspace": "65536", "net.inet.tcp.sendspace": "32768", "kern.ipc.maxsockbuf": "2097152",
	"net.inet.tcp.hostcache.purgenow": "1", "net.inet.tcp.mssdflt": "536", "net.inet.tcp.v6mssdflt": "1220",
	"net.inet.tcp.udp_tunneling_port": "0", "net.inet.tcp.ecn.maxretries": "1", "net.inet.tcp.tolerate_missing_ts": "0",
}

// bsdSocketSysctls are defaults of socket options, times in milliseconds.
var bsdSocketSysctls = map[string]int{
	"net.inet.tcp.keepidle": socket.TCP_KEEPIDLE, "net.inet.tcp.keepintvl": socket.TCP_KEEPINTVL,
	"net.inet.tcp.keepcnt": socket.TCP_KEEPCNT,
}

func (r *runner) bsdSysctl(name, value string) error {
	def, ok := bsdDefaults[name]
	switch {
	case !ok:
		return &Unsupported{Reason: "FreeBSD's sysctl " + name}
	case name == "net.inet.tcp.rfc1323" && value == "0":
		return r.set(name, value, func() { r.set0.stack.TCP.NoTimestamps, r.set0.stack.TCP.NoWScale = true, true })
	case bsdSocketSysctls[name] != 0:
		n, err := strconv.Atoi(value)
		if err != nil {
			break
		}
		if name != "net.inet.tcp.keepcnt" {
			n /= 1000
		}
		r.set0.socket = append(r.set0.socket, [3]int{socket.SOL_TCP, bsdSocketSysctls[name], n})
		return nil
	case name == "net.inet.tcp.sack.enable" && value == "0":
		return r.set(name, value, func() { r.set0.stack.TCP.NoSACK = true })
	case def == value:
		return nil
	}
	return &Unsupported{Reason: fmt.Sprintf("FreeBSD's sysctl %s=%s", name, value)}
}
