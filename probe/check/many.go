package check

// This file owns many checks at once: a list of targets, so many of them under
// way at a time, and results in the order of the list.

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"

	"github.com/tapstack/tapstack/socket"
)

// MaxTargets and MaxParallel bound a list, and how many are under way.
const (
	MaxTargets  = 1_000_000
	MaxParallel = 10_000
)

// Many does all requests, parallel of them at a time, and calls each with the
// results, one after the other and in the order of the requests. done, if it is
// not nil, is called when any has ended; calls of the two do not overlap. When
// ctx ends, those that have not begun are cancelled.
func Many(ctx context.Context, n socket.System, list []Request, parallel int, each func(i int, r *Result), done func(r *Result)) {
	parallel = min(max(parallel, 1), MaxParallel)
	var mu sync.Mutex // guards waiting and next, and the calls
	waiting := make(map[int]*Result)
	next := 0
	slots := make(chan struct{}, parallel)
	var wg sync.WaitGroup
	for i := range list {
		slots <- struct{}{}
		wg.Go(func() {
			r := Check(ctx, n, list[i])
			<-slots
			mu.Lock()
			defer mu.Unlock()
			if done != nil {
				done(r)
			}
			for waiting[i] = r; waiting[next] != nil; next++ {
				each(next, waiting[next])
				delete(waiting, next)
			}
		})
	}
	wg.Wait()
}

// ReadTargets reads a list of targets: on each line a host and a port, or a
// service, or both, "10.77.0.1 22", "fd77::1 ssh", "mail.example 2525 smtp".
// What a line does not say is as in like. Empty lines, and what follows a "#",
// are ignored.
func ReadTargets(r io.Reader, like Request) (list []Request, err error) {
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		words := strings.Fields(text)
		if len(words) == 0 {
			continue
		}
		q := like
		if err := q.target(words); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if list = append(list, q); len(list) > MaxTargets {
			return nil, fmt.Errorf("more than %d targets", MaxTargets)
		}
	}
	return list, lines.Err()
}

// target fills in what the words of a line say.
func (q *Request) target(words []string) error {
	q.Host = words[0]
	service := q.Service
	for _, w := range words[1:] {
		if s := LookupService(w); s != nil {
			service = s
			continue
		}
		port, err := ParsePort(w)
		if err != nil {
			return fmt.Errorf("%q is neither a port nor a service", w)
		}
		q.Port = port
	}
	if service != nil {
		service.Apply(q)
	}
	if q.Port == 0 {
		return errors.New("no port")
	}
	return nil
}

// ParsePort reads a port: 1 to 65535.
func ParsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is no port: want a number from 1 to 65535", s)
	}
	return uint16(n), nil
}

// ParseHex reads bytes in hexadecimal as Python's bytes.fromhex does: with
// blanks between bytes, if any.
func ParseHex(s string) ([]byte, error) {
	var out []byte
	for _, word := range strings.FieldsFunc(s, func(c rune) bool { return strings.ContainsRune(" \t\n\r\v\f", c) }) {
		b, err := hex.DecodeString(word)
		if err != nil {
			return nil, errors.New("Invalid hex payload") //lint:ignore ST1005 it is pyminitcp's
		}
		out = append(out, b...)
	}
	return out, nil
}

// BadPayload is the result for a request whose payload could not be read;
// nothing was tried.
func BadPayload(q Request, err error) *Result {
	r := &Result{Host: q.Host, Port: q.Port, Network: "tcp", Verdict: Failed, Reason: err.Error(), Failure: Failure{Phase: PhaseSend, Text: err.Error()}}
	if q.UDP {
		r.Network = "udp"
	}
	return r
}
