package check

// This file owns how failures are told: pyminitcp's texts, which are Python's,
// and the numbers and names of errors.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The errors of getaddrinfo(3), as glibc numbers them.
const (
	eaiNoName = -2
	eaiAgain  = -3
)

var eai = map[int]struct{ name, text string }{
	eaiNoName: {"EAI_NONAME", "Name or service not known"},
	eaiAgain:  {"EAI_AGAIN", "Temporary failure in name resolution"},
}

// Texts of errors that are no errno's.
const (
	textNoBanner  = "Timed out waiting for banner"
	textHungUp    = "Connection closed before banner"
	textTimedOut  = "Connection timed out"
	textClosed    = "Connection closed by the peer"
	textCancelled = "Cancelled"
)

// lookupFailure tells why a name has no address: that there is no such name,
// or that nobody could say.
func lookupFailure(err error) Failure {
	if errors.Is(err, context.Canceled) {
		return Failure{Phase: PhaseResolve, Text: textCancelled}
	}
	n := eaiAgain
	if e, ok := errors.AsType[*net.DNSError](err); ok && e.IsNotFound {
		n = eaiNoName
	}
	e := eai[n]
	return Failure{Phase: PhaseResolve, Text: fmt.Sprintf("Address-related error: [Errno %d] %s", n, e.text), Errno: n, ErrnoName: e.name, OSError: e.text}
}

// connectFailure tells why there is no connection. A time that was up is told
// as the error that the kernel would give in the end.
func connectFailure(err error) Failure {
	if errors.Is(err, context.Canceled) {
		return Failure{Phase: PhaseConnect, Text: textCancelled}
	}
	f := Failure{Phase: PhaseConnect}
	f.setErrno(orTimeout(err))
	f.Text = "Port is unreachable"
	if f.OSError != "" {
		f.Text += ": " + f.OSError
	} else {
		f.Text += ": " + err.Error()
	}
	return f
}

// ioFailure tells why sending or receiving failed.
func ioFailure(p Phase, err error) Failure {
	f := Failure{Phase: p}
	switch {
	case errors.Is(err, context.Canceled):
		f.Text = textCancelled
		return f
	case isTimeout(err):
		f.Text = textTimedOut
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		f.Text = textClosed
		return f
	}
	f.setErrno(orTimeout(err))
	if f.Text == "" {
		f.Text = "OS/socket error: " + err.Error()
		if f.Errno != 0 {
			f.Text = fmt.Sprintf("OS/socket error: [Errno %d] %s", f.Errno, f.OSError)
		}
	}
	return f
}

func orTimeout(err error) error {
	if isTimeout(err) {
		return syscall.ETIMEDOUT
	}
	return err
}

// setErrno fills in what an errno says, if err has one.
func (f *Failure) setErrno(err error) {
	if e, ok := errnoOf(err); ok {
		f.Errno, f.ErrnoName, f.OSError = int(e), unix.ErrnoName(e), strerror(e)
	}
}

// strerror is strerror(3), which Go writes with a small letter first.
func strerror(e syscall.Errno) string {
	s := e.Error()
	return strings.ToUpper(s[:1]) + s[1:]
}
