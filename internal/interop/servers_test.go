package interop

// Servers that were written for the kernel's sockets, reached through the
// stack: nginx by the standard library's client, redis and sshd by their own
// clients through a proxy.

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/tapstack/tapstack/ether/tap"
	"github.com/tapstack/tapstack/stack"
)

// newServed is a host for tests of servers.
func newServed(t *testing.T) *host {
	t.Helper()
	h := newHost(t, newLab(t), hostOptions{parallel: true, offload: tap.OffloadRequire, nic: stack.InterfaceConfig{NoDAD: true}})
	h.hangingUp("the ends of connections that one side has finished with first")
	return h
}

const nginxConfig = `daemon off;
%[2]s
pid %[1]s/nginx.pid;
error_log stderr;
worker_processes 2;
events { worker_connections 1000; }
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	sendfile on;
	tcp_nopush on;
	types { text/plain txt; }
	gzip on;
	gzip_types text/plain;
	gzip_min_length 100;
	keepalive_requests 100000;
	server {
		listen 10.77.0.1:8080;
		listen [fd77::1]:8080;
		root %[1]s;
	}
}
`

// TestNginx fetches files: large ones, small ones by hundreds over one
// connection, many at once, parts, and what the server compresses.
func TestNginx(t *testing.T) {
	t.Parallel()
	program(t, "nginx")
	h := newServed(t)
	dir := userDir(t)
	user := ""
	if !ordinary() {
		user = "user root root; master_process off;" // it would want to become another user, and there is none
	}
	config := write(t, dir, "nginx.conf", strings.NewReader(fmt.Sprintf(nginxConfig, dir, user)))
	const large, small = 50 << 20, 100
	write(t, dir, "large", file(large))
	for i := range small {
		write(t, dir, fmt.Sprintf("%d.bin", i), file(int64(i*i*10)))
	}
	text := bytes.Repeat([]byte("a text that is easy to make small\n"), 100_000)
	write(t, dir, "text.txt", bytes.NewReader(text))
	runServer(t, h.lab, "10.77.0.1:8080", "nginx", "-e", "stderr", "-p", dir, "-c", config)

	transport := &http.Transport{MaxIdleConnsPerHost: 100, DialContext: h.net.DialContext}
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport, Timeout: endurance}
	get := func(url, part string) (*http.Response, []byte, error) {
		r, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
		if err != nil {
			return nil, nil, err
		}
		if part != "" {
			r.Header.Set("Range", "bytes="+part)
		}
		resp, err := client.Do(r)
		if err != nil {
			return nil, nil, err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return resp, b, err
	}
	eachFamily(t, func(t *testing.T, fam family) {
		url := "http://" + addr(fam.kernel.Addr(), 8080) + "/"
		// One connection does for one request after the other. A transport opens
		// another one when its own goroutines are late.
		conn := dial(t, h.ourSide(), "tcp", addr(fam.kernel.Addr(), 8080), endurance)
		answers := bufio.NewReader(conn)
		for round := range 3 {
			for i := range small {
				b, err := ask(conn, answers, fmt.Sprintf("%s%d.bin", url, i))
				if want := contents(int64(i * i * 10)); err != nil || !bytes.Equal(b, want) {
					t.Fatalf("round %d, file %d: %d bytes, %v", round, i, len(b), err)
				}
			}
		}
		conn.Close()
		// What is fetched in parallel has connections of its own.
		var wg sync.WaitGroup
		for i := range small {
			wg.Go(func() {
				_, b, err := get(fmt.Sprintf("%s%d.bin", url, i), "")
				if want := contents(int64(i * i * 10)); err != nil || !bytes.Equal(b, want) {
					t.Errorf("in parallel, file %d: %d bytes, %v", i, len(b), err)
				}
			})
		}
		wg.Wait()
		if resp, b, err := get(url+"text.txt", ""); err != nil || !resp.Uncompressed || !bytes.Equal(b, text) {
			t.Errorf("compressed: %d bytes, %v", len(b), err)
		}
		want := contents(large)
		if resp, b, err := get(url+"large", "1000000-4999999"); err != nil || resp.StatusCode != http.StatusPartialContent || !bytes.Equal(b, want[1e6:5e6]) {
			t.Errorf("part: %d bytes, %v", len(b), err)
		}
		resp, err := client.Get(url + "large")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if got, want := sum(t, resp.Body), sum(t, file(large)); got != want {
			t.Errorf("large: SHA-256 %s, want %s", got, want)
		}
		if resp, _, err := get(url+"none", ""); err != nil || resp.StatusCode != http.StatusNotFound {
			t.Errorf("what is not there: %v", err)
		}
	})
}

// ask fetches a file over a connection that is to stay.
func ask(conn net.Conn, answers *bufio.Reader, url string) ([]byte, error) {
	r, err := http.NewRequest("GET", url, nil)
	if err == nil {
		err = r.Write(conn)
	}
	if err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(answers, r)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(resp.Body)
	if err == nil && (resp.Close || resp.StatusCode != http.StatusOK) {
		err = fmt.Errorf("%s, to be closed: %v", resp.Status, resp.Close)
	}
	return b, err
}

// contents is file in memory.
func contents(n int64) []byte {
	b, _ := io.ReadAll(file(n))
	return b
}

// TestRedis lets redis-benchmark work through the stack, which fails on any
// error, and talks to the server itself with more requests under way than
// answers read.
func TestRedis(t *testing.T) {
	t.Parallel()
	program(t, "redis-benchmark")
	h := newServed(t)
	const server, port = "10.77.0.1:6379", 6379
	runServer(t, h.lab, server, "redis-server", "--bind", "10.77.0.1", "--port", strconv.Itoa(port), "--dir", userDir(t),
		"--save", "", "--appendonly", "no", "--protected-mode", "no")
	h.proxy(t, port, server)

	eachFamily(t, func(t *testing.T, fam family) {
		for _, flags := range [][]string{
			{"-t", "ping,set,get,incr,lpush,lpop", "-n", "2000", "-c", "50"},
			{"-t", "set,get", "-n", "20000", "-c", "10", "-P", "50"},
			{"-t", "set,get", "-n", "500", "-c", "5", "-d", "100000"},
			{"-t", "set", "-n", "300", "-c", "5", "-k", "0"}, // a connection for each request
		} {
			argv := append([]string{"redis-benchmark", "-h", fam.ours.Addr().String(), "-p", strconv.Itoa(port), "-q"}, flags...)
			if out := run(t, within(t, endurance), h.lab, argv...); !strings.Contains(out, "requests per second") || strings.Contains(out, "Error") {
				t.Errorf("%s\n%s", strings.Join(argv, " "), out)
			}
		}
	})

	t.Run("our client", func(t *testing.T) {
		c := dial(t, h.ourSide(), "tcp", server, endurance)
		in := bufio.NewReader(c)
		const requests = 20_000
		sent := make(chan error, 1)
		go func() {
			out := bufio.NewWriter(c)
			for range requests {
				io.WriteString(out, "*2\r\n$4\r\nINCR\r\n$2\r\nnn\r\n")
			}
			sent <- out.Flush()
		}()
		for i := 1; i <= requests; i++ {
			line, err := in.ReadString('\n')
			if want := fmt.Sprintf(":%d\r\n", i); err != nil || line != want {
				t.Fatalf("answer %q, %v; want %q", line, err, want)
			}
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
		value := contents(5_000_000)
		go func() {
			fmt.Fprintf(c, "*3\r\n$3\r\nSET\r\n$1\r\nv\r\n$%d\r\n", len(value))
			c.Write(value)
			_, err := io.WriteString(c, "\r\n*2\r\n$3\r\nGET\r\n$1\r\nv\r\n")
			sent <- err
		}()
		want := append(fmt.Appendf([]byte("+OK\r\n"), "$%d\r\n", len(value)), value...)
		got := make([]byte, len(want))
		if _, err := io.ReadFull(in, got); err != nil || !bytes.Equal(got, want) {
			t.Errorf("the value came otherwise, %v", err)
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
	})
}

const sshdConfig = `ListenAddress 10.77.0.1:2222
HostKey %[1]s/host
AuthorizedKeysFile %[1]s/user.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
Subsystem sftp internal-sftp
`

// TestOpenSSH logs in, runs commands, copies files and forwards ports with the
// openssh client, to sshd through the stack. Sshd runs as the user that it lets
// in, for whom the lab has another list of users, with a shell.
func TestOpenSSH(t *testing.T) {
	t.Parallel()
	for _, p := range []string{"ssh", "scp", "ssh-keygen", "mount", "setpriv"} {
		program(t, p)
	}
	sshd := "/usr/sbin/sshd" // which wants its own path, and is not in everybody's
	program(t, sshd)
	if !ordinary() {
		t.Skip("sshd does not run in a user namespace with one user; run as root")
	}
	h := newServed(t)
	dir := userDir(t)
	for _, key := range []string{"host", "user"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, key)).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	if err := os.Chown(filepath.Join(dir, "host"), nobody, nobody); err != nil {
		t.Fatal(err)
	}
	hostKey, err := os.ReadFile(filepath.Join(dir, "host.pub"))
	if err != nil {
		t.Fatal(err)
	}
	known := write(t, dir, "known", strings.NewReader("stack "+string(hostKey)))
	users := write(t, dir, "passwd", strings.NewReader(fmt.Sprintf("root:x:0:0::/:/bin/sh\nanna:x:%d:%[1]d::%s:/bin/sh\n", nobody, dir)))
	config := write(t, dir, "sshd.conf", strings.NewReader(fmt.Sprintf(sshdConfig, dir)))
	c := exec.Command("sh", "-c", `mount --bind "$1" /etc/passwd && exec setpriv --reuid "$2" --regid "$2" --clear-groups "$3" -D -e -f "$4"`,
		"sshd", users, strconv.Itoa(nobody), sshd, config)
	c.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	startServer(t, h.lab, "10.77.0.1:2222", c)
	h.proxy(t, 22, "10.77.0.1:2222")

	options := []string{"-F", "none", "-i", filepath.Join(dir, "user"), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes",
		"-o", "UserKnownHostsFile=" + known, "-o", "HostKeyAlias=stack", "-o", "ConnectTimeout=30", "-o", "LogLevel=ERROR"}
	const size = 8 << 20
	data := write(t, t.TempDir(), "data", file(size))
	want := sum(t, file(size))
	eachFamily(t, func(t *testing.T, fam family) {
		ctx := within(t, endurance)
		target := "anna@" + fam.ours.Addr().String()
		ssh := func(script string) string {
			t.Helper()
			line := fmt.Sprintf(`data=%q; target=%q; %s`, data, target, script)
			return run(t, ctx, h.lab, append([]string{"sh", "-c", line, "sh"}, options...)...)
		}
		if out := ssh(`ssh "$@" $target 'id -u; exit 7'; echo $?`); out != fmt.Sprintf("%d\n7\n", nobody) {
			t.Errorf("a command: %q", out)
		}
		if out := ssh(`ssh "$@" $target sha256sum <"$data"`); !strings.HasPrefix(out, want) {
			t.Errorf("to it: %q, want %s", out, want)
		}
		if out := ssh(fmt.Sprintf(`ssh "$@" $target 'head -c %d /dev/zero' | sha256sum`, size)); !strings.HasPrefix(out, sum(t, io.LimitReader(zeros{}, size))) {
			t.Errorf("from it: %q", out)
		}
		host := "anna@[" + fam.ours.Addr().String() + "]"
		copied := filepath.Join(t.TempDir(), "copied")
		ssh(fmt.Sprintf(`scp -q "$@" "$data" '%s:copy' && scp -q "$@" '%[1]s:copy' %q`, host, copied))
		f, err := os.Open(copied)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if got := sum(t, f); got != want {
			t.Errorf("copied there and back: SHA-256 %s, want %s", got, want)
		}

		// Forwarded to an echo on the kernel host, from a port of the kernel's.
		echo, err := h.lab.ListenKernel("tcp", "10.77.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var serving sync.WaitGroup
		serving.Go(func() {
			for {
				c, err := echo.Accept()
				if err != nil {
					return
				}
				serving.Go(func() {
					io.Copy(c, c)
					c.Close()
				})
			}
		})
		defer serving.Wait()
		defer echo.Close()
		const local = "10.77.0.1:2223"
		argv := append(append([]string{}, options...), "-N", "-o", "ExitOnForwardFailure=yes", "-L", local+":"+echo.Addr().String(), target)
		tunnel := exec.Command(program(t, "ssh"), argv...)
		t.Run("forward", func(t *testing.T) {
			startServer(t, h.lab, local, tunnel)
			c := dial(t, h.kernelSide(), "tcp", local, endurance)
			sent := make(chan error, 1)
			go func() {
				_, err := io.Copy(c, file(size))
				c.(*net.TCPConn).CloseWrite()
				sent <- err
			}()
			if got := sum(t, c); got != want {
				t.Errorf("forwarded: SHA-256 %s, want %s", got, want)
			}
			if err := <-sent; err != nil {
				t.Error(err)
			}
		})
	})
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
