package interop

// The typical probes of pyminitcp's table against the servers of the table, on
// the kernel host, from the stack and from the kernel's own sockets: each
// answer field by field. And what a firewall does, as both tell it.

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math"
	bignum "math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/probe/check"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/socket/kernel"
	"github.com/tapstack/tapstack/stack"
)

// kernelHost is where the servers are, and loopbackHost the same for the kernel
// host itself.
const kernelHost, loopbackHost = "10.77.0.1", "127.0.0.1"

// checks are the two sides that check.
func checks(t *testing.T, h *host) map[string]func(check.Request) *check.Result {
	return map[string]func(check.Request) *check.Result{
		"stack": func(q check.Request) *check.Result { return check.Check(t.Context(), h.net, q) },
		"kernel": func(q check.Request) (r *check.Result) {
			h.lab.Do(func() { r = check.Check(t.Context(), &kernel.Network{}, q) })
			return r
		},
	}
}

// selfSigned makes a certificate for the kernel host and its key, in files that
// servers can read.
func selfSigned(t *testing.T, dir string) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: bignum.NewInt(1), Subject: pkix.Name{CommonName: "kernel host"}, IPAddresses: []net.IP{net.ParseIP(kernelHost), net.ParseIP(loopbackHost)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	cert = write(t, dir, "cert.pem", strings.NewReader(string(text)))
	key = write(t, dir, "key.pem", strings.NewReader(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))))
	// PostgreSQL wants a key that is its own and nobody else's.
	if err := os.Chmod(key, 0o600); err != nil {
		t.Fatal(err)
	}
	if ordinary() {
		if err := os.Chown(key, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	return cert, key, pool
}

// probe is a row: options as in the table, and what is to come. banner is a
// regular expression; "" is null.
type probe struct {
	port    uint16
	q       check.Request
	service string // instead of options
	start   string // STARTTLS, likewise
	tls     bool
	banner  string
	summary string // likewise; of service
	more    func(*check.Result) error
}

// probeAll compares every row from both sides.
func probeAll(t *testing.T, h *host, pool *x509.CertPool, rows ...probe) {
	t.Helper()
	sides := checks(t, h)
	sides["loopback"] = sides["kernel"]
	for _, row := range rows {
		exported(t, h, row)
	}
	for side, do := range sides {
		for _, row := range rows {
			q, server := row.q, kernelHost
			if side == "loopback" {
				server = loopbackHost
			}
			q.Host, q.Port = server, row.port
			if q.Timeout == 0 {
				q.Timeout = patience
			}
			if row.tls || row.start != "" {
				q.TLS = &check.TLS{Start: row.start, Roots: pool, Valid: 24 * time.Hour}
			}
			if row.service != "" {
				check.LookupService(row.service).Apply(&q)
				if q.TLS != nil {
					q.TLS.Roots = pool
				}
			}
			r := do(q)
			for q.Timeout < patience && r.Phase == check.PhaseConnect {
				// It does not take so long to be silent on a busy machine.
				q.Timeout *= 2
				r = do(q)
			}
			var got map[string]any
			if err := json.Unmarshal([]byte(r.JSON()), &got); err != nil {
				t.Fatal(err)
			}
			total, connect := got["resp_time"].(float64), got["connect_time"].(float64)
			if total <= 0 || connect < 0 || connect > total || (connect == 0) != q.UDP {
				t.Errorf("%s, %+v: %v s, %v s of them to connect", side, row, total, connect)
			}
			if _, ok := got["namelookup_time"].(float64); !ok {
				t.Errorf("%v", got["namelookup_time"])
			}
			for _, k := range []string{"resp_time", "connect_time", "namelookup_time"} {
				delete(got, k)
			}
			banner, _ := got["banner"].(string)
			if (got["banner"] == nil) != (row.banner == "") || !regexp.MustCompile("^(?s:"+row.banner+")$").MatchString(banner) {
				t.Errorf("%s, port %d %s: banner %q, want %s", side, row.port, row.service, banner, row.banner)
			}
			delete(got, "banner")
			want := map[string]any{"status": 1.0, "error": "", "family": "AF_INET", "sockaddr": []any{server, float64(row.port)},
				"phase": nil, "errno_code": nil, "errno_name": nil, "os_error": nil}
			if !reflect.DeepEqual(got, want) || !r.OK || r.Verdict != check.Open {
				t.Errorf("%s, port %d %s: %s, %s, %v", side, row.port, row.service, r.Verdict, r.Reason, got)
			}
			if !regexp.MustCompile("^(" + row.summary + ")$").MatchString(r.Summary) {
				t.Errorf("%s, port %d %s: %q, want %s", side, row.port, row.service, r.Summary, row.summary)
			}
			if row.more != nil {
				if err := row.more(r); err != nil {
					t.Errorf("%s, port %d %s: %v", side, row.port, row.service, err)
				}
			}
			if (q.TLS != nil) != (r.TLS != nil) || r.TLS != nil && (r.TLS.Fault != "" || r.TLS.Subject != "CN=kernel host" || r.TLS.Left < 80*24*time.Hour) {
				t.Errorf("%s, port %d %s: %+v", side, row.port, row.service, r.TLS)
			}
			if side != "stack" && row.service == "" && q.TLS == nil {
				compareSeed(t, h, q, got)
			}
		}
	}
}

// sameClock: an answer of NTP by our own clock differs from it by no more than
// half the time that question and answer took (RFC 5905 §8), what the server
// does not know of its clock, and what the summary rounds.
func sameClock(r *check.Result) error {
	_, clock, _ := strings.Cut(r.Summary, "clock ")
	ms, err := strconv.ParseFloat(strings.TrimSuffix(clock, " ms"), 64)
	if err != nil {
		return err
	}
	precision := math.Ldexp(1e3, int(int8(r.Answer[3])))
	if most := r.Total.Seconds()*1e3/2 + precision + 1e-3; math.Abs(ms) > most {
		return fmt.Errorf("the clock differs from itself by %v ms, of at most %v", ms, most)
	}
	return nil
}

// need are the options of most rows.
var need = check.Request{Banner: true, Require: true}

// silent is for those who say nothing before they are asked, in their own way.
var silent = check.Request{Banner: true, Timeout: 200 * time.Millisecond}

func sends(text string) check.Request {
	q := need
	q.Payload = []byte(text)
	return q
}

const checkNginx = `daemon off;
%[2]s
pid %[1]s/nginx.pid;
error_log stderr;
events { worker_connections 100; }
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	ssl_certificate %[3]s;
	ssl_certificate_key %[4]s;
	server {
		listen 8080;
		listen 8443 ssl;
		location / { return 200; }
	}
}
`

const dovecotConfig = `base_dir = %[1]s/run
state_dir = %[1]s/state
log_path = /dev/stderr
protocols = imap pop3
default_internal_user = nobody
default_internal_group = nogroup
default_login_user = nobody
ssl = yes
ssl_cert = <%[2]s
ssl_key = <%[3]s
login_greeting = mailbox ready
passdb {
  driver = static
  args = nopassword=y
}
userdb {
  driver = static
  args = uid=nobody gid=nogroup home=/nonexistent
}
service auth {
  user = nobody
}
service auth-worker {
  user = nobody
}
service anvil {
  chroot =
}
service imap-login {
  chroot =
  inet_listener imap {
    address = 10.77.0.1, 127.0.0.1
    port = 1143
  }
  inet_listener imaps {
    address = 10.77.0.1, 127.0.0.1
    port = 1993
  }
}
service pop3-login {
  chroot =
  inet_listener pop3 {
    address = 10.77.0.1, 127.0.0.1
    port = 1110
  }
  inet_listener pop3s {
    address = 10.77.0.1, 127.0.0.1
    port = 1995
  }
}
`

// TestCheckServices runs the servers one after the other.
func TestCheckServices(t *testing.T) {
	t.Parallel()
	h := newServed(t)
	files := userDir(t)
	cert, key, pool := selfSigned(t, files)

	t.Run("nobody", func(t *testing.T) {
		for _, server := range []string{kernelHost, loopbackHost} {
			q := check.Request{Host: server, Port: 1, Timeout: patience}
			r := checks(t, h)["kernel"](q)
			if r.OK || r.Phase != check.PhaseConnect || r.ErrnoName != "ECONNREFUSED" {
				t.Errorf("%+v", r)
			}
			var got map[string]any
			if err := json.Unmarshal([]byte(r.JSON()), &got); err != nil {
				t.Fatal(err)
			}
			// Version 2.0.0 does not say why.
			why, _ := got["error"].(string)
			if got["error"] = strings.TrimSuffix(why, ": Connection refused"); got["error"] == why {
				t.Errorf("%s", why)
			}
			compareSeed(t, h, q, got)
		}
	})
	t.Run("openssh", func(t *testing.T) {
		program(t, "ssh-keygen")
		program(t, "/usr/sbin/sshd")
		dir := userDir(t)
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, "host")).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if ordinary() {
			if err := os.Chown(filepath.Join(dir, "host"), nobody, nobody); err != nil {
				t.Fatal(err)
			}
		} else {
			lab.Lacks(t, errors.New("sshd does not run in a user namespace with one user; run as root"))
		}
		config := write(t, dir, "sshd.conf", strings.NewReader("ListenAddress 0.0.0.0:2222\nHostKey "+dir+"/host\nPidFile none\nStrictModes no\nUsePAM no\n"))
		runServer(t, h.lab, "10.77.0.1:2222", "/usr/sbin/sshd", "-D", "-e", "-f", config)
		probeAll(t, h, pool, probe{port: 2222, q: check.Request{Banner: true}, banner: `SSH-2\.0-OpenSSH_\S.*`},
			probe{port: 2222}, probe{port: 2222, service: "ssh", banner: `SSH-2\.0-.*`, summary: `SSH-2\.0-OpenSSH_.*`})
	})
	t.Run("nginx", func(t *testing.T) {
		program(t, "nginx")
		dir, user := userDir(t), ""
		if !ordinary() {
			user = "user root root; master_process off;"
		}
		config := write(t, dir, "nginx.conf", strings.NewReader(fmt.Sprintf(checkNginx, dir, user, cert, key)))
		runServer(t, h.lab, "10.77.0.1:8080", "nginx", "-e", "stderr", "-p", dir, "-c", config)
		probeAll(t, h, pool, probe{port: 8080, q: sends("HEAD / HTTP/1.0\r\nHost: example.com\r\n\r\n"), banner: `HTTP/1\.[01] 200 OK\r\n.*`},
			probe{port: 8080, service: "http", banner: `HTTP/1\.[01] 200 OK\r\nServer.*`, summary: `HTTP/1\.[01] 200 OK, nginx/.*`},
			probe{port: 8443, service: "https", banner: `HTTP/1\.[01] 200 OK\r\n.*`, summary: `HTTP/1\.[01] 200 OK, nginx/.*`},
			probe{port: 8443, q: silent}, probe{port: 8443, tls: true})
	})
	t.Run("redis", func(t *testing.T) {
		program(t, "redis-server")
		runServer(t, h.lab, "10.77.0.1:6379", "redis-server", "--bind", kernelHost+" "+loopbackHost, "--dir", userDir(t), "--save", "", "--appendonly", "no", "--protected-mode", "no")
		probeAll(t, h, pool, probe{port: 6379, q: sends("PING\r\n"), banner: `\+PONG`}, probe{port: 6379, service: "redis", banner: `\+PONG`, summary: "Redis"})
	})
	t.Run("memcached", func(t *testing.T) {
		program(t, "memcached")
		argv := []string{"memcached", "-l", kernelHost + "," + loopbackHost, "-p", "11211", "-U", "0"}
		if !ordinary() {
			argv = append(argv, "-u", "root")
		}
		runServer(t, h.lab, "10.77.0.1:11211", argv...)
		probeAll(t, h, pool, probe{port: 11211, q: sends("version\r\n"), banner: `VERSION 1\..*`},
			probe{port: 11211, service: "memcached", banner: `VERSION .*`, summary: `memcached, 1\..*`})
	})
	t.Run("vsftpd", func(t *testing.T) {
		program(t, "vsftpd")
		dir := userDir(t)
		config := write(t, dir, "vsftpd.conf", strings.NewReader("listen=YES\nlisten_port=2121\nrun_as_launching_user=YES\nbackground=NO\n"+
			"anonymous_enable=YES\nseccomp_sandbox=NO\nsecure_chroot_dir="+dir+"\nanon_root="+dir+"\nssl_enable=YES\nallow_anon_ssl=YES\nrsa_cert_file="+cert+"\nrsa_private_key_file="+key+"\n"))
		if ordinary() { // it wants a configuration of its own
			if err := os.Chown(config, nobody, nobody); err != nil {
				t.Fatal(err)
			}
		}
		runServer(t, h.lab, "10.77.0.1:2121", "vsftpd", config)
		probeAll(t, h, pool, probe{port: 2121, q: need, banner: `220 \(vsFTPd .*\)`}, probe{port: 2121, service: "ftp", banner: `220 .*`, summary: `FTP, \(vsFTPd .*\)`},
			probe{port: 2121, start: "ftp"})
	})
	t.Run("dovecot", func(t *testing.T) {
		program(t, "dovecot")
		if !ordinary() {
			lab.Lacks(t, errors.New("dovecot does not run in a user namespace with one user; run as root"))
		}
		dir := userDir(t)
		config := write(t, dir, "dovecot.conf", strings.NewReader(fmt.Sprintf(dovecotConfig, dir, cert, key)))
		runServer(t, h.lab, "10.77.0.1:1143", "dovecot", "-F", "-c", config)
		probeAll(t, h, pool, probe{port: 1110, q: need, banner: `\+OK mailbox ready`}, probe{port: 1143, q: need, banner: `\* OK .*mailbox ready`},
			probe{port: 1110, service: "pop3", banner: `\+OK .*`, summary: `POP3, mailbox ready`}, probe{port: 1143, service: "imap", banner: `\* OK .*`, summary: `IMAP, .*mailbox ready`},
			probe{port: 1995, service: "pop3s", banner: `\+OK .*`, summary: `POP3, .*`}, probe{port: 1993, service: "imaps", banner: `\* OK .*`, summary: `IMAP, .*`},
			probe{port: 1110, start: "pop3"}, probe{port: 1143, start: "imap"})
	})
	t.Run("smtp", func(t *testing.T) {
		python := program(t, "/usr/bin/python3")
		if err := exec.Command(python, "-c", "import aiosmtpd").Run(); err != nil {
			lab.Lacks(t, errors.New("python3-aiosmtpd is not installed"))
		}
		runServer(t, h.lab, "10.77.0.1:2525", python, "-m", "aiosmtpd", "-n", "-l", "0.0.0.0:2525", "--tlscert", cert, "--tlskey", key, "--no-requiretls")
		probeAll(t, h, pool, probe{port: 2525, q: need, banner: `220 .*`}, probe{port: 2525, service: "smtp", banner: `220 .*`, summary: `SMTP, .*`},
			probe{port: 2525, start: "smtp"})
		runServer(t, h.lab, "10.77.0.1:2465", python, "-m", "aiosmtpd", "-n", "-l", "0.0.0.0:2465", "--smtpscert", cert, "--smtpskey", key)
		probeAll(t, h, pool, probe{port: 2465, q: silent}, probe{port: 2465, service: "smtps", banner: `220 .*`, summary: `SMTP, .*`})
	})
	t.Run("mariadb", func(t *testing.T) {
		program(t, "mariadbd")
		dir := userDir(t)
		// Without tables of its own, for which nobody has to be let in.
		argv := []string{"mariadbd", "--no-defaults", "--datadir=" + dir, "--skip-grant-tables", "--skip-networking=0", "--bind-address=0.0.0.0",
			"--socket=" + dir + "/socket", "--pid-file=" + dir + "/pid", "--ssl-cert=" + cert, "--ssl-key=" + key}
		if !ordinary() {
			argv = append(argv, "--user=root")
		}
		runServer(t, h.lab, "10.77.0.1:3306", argv...)
		probeAll(t, h, pool, probe{port: 3306, q: check.Request{Banner: true}, banner: `.*MariaDB.*`},
			probe{port: 3306, service: "mysql", banner: ".*", summary: "MySQL .*MariaDB.*, with TLS"}, probe{port: 3306, start: "mysql"})
	})
	t.Run("postgres", func(t *testing.T) {
		list, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
		if len(list) == 0 {
			lab.Lacks(t, errors.New("postgresql is not installed"))
		}
		if !ordinary() {
			lab.Lacks(t, errors.New("there is no ordinary user to run postgresql; run as root"))
		}
		bin, dir := list[len(list)-1], userDir(t)
		data := filepath.Join(dir, "data")
		if out, err := exec.Command("setpriv", "--reuid", fmt.Sprint(nobody), "--regid", fmt.Sprint(nobody), "--clear-groups",
			bin+"/initdb", "-D", data, "-A", "trust", "-U", "postgres", "--no-sync", "--no-locale").CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		runServer(t, h.lab, "10.77.0.1:5432", bin+"/postgres", "-D", data, "-k", dir, "-h", kernelHost+","+loopbackHost, "-F",
			"-c", "ssl=on", "-c", "ssl_cert_file="+cert, "-c", "ssl_key_file="+key, "-c", "dynamic_shared_memory_type=mmap")
		probeAll(t, h, pool, probe{port: 5432}, probe{port: 5432, q: silent}, probe{port: 5432, service: "postgres", banner: "S", summary: "PostgreSQL, with TLS"}, probe{port: 5432, start: "postgres"})
	})
	t.Run("dnsmasq", func(t *testing.T) {
		program(t, "dnsmasq")
		startServer(t, h.lab, "10.77.0.1:5300", exec.Command("dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=5300", "--listen-address="+kernelHost+","+loopbackHost,
			"--bind-interfaces", "--no-resolv", "--no-hosts", "--local=/example/", "--address=/a.example/10.77.0.1", "--user="))
		query := "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x07example\x00\x00\x01\x00\x01"
		udp := check.Request{UDP: true, Payload: []byte(query)}
		banner := udp
		banner.Banner = true
		probeAll(t, h, pool, probe{port: 5300, q: udp}, probe{port: 5300, q: banner, banner: "\x124.*"},
			probe{port: 5300, service: "dns", banner: ".*", summary: `DNS, \w+ with \d+ answers`}, probe{port: 5300, service: "dns-tcp", banner: ".*", summary: `DNS, \w+ with \d+ answers`})
	})
	t.Run("names", func(t *testing.T) {
		program(t, "dnsmasq")
		startServer(t, h.lab, "10.77.0.1:5301", exec.Command("dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=5301", "--listen-address="+kernelHost,
			"--bind-interfaces", "--no-resolv", "--no-hosts", "--local=/example/", "--address=/a.example/10.77.0.1", "--user="))
		h.net.Resolver = &socket.DNS{Net: h.net, Servers: []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr(kernelHost), 5301)}}
		defer func() { h.net.Resolver = nil }()
		r := check.Check(t.Context(), h.net, check.Request{Host: "a.example", Port: 5301})
		if !r.OK || r.Lookup <= 0 || r.Addr.String() != "10.77.0.1:5301" || r.Total < r.Lookup+r.Connect {
			t.Errorf("%+v", r)
		}
		r = check.Check(t.Context(), h.net, check.Request{Host: "b.example", Port: 5301})
		if r.OK || r.Phase != check.PhaseResolve || r.ErrnoName != "EAI_NONAME" || r.Verdict != check.Unresolved {
			t.Errorf("%+v", r)
		}
	})
	t.Run("chrony", func(t *testing.T) {
		path := program(t, "chronyd")
		dir, owner := userDir(t), "root"
		if ordinary() {
			owner = "nobody"
		}
		config := write(t, dir, "chrony.conf", strings.NewReader("port 1123\nallow all\nlocal stratum 8\ncmdport 0\nbindcmdaddress /\npidfile "+dir+"/pid\n"))
		daemon(t, h.lab, path, "-x", "-d", "-U", "-u", owner, "-f", config)
		eventually(t, patience, "an answer of chronyd", func() bool {
			q := check.Request{Host: kernelHost, Port: 1123, Timeout: time.Second}
			check.LookupService("ntp").Apply(&q)
			return check.Check(t.Context(), h.net, q).OK
		})
		ntp := check.Request{UDP: true, Payload: append([]byte{0x23}, make([]byte, 47)...)}
		probeAll(t, h, pool, probe{port: 1123, q: ntp}, probe{port: 1123, service: "ntp", banner: ".*", summary: `NTP, stratum 8, clock [+-]\d+\.\d\d\d ms`, more: sameClock})
	})
}

// TestCheckFirewall: what the kernel host's firewall does with a SYN, as a
// verdict; and hosts that are not there.
func TestCheckFirewall(t *testing.T) {
	t.Parallel()
	program(t, "nft")
	h := newHost(t, newLab(t), hostOptions{parallel: true, nic: stack.InterfaceConfig{NoDAD: true}})
	h.expect("what waited for the host that does not exist", "ipv4.drop.no-neighbour", "ipv6.drop.no-neighbour")
	h.expect("the kernel asks for it, too", "arp.drop.not-ours")
	h.hangingUp("closed ports, and connections given up")
	run(t, within(t, patience), h.lab, "nft", `table inet check {
		chain in {
			type filter hook input priority 0;
			tcp dport 81 reject with icmpx type admin-prohibited
			tcp dport 82 drop
			tcp dport 83 reject with tcp reset
			tcp dport 84 reject with icmpx type host-unreachable
			udp dport 81 reject with icmpx type admin-prohibited
			udp dport 82 drop
		}
	}`)
	eachFamily(t, func(t *testing.T, fam family) {
		six := fam.kernel.Addr().Is6()
		for side, do := range checks(t, h) {
			t.Run(side, func(t *testing.T) {
				t.Parallel() // most of it is waiting
				for _, tc := range []struct {
					port  uint16 // from 82 nothing comes
					udp   bool
					host  netip.Addr
					want  check.Verdict
					errno string
					code4 uint8 // of type 3
					code6 uint8 // of type 1
					from  bool  // the kernel host says so
				}{
					{port: 80, want: check.Closed, errno: "ECONNREFUSED"},
					{port: 81, want: check.Rejected, errno: "EHOSTUNREACH", code4: 13, code6: 1, from: true},
					{port: 82, want: check.Filtered, errno: "ETIMEDOUT"},
					{port: 83, want: check.Closed, errno: "ECONNREFUSED"},
					{port: 84, want: check.Rejected, errno: "EHOSTUNREACH", code4: 1, code6: 3, from: true},
					{port: 80, udp: true, want: check.Closed, errno: "ECONNREFUSED"},
					{port: 81, udp: true, want: check.Rejected, errno: "EHOSTUNREACH", code4: 13, code6: 1, from: true},
					{port: 82, udp: true, want: check.Filtered, errno: "ETIMEDOUT"},
					{port: 80, host: fam.nobody, want: check.NoNeighbour, errno: "EHOSTUNREACH"},
					{port: 80, host: fam.remote, want: check.NoRoute, errno: "ENETUNREACH"},
				} {
					q := check.Request{Host: fam.kernel.Addr().String(), Port: tc.port, UDP: tc.udp, Timeout: patience}
					if tc.port == 82 {
						q.Timeout = 300 * time.Millisecond
					}
					if tc.host.IsValid() {
						q.Host = tc.host.String()
					}
					r := do(q)
					errno := tc.errno
					if six && tc.port == 81 {
						errno = "EACCES" // icmpv6_err_convert
					}
					if r.Verdict != tc.want || r.ErrnoName != errno {
						t.Errorf("port %d: %s, %s: %s", tc.port, r.Verdict, r.ErrnoName, r.Reason)
					}
					if !tc.from {
						continue
					}
					typ, code := uint8(3), tc.code4
					if six {
						typ, code = 1, tc.code6
					}
					if rep := r.Attempts[0].Report; rep == nil || rep.From != fam.kernel.Addr() || rep.Type != typ || rep.Code != code {
						t.Errorf("port %d: %+v", tc.port, rep)
					}
				}
			})
		}
	})
}
