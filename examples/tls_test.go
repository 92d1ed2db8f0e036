package examples_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tapstack/tapstack/internal/lab"
)

// TestTLSServer talks to it with openssl and with crypto/tls.
func TestTLSServer(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	lab.RequireProgram(t, "openssl")
	p := start(t, l, 0, "tls-server")
	fingerprint := p.waitFor("fingerprint=")
	data := pattern(1e6)
	conn := tls.Client(dial(t, l, "[fd77::7]:4433"), &tls.Config{InsecureSkipVerify: true})
	go func() {
		if _, err := conn.Write(data); err != nil {
			t.Error(err)
		}
		if err := conn.CloseWrite(); err != nil {
			t.Error(err)
		}
	}()
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes of %d, %v", len(got), len(data), err)
	}
	state := conn.ConnectionState()
	if sum := fmt.Sprintf("%x", sha256.Sum256(state.PeerCertificates[0].Raw)); state.Version != tls.VersionTLS13 || sum != fingerprint {
		t.Errorf("%s, fingerprint %s and not %s", tls.VersionName(state.Version), sum, fingerprint)
	}

	s := spawn(t, l, "openssl", "s_client", "-connect", "10.77.0.7:4433", "-quiet", "-verify_quiet")
	fmt.Fprintln(s.in, "through openssl")
	s.waitFor("through openssl")
	s.in.Close()
	if out, err := run(t, l, "sh", "-c", "openssl s_client -connect 10.77.0.7:4433 -tls1_2 </dev/null"); err == nil || !strings.Contains(out, "alert protocol version") {
		t.Errorf("TLS 1.2: %v, %s", err, out)
	}
}

// TestTLSClient has two stacks talk to each other, and the client to openssl;
// it talks to nobody whose certificate is another.
func TestTLSClient(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	fingerprint := start(t, l, 0, "tls-server").waitFor("fingerprint=")
	c := spawn(t, l, command(t, l, 1, "tls-client", "--fingerprint", fingerprint, "10.77.0.7:4433")...)
	fmt.Fprintln(c.in, "hello")
	c.waitFor("hello")
	c.in.Close()
	if <-c.done; c.err != nil {
		t.Error(c.err)
	}

	wrong := strings.Repeat("ab", 32)
	out, err := run(t, l, command(t, l, 1, "tls-client", "--fingerprint", wrong, "[fd77::7]:4433")...)
	if status(err) != 1 || !strings.Contains(out, "tls-client: the certificate's fingerprint is "+fingerprint) {
		t.Errorf("another fingerprint: %v, %s", err, out)
	}

	lab.RequireProgram(t, "openssl")
	dir := t.TempDir()
	key, cert := filepath.Join(dir, "key"), filepath.Join(dir, "cert")
	must(t, l, "openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-days", "1", "-subj", "/CN=test", "-keyout", key, "-out", cert)
	_, colons, _ := strings.Cut(strings.TrimSpace(must(t, l, "openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in", cert)), "=")
	s := spawn(t, l, "openssl", "s_server", "-accept", "10.77.0.1:4434", "-key", key, "-cert", cert, "-tls1_3", "-rev", "-quiet")
	dial(t, l, "10.77.0.1:4434").Close() // it listens
	c = spawn(t, l, command(t, l, 1, "tls-client", "--fingerprint", colons, "10.77.0.1:4434")...)
	fmt.Fprintln(c.in, "desserts")
	c.waitFor("stressed")
	c.stop()
	_ = s.cmd.Process.Signal(os.Interrupt)
}
