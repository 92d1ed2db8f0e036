package service

// What the services say: one method for TCP and one for UDP each. Everything
// about accepting, limits and closing is in serve.go.

import (
	"io"
	"net"
	"sync"
	"time"
)

const (
	// smallBuffer is what a connection starts with, so that a thousand idle
	// ones cost little; largeBuffer is what it gets once a read has filled
	// that: a window's worth for each call.
	smallBuffer = 4 << 10
	largeBuffer = 128 << 10
	// drainTime is how long daytime waits for its client to close first.
	drainTime = time.Second
)

var (
	smallBuffers = sync.Pool{New: func() any { return new([smallBuffer]byte) }}
	largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}
)

// pump reads from src until it ends and hands every piece to sink. It returns
// nil at the end of the stream. The piece is valid during the call.
func pump(src io.Reader, sink func([]byte) error) error {
	small := smallBuffers.Get().(*[smallBuffer]byte)
	full, err := pumpWith(small[:], src, sink)
	smallBuffers.Put(small)
	if err != nil || !full {
		return err
	}
	large := largeBuffers.Get().(*[largeBuffer]byte)
	defer largeBuffers.Put(large)
	for err == nil && full {
		full, err = pumpWith(large[:], src, sink)
	}
	return err
}

// pumpWith is pump with one buffer; it returns true when a read has filled it.
func pumpWith(buf []byte, src io.Reader, sink func([]byte) error) (full bool, err error) {
	for {
		n, err := src.Read(buf)
		if n > 0 {
			if err := sink(buf[:n]); err != nil {
				return false, err
			}
		}
		switch {
		case err == io.EOF:
			return false, nil
		case err != nil:
			return false, err
		case n == len(buf):
			return true, nil
		}
	}
}

func throwAway([]byte) error { return nil }

// closeWrite sends FIN and keeps the other direction open, where the
// connection can do that.
func closeWrite(c net.Conn) error {
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return nil
}

// echo sends back what it receives (RFC 862). A client that has sent its last
// byte may still be owed many: its FIN is answered only after all of them.
func (s *Service) echo(c net.Conn) error {
	if err := pump(c, func(p []byte) error {
		_, err := c.Write(p)
		return err
	}); err != nil {
		return err
	}
	return closeWrite(c)
}

func (s *Service) echoDatagram(dst, request []byte) []byte { return append(dst, request...) }

// discard throws away what it receives (RFC 863).
func (s *Service) discard(c net.Conn) error { return pump(c, throwAway) }

// daytimeFormat is the first of the two forms that RFC 867 suggests:
// "Tuesday, February 22, 1982 17:37:43-PST".
const daytimeFormat = "Monday, January 2, 2006 15:04:05-MST\r\n"

// daytime sends the time as one line and closes (RFC 867). Whatever the client
// sends is thrown away, and read before closing: a connection closed over
// unread data is reset, which may overtake the line (RFC 2525 §2.17).
func (s *Service) daytime(c net.Conn) error {
	if _, err := c.Write(s.daytimeDatagram(nil, nil)); err != nil {
		return err
	}
	if err := closeWrite(c); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(drainTime)); err != nil {
		return err
	}
	return pump(c, throwAway)
}

func (s *Service) daytimeDatagram(dst, _ []byte) []byte {
	return s.now().AppendFormat(dst, daytimeFormat)
}

const (
	firstGraphic = ' ' // the first of the 95 printing characters of ASCII
	numGraphics  = 95
	lineLen      = 72 // characters of a line, to which CR and LF come
)

// pattern is the ring of RFC 864 often enough for large writes: line i begins
// with character i of the printing ones, so it repeats every 95 lines.
var pattern = func() []byte {
	const period = numGraphics * (lineLen + 2)
	p := make([]byte, 0, largeBuffer/period*period)
	for i := 0; len(p) < cap(p); i++ {
		for j := range lineLen {
			p = append(p, byte(firstGraphic+(i+j)%numGraphics))
		}
		p = append(p, '\r', '\n')
	}
	return p
}()

// chargen sends the pattern until the client closes, and throws away what it
// receives (RFC 864). A client's FIN alone does not end it, as it may only mean
// that the client has nothing to send; one that has closed answers with RST.
func (s *Service) chargen(c net.Conn) error {
	read := make(chan struct{})
	go func() {
		defer close(read)
		_ = pump(c, throwAway) // the write tells the same end
	}()
	var err error
	for err == nil {
		_, err = c.Write(pattern)
	}
	c.Close()
	<-read
	return err
}

// maxChargenDatagram is the largest answer over UDP (RFC 864).
const maxChargenDatagram = 512

func (s *Service) chargenDatagram(dst, _ []byte) []byte {
	return append(dst, pattern[:s.intn(maxChargenDatagram+1)]...)
}
