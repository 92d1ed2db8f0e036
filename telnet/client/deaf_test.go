package client

import (
	"bytes"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstack/tapstack/telnet"
)

// TestAnswersNotTaken: a session is not lost because a command has given up to
// wait for a server that asks and takes no answers.
func TestAnswersNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		shown := &bytes.Buffer{}
		c := New(Config{In: bytes.NewReader(nil), Out: shown, Err: io.Discard})
		s := &session{c: c, conn: telnet.NewClientConn(near, nil), ready: make(chan struct{}), closing: make(chan struct{}), done: make(chan struct{}),
			changed: make(chan struct{}, 1)}
		s.conn.SetWriteDeadline(time.Unix(1, 0)) // as a command's, again and again
		go s.read()
		asked := make(chan bool)
		go func() {
			far.Write(bytes.Repeat([]byte("\xff\xfd\xc8"), 100_000))
			io.WriteString(far, "hello")
			close(asked)
		}()
		time.Sleep(time.Minute)
		select {
		case <-s.done:
			t.Fatal("the session is over: ", s.err)
		case <-asked:
			t.Error("all was read, though no answer was taken")
		default:
		}
		s.conn.SetWriteDeadline(time.Time{})
		go io.Copy(io.Discard, far)
		<-asked
		far.Close()
		<-s.done
		if shown.String() != "hello" || s.err != nil {
			t.Errorf("%q %v", shown.String(), s.err)
		}
	})
}
