// Tls-server is an echo service over TLS 1.3 on TCP port 4433. It shows that
// crypto/tls needs no more than the net.Conn of the stack. The certificate is
// made at the start and signed by nobody: a client knows the server by the
// fingerprint that this prints.
//
//	sudo make bridge tap && sudo go run ./examples/tls-server --tap tap7 --ip 10.77.0.7/24
//
// or without root, in the shell that `make lab` opens:
//
//	go run ./examples/tls-server &
//	openssl s_client -connect 10.77.0.7:4433
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"os"
	"time"

	"github.com/spf13/pflag"

	"github.com/tapstack/tapstack/examples/internal/relay"
	"github.com/tapstack/tapstack/internal/attach"
)

var port = pflag.String("port", "4433", "TCP `PORT` to listen on")

const (
	maxConns      = 256
	handshakeWait = 10 * time.Second
	idleWait      = 5 * time.Minute
)

func main() { attach.Main("", run) }

func run(ctx context.Context, host *attach.Host, _ []string) error {
	name, _ := os.Hostname() // the certificate may be without one
	cert, err := newCertificate(name)
	if err != nil {
		return err
	}
	config := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}
	ln, err := host.Net.Listen("tcp", ":"+*port) // both families
	if err != nil {
		return err
	}
	fmt.Printf("fingerprint=%x\n", sha256.Sum256(cert.Certificate[0]))
	return relay.Serve(ctx, ln, maxConns, func(conn net.Conn) {
		if err := serve(ctx, tls.Server(conn, config)); err != nil && ctx.Err() == nil {
			log.Printf("%v: %v", conn.RemoteAddr(), err)
		}
	})
}

// serve echoes until the client's close_notify, which is TLS's end of stream:
// a bare FIN, which anybody on the way can forge, is an error.
func serve(ctx context.Context, conn *tls.Conn) error {
	limited, cancel := context.WithTimeout(ctx, handshakeWait)
	defer cancel()
	if err := conn.HandshakeContext(limited); err != nil {
		return err
	}
	state := conn.ConnectionState()
	log.Printf("%v: %s, %s", conn.RemoteAddr(), tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite))
	buf := make([]byte, 16<<10) // the most that a record carries
	for {
		if err := conn.SetDeadline(time.Now().Add(idleWait)); err != nil {
			return err
		}
		n, err := conn.Read(buf)
		if err == io.EOF {
			return conn.CloseWrite() // close_notify from our side
		}
		if err != nil {
			return err
		}
		if _, err := conn.Write(buf[:n]); err != nil {
			return err
		}
	}
}

// newCertificate makes a key and a certificate that it signs itself, for a day.
func newCertificate(name string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-time.Minute), // clocks differ
		NotAfter:     now.Add(24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
