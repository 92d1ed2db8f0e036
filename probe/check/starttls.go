package check

// This file owns how TLS is begun within protocols that do not begin with it.

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// starters speak a protocol up to where TLS begins.
var starters = map[string]func(io.ReadWriter) error{
	"smtp":     startSMTP,
	"imap":     startIMAP,
	"pop3":     startPOP3,
	"ftp":      startFTP,
	"postgres": startPostgres,
	"mysql":    startMySQL,
}

// StartTLS names the protocols within which TLS can be begun.
func StartTLS() []string { return slices.Sorted(maps.Keys(starters)) }

// maxDialogue bounds a line, and how many lines an answer may have.
const (
	maxLine  = 4096
	maxLines = 100
)

// readLine reads a line byte by byte, so that nothing is taken of what follows:
// that may be TLS.
func readLine(r io.Reader) (string, error) {
	var line []byte
	b := make([]byte, 1)
	for len(line) < maxLine {
		if _, err := io.ReadFull(r, b); err != nil {
			return "", err
		}
		if b[0] == '\n' {
			return strings.TrimSuffix(string(line), "\r"), nil
		}
		line = append(line, b[0])
	}
	return "", errors.New("a line without end")
}

// readCode reads an answer of SMTP or FTP, of one line or several (RFC 5321
// §4.2.1, RFC 959 §4.2), and returns its lines.
func readCode(r io.Reader, want string) (lines []string, err error) {
	for range maxLines {
		line, err := readLine(r)
		if err != nil {
			return nil, err
		}
		lines = append(lines, line)
		first := lines[0]
		if len(first) < 3 || !strings.HasPrefix(first, want) {
			return nil, fmt.Errorf("answer %q", first)
		}
		if len(line) >= 3 && line[:3] == first[:3] && (len(line) == 3 || line[3] != '-') {
			return lines, nil
		}
	}
	return nil, errors.New("an answer without end")
}

// startSMTP is RFC 3207.
func startSMTP(rw io.ReadWriter) error {
	if _, err := readCode(rw, "220"); err != nil {
		return err
	}
	if _, err := io.WriteString(rw, "EHLO tapstack.invalid\r\n"); err != nil {
		return err
	}
	lines, err := readCode(rw, "250")
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(lines, func(l string) bool { return len(l) > 4 && strings.EqualFold(strings.TrimSpace(l[4:]), "STARTTLS") }) {
		return errors.New("the server does not offer it")
	}
	if _, err := io.WriteString(rw, "STARTTLS\r\n"); err != nil {
		return err
	}
	_, err = readCode(rw, "220")
	return err
}

// startFTP is RFC 4217.
func startFTP(rw io.ReadWriter) error {
	if _, err := readCode(rw, "220"); err != nil {
		return err
	}
	if _, err := io.WriteString(rw, "AUTH TLS\r\n"); err != nil {
		return err
	}
	_, err := readCode(rw, "234")
	return err
}

// startPOP3 is RFC 2595 §4.
func startPOP3(rw io.ReadWriter) error {
	for _, command := range []string{"", "STLS\r\n"} {
		if _, err := io.WriteString(rw, command); err != nil {
			return err
		}
		line, err := readLine(rw)
		if err == nil && !strings.HasPrefix(line, "+OK") {
			err = fmt.Errorf("answer %q", line)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// startIMAP is RFC 9051 §6.2.1.
func startIMAP(rw io.ReadWriter) error {
	line, err := readLine(rw)
	if err == nil && !strings.HasPrefix(line, "* OK") {
		err = fmt.Errorf("greeting %q", line)
	}
	if err == nil {
		_, err = io.WriteString(rw, "a1 STARTTLS\r\n")
	}
	for range maxLines {
		if err == nil {
			line, err = readLine(rw)
		}
		switch {
		case err != nil:
			return err
		case strings.HasPrefix(line, "a1 OK"):
			return nil
		case strings.HasPrefix(line, "a1 "):
			return fmt.Errorf("answer %q", line)
		}
	}
	return errors.New("an answer without end")
}

// postgresSSL is SSLRequest: its length and a version that no protocol has
// (PostgreSQL's manual, "Message Formats").
var postgresSSL = []byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}

func startPostgres(rw io.ReadWriter) error {
	if _, err := rw.Write(postgresSSL); err != nil {
		return err
	}
	b := make([]byte, 1)
	if _, err := io.ReadFull(rw, b); err != nil {
		return err
	}
	switch b[0] {
	case 'S':
		return nil
	case 'N':
		return errors.New("the server does not offer it")
	}
	return fmt.Errorf("answer %q", b)
}

// Capabilities of MySQL's protocol.
const (
	mysqlProtocol41 = 0x200
	mysqlSSL        = 0x800
	mysqlSecure     = 0x8000
)

// maxMySQL bounds a greeting.
const maxMySQL = 4096

// startMySQL reads the greeting and answers with the first part of a login,
// which asks for TLS (MySQL's manual, "Protocol::SSLRequest").
func startMySQL(rw io.ReadWriter) error {
	head := make([]byte, 4)
	if _, err := io.ReadFull(rw, head); err != nil {
		return err
	}
	n := int(head[0]) | int(head[1])<<8 | int(head[2])<<16
	if n > maxMySQL {
		return errors.New("the greeting is too long")
	}
	greeting := make([]byte, n)
	if _, err := io.ReadFull(rw, greeting); err != nil {
		return err
	}
	g, err := parseMySQL(append(head, greeting...))
	if err != nil {
		return err
	}
	if g.capabilities&mysqlSSL == 0 {
		return errors.New("the server does not offer it")
	}
	request := make([]byte, 4+32)
	request[0], request[3] = 32, head[3]+1
	binary.LittleEndian.PutUint32(request[4:], mysqlProtocol41|mysqlSSL|mysqlSecure)
	binary.LittleEndian.PutUint32(request[8:], 1<<24) // the largest packet
	request[12] = 33                                  // utf8_general_ci
	_, err = rw.Write(request)
	return err
}

// mysqlGreeting is what of it is of use.
type mysqlGreeting struct {
	version      string
	capabilities uint32
}

// parseMySQL reads the server's first packet (MySQL's manual,
// "Protocol::HandshakeV10"), or the error that it sends instead.
func parseMySQL(b []byte) (g mysqlGreeting, err error) {
	bad := errors.New("no greeting of MySQL")
	if len(b) < 6 {
		return g, bad
	}
	switch b = b[4:]; b[0] {
	case 0xff:
		if len(b) < 3 {
			return g, bad
		}
		return g, fmt.Errorf("the server refuses: %s", strings.ToValidUTF8(string(b[3:]), "\uFFFD"))
	case 10:
	default:
		return g, bad
	}
	end := bytes.IndexByte(b, 0)
	if end < 0 {
		return g, bad
	}
	g.version = strings.ToValidUTF8(string(b[1:end]), "\uFFFD")
	rest := b[end+1:]
	if len(rest) < 4+8+1+2 {
		return g, bad
	}
	g.capabilities = uint32(rest[13]) | uint32(rest[14])<<8
	return g, nil
}
