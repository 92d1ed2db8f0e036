// Tls-client sends its standard input to a server over TLS 1.3 and prints what
// comes back. It knows the server not by a name that somebody has signed, but
// by the fingerprint of its certificate, as ssh knows a host.
//
//	sudo make bridge tap
//	echo hello | sudo go run ./examples/tls-client --tap tap7 --ip 10.77.0.7/24 --fingerprint HEX 10.77.0.1:4433
//
// or without root, with a second stack to talk to, in a lab for two:
//
//	bin/tapstack lab run --hosts 2 -- sh -c 'go run ./examples/tls-server >/tmp/tls & sleep 5;
//	  echo hello | go run ./examples/tls-client --tap tap8 --ip 10.77.0.8/24 \
//	    --fingerprint $(sed -n s/^fingerprint=//p /tmp/tls) 10.77.0.7:4433'
package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/tapstack/tapstack/internal/attach"
)

var fingerprint = pflag.String("fingerprint", "", "SHA-256 of the server's certificate, in `HEX`, with colons or without")

// connectWait is for the connection and the handshake together.
const connectWait = 30 * time.Second

func main() { attach.Main("ADDRESS:PORT", run) }

func run(ctx context.Context, host *attach.Host, args []string) error {
	want, err := hex.DecodeString(strings.ReplaceAll(*fingerprint, ":", ""))
	if err != nil || len(want) != sha256.Size {
		return attach.Usagef("--fingerprint %q is not the %d hex digits of a SHA-256", *fingerprint, 2*sha256.Size)
	}
	limited, cancel := context.WithTimeout(ctx, connectWait)
	defer cancel()
	raw, err := host.Net.DialContext(limited, "tcp", args[0])
	if err != nil {
		return err
	}
	defer raw.Close()
	conn := tls.Client(raw, &tls.Config{
		MinVersion: tls.VersionTLS13,
		// No chain is checked, but this very certificate; that the server has
		// its key, the handshake proves in any case.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			if got := sha256.Sum256(s.PeerCertificates[0].Raw); string(got[:]) != string(want) {
				return fmt.Errorf("the certificate's fingerprint is %x, not the expected one", got)
			}
			return nil
		},
	})
	if err := conn.HandshakeContext(limited); err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { raw.Close() }) // ends reads and writes
	state := conn.ConnectionState()
	log.Printf("connected to %v: %s, %s", conn.RemoteAddr(), tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite))

	// What breaks the sending breaks the receiving too. It runs on when the
	// server ends first, for a read of standard input cannot be ended.
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(conn, os.Stdin)
		if err == nil {
			err = conn.CloseWrite() // the server may still owe us some
		} else {
			raw.Close()
		}
		sent <- err
	}()
	_, err = io.Copy(os.Stdout, conn)
	select {
	case serr := <-sent:
		return errors.Join(serr, err)
	default:
		return err
	}
}
