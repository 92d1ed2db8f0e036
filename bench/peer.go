package main

// This file owns what all peers have in common: a server in a process of its
// own, that is started, says when it is ready, and is ended.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A peer is a network stack to measure. It serves what serve.go says at an
// address that the driver's network reaches.
type peer interface {
	// name heads the peer's column; about is a line on what it is.
	name() string
	about() string
	addr() netip.Addr
	// start makes the network to the server and starts it. After an error
	// stop need not be called.
	start(ctx context.Context) error
	stop() error
	pid() int
}

const (
	startLimit = 10 * time.Second
	stopLimit  = 5 * time.Second
)

// process is a server process. Its end is noticed only when asked for.
type process struct {
	cmd    *exec.Cmd
	took   time.Duration // from the start to the line "ready"
	stderr bytes.Buffer  // valid after the end
	ended  chan error
}

// self is this program in the role of a server.
func self(server string, args ...string) *exec.Cmd {
	return exec.Command("/proc/self/exe", append([]string{"serve", server}, args...)...)
}

// launch starts a server and returns when it has printed a line that starts
// with "ready". The calling goroutine has to be locked to its thread.
func launch(ctx context.Context, cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, ended: make(chan error, 1)}
	out := &readyWriter{ready: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = out, &p.stderr
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	cmd.SysProcAttr.Setpgid = true // an interrupt is ours to handle
	cmd.WaitDelay = stopLimit      // for what it has started itself
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() { p.ended <- cmd.Wait() }()
	late := time.NewTimer(startLimit)
	defer late.Stop()
	select {
	case <-out.ready:
		p.took = out.at.Sub(start)
		return p, nil
	case err := <-p.ended:
		p.ended <- err
		return nil, fmt.Errorf("ended before it was ready: %w", p.failure(err))
	case <-late.C:
		return nil, errors.Join(fmt.Errorf("not ready after %v", startLimit), p.end(syscall.SIGKILL))
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), p.end(syscall.SIGKILL))
	}
}

// end sends a signal and waits for the process, but not for ever. That the
// signal has ended it is no error.
func (p *process) end(s syscall.Signal) error {
	// Fails only when it has ended already.
	_ = p.cmd.Process.Signal(s)
	kill := time.AfterFunc(stopLimit, func() { p.cmd.Process.Kill() })
	err := <-p.ended
	p.ended <- err
	if !kill.Stop() {
		return fmt.Errorf("did not end %v after %v", stopLimit, s)
	}
	if ws, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() && ws.Signal() == s {
		return nil
	}
	return p.failure(err)
}

func (p *process) stop() error { return p.end(syscall.SIGTERM) }

// failure adds what the process has written to how it has ended.
func (p *process) failure(err error) error {
	text := strings.TrimSpace(p.stderr.String())
	if err == nil || text == "" {
		return err
	}
	const limit = 500
	return fmt.Errorf("%w: %s", err, text[:min(len(text), limit)])
}

// readyWriter closes ready at the first line if that starts with "ready".
type readyWriter struct {
	ready chan struct{}
	at    time.Time // valid once ready is closed
	line  []byte
	once  sync.Once
}

func (w *readyWriter) Write(p []byte) (int, error) {
	const limit = 4096
	if len(w.line) < limit {
		w.line = append(w.line, p...)
	}
	if bytes.HasPrefix(w.line, []byte("ready")) && bytes.ContainsRune(w.line, '\n') {
		w.once.Do(func() {
			w.at = time.Now()
			close(w.ready)
		})
	}
	return len(p), nil
}

// awaitEcho returns when a byte has come back from the peer, so that address
// resolution is done and links are up before anything is measured.
func awaitEcho(p peer) error {
	const limit = 5 * time.Second
	for end := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		_, err := request(netip.AddrPortFrom(p.addr(), echoPort), "")
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("no echo for %v: %w", limit, err)
		}
	}
}
