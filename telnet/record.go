package telnet

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// This file owns records of sessions: what passed on the wire, in both
// directions and with its times, one JSON object a line, and the way back from
// there to a net.Conn.

// chunk is a line of a record.
type chunk struct {
	At   float64 `json:"t"`              // seconds since the beginning
	Sent []byte  `json:"sent,omitempty"` // base64
	Got  []byte  `json:"got,omitempty"`
}

// Recorder writes the record of one session.
type Recorder struct {
	mu    sync.Mutex
	w     io.Writer
	start time.Time
	err   error
}

// NewRecorder makes a Recorder whose times begin now.
func NewRecorder(w io.Writer) *Recorder { return &Recorder{w: w, start: time.Now()} }

// Err returns the first error of writing; nothing was recorded since.
func (r *Recorder) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

func (r *Recorder) in(b []byte)  { r.add(chunk{Got: b}) }
func (r *Recorder) out(b []byte) { r.add(chunk{Sent: b}) }

func (r *Recorder) add(c chunk) {
	if r == nil || len(c.Got)+len(c.Sent) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return
	}
	c.At = time.Since(r.start).Seconds()
	line, err := json.Marshal(c)
	if err == nil {
		_, err = r.w.Write(append(line, '\n'))
	}
	r.err = err
}

// Replay is a net.Conn from which a recorded session is received again. What is
// written to it is thrown away.
type Replay struct {
	net.Conn
	far  net.Conn
	stop chan struct{}
	once sync.Once
	done chan struct{}
	err  error // before done is closed
}

// NewReplay makes a Replay. Speed is how much faster than it was; 0 is without
// any waiting. It must be closed.
func NewReplay(r io.Reader, speed float64) *Replay {
	p := &Replay{stop: make(chan struct{}), done: make(chan struct{})}
	p.Conn, p.far = net.Pipe()
	go io.Copy(io.Discard, p.far)
	go func() {
		defer close(p.done)
		p.err = p.play(json.NewDecoder(bufio.NewReader(r)), speed)
		p.far.Close()
	}()
	return p
}

func (r *Replay) play(lines *json.Decoder, speed float64) error {
	start := time.Now()
	for {
		var c chunk
		if err := lines.Decode(&c); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("telnet: record: %w", err)
		}
		if speed > 0 {
			at := start.Add(time.Duration(min(c.At/speed, 1e9) * float64(time.Second)))
			select {
			case <-r.stop:
				return nil
			case <-time.After(time.Until(at)):
			}
		}
		if _, err := r.far.Write(c.Got); err != nil {
			return nil // closed
		}
	}
}

// Close implements net.Conn.
func (r *Replay) Close() error {
	r.once.Do(func() { close(r.stop) })
	return r.Conn.Close()
}

// Err waits for the end of the record and returns what was wrong with it.
func (r *Replay) Err() error {
	<-r.done
	return r.err
}
