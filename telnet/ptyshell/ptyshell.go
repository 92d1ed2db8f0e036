// Package ptyshell serves a program of this host to telnet's clients, each with
// a pseudo terminal of its own. This file owns the session: bytes, window size,
// commands, go-ahead, and the end of the program or of the client. What the
// program is told of the client is in environ.go, the terminal's settings are
// in terminal.go.
package ptyshell

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/creack/pty"

	"github.com/tapstack/tapstack/telnet"
	"github.com/tapstack/tapstack/telnet/engine"
	"github.com/tapstack/tapstack/telnet/option"
)

const (
	idleGA    = 500 * time.Millisecond // quiet for so long, the program waits for input
	grace     = 500 * time.Millisecond // from SIGHUP to SIGKILL
	lastOut   = time.Second            // quiet for so long, a program that has ended has left nothing to say
	lastWords = 30 * time.Second       // for all of it
	inputWait = 10 * time.Second       // for a program that does not take what is typed
	bufSize   = 32 << 10
)

// Exec is a telnet.Handler that runs a program for each session. Its method
// Event must be the Event of the server's Config, or be called from there:
// telnet's commands come that way.
type Exec struct {
	Program string
	Args    []string
	// Raw begins without line editing and echo on the terminal.
	Raw bool
	// IdleGA is how long the program must be quiet before the client is told
	// that it is its turn: 500 ms if zero. Who agreed to SUPPRESS GO AHEAD is
	// not told, nor anybody with Config.NeverGA.
	IdleGA time.Duration
	Logger *slog.Logger // nil: slog.Default

	mu       sync.Mutex
	sessions map[*telnet.Conn]*os.File // terminals' masters
}

// argsKey is of a context's arguments.
type argsKey struct{}

// WithArgs is ctx with more arguments, behind Args, for the session that is
// served with it.
func WithArgs(ctx context.Context, args ...string) context.Context {
	return context.WithValue(ctx, argsKey{}, args)
}

// ServeTELNET implements telnet.Handler.
func (x *Exec) ServeTELNET(ctx context.Context, c *telnet.Conn) {
	log := x.Logger
	if log == nil {
		log = slog.Default()
	}
	log = log.With("peer", c.RemoteAddr().String(), "program", x.Program)
	info := c.Info()
	// The size counts from here on.
	sizes := c.Resizes()
	master, cmd, err := x.start(ctx, &info, c.On(engine.Us, engine.Echo))
	if err != nil {
		log.Error("telnet: pty", "err", err)
		io.WriteString(c, "The program cannot be run.\r\n")
		return
	}
	log.Info("telnet: pty", "pid", cmd.Process.Pid)
	x.register(c, master)
	defer x.register(c, nil)

	var wg sync.WaitGroup
	over := make(chan struct{})
	wg.Go(func() { resize(master, sizes, over) })
	out := &output{c: c, master: master, done: make(chan struct{})}
	wg.Go(func() { out.run(cmp.Or(max(x.IdleGA, 0), idleGA)) })
	interrupt := func() {
		c.SetDeadline(time.Unix(1, 0))
		master.SetWriteDeadline(time.Unix(1, 0))
	}
	exited := make(chan struct{})
	wg.Go(func() {
		cmd.Wait() // what is to be known of it is in the state
		close(exited)
		log.Info("telnet: pty over", "pid", cmd.Process.Pid, "state", cmd.ProcessState.String())
		out.drain(over)
		interrupt()
	})
	stop := context.AfterFunc(ctx, interrupt)

	io.Copy(typed{master}, c.Keys())

	stop()
	close(over)
	end(cmd.Process.Pid, exited)
	master.Close()
	c.SetDeadline(time.Unix(1, 0)) // of who is still writing
	wg.Wait()
	c.SetDeadline(time.Time{})
}

// typed is a terminal as what a user types at. What a program does not take for
// too long is lost, as it is when a terminal's queue is full: else nobody would
// hear an interrupt, or notice that the client has gone.
type typed struct{ master *os.File }

// Write implements io.Writer.
func (t typed) Write(p []byte) (int, error) {
	t.master.SetWriteDeadline(time.Now().Add(inputWait))
	n, err := t.master.Write(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return len(p), nil
	}
	return n, err
}

func (x *Exec) register(c *telnet.Conn, master *os.File) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if master == nil {
		delete(x.sessions, c)
		return
	}
	if x.sessions == nil {
		x.sessions = make(map[*telnet.Conn]*os.File)
	}
	x.sessions[c] = master
}

// start runs the program on a new terminal.
func (x *Exec) start(ctx context.Context, info *telnet.Info, echo bool) (master *os.File, cmd *exec.Cmd, err error) {
	master, slave, err := pty.Open()
	if err != nil {
		return nil, nil, err
	}
	defer slave.Close()
	more, _ := ctx.Value(argsKey{}).([]string)
	cmd = exec.Command(x.Program, slices.Concat(x.Args, more)...)
	cmd.Env = environ(os.Environ(), info)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	err = errors.Join(setSize(master, info.Size), prepare(slave, echo && !x.Raw, !x.Raw, info.Charset))
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		master.Close()
		return nil, nil, err
	}
	return master, cmd, nil
}

// resize passes the client's window sizes on; the kernel tells the program by
// SIGWINCH.
func resize(master *os.File, sizes <-chan option.Size, over <-chan struct{}) {
	for {
		select {
		case s := <-sizes:
			setSize(master, s)
		case <-over:
			return
		}
	}
}

// output is the way from a terminal to a client.
type output struct {
	c      *telnet.Conn
	master *os.File
	done   chan struct{} // closed when there will be no more
	busy   atomic.Bool   // something is being written to the client
	count  atomic.Uint64 // of writes
}

// run passes on what the program writes until its terminal is closed, and tells
// the client that it is its turn when it has been quiet for d.
func (o *output) run(d time.Duration) {
	defer close(o.done)
	idle := time.AfterFunc(d, func() { o.c.GoAhead() })
	defer idle.Stop()
	var fold crFolder
	buf, folded := make([]byte, bufSize), []byte(nil)
	for {
		n, err := o.master.Read(buf)
		if n > 0 {
			idle.Stop()
			b := buf[:n]
			if !o.c.On(engine.Us, engine.Binary) {
				folded = fold.append(folded[:0], b)
				b = folded
			}
			o.busy.Store(true)
			_, err := o.c.Write(b)
			o.busy.Store(false)
			o.count.Add(1)
			if err != nil {
				return
			}
			idle.Reset(d)
		}
		if err != nil { // EIO: nobody has the terminal open any more
			return
		}
	}
}

// drain waits for the last words of a program that has ended. A slow client gets
// them; a descendant that holds the terminal and is quiet is not waited for, nor
// one that never is, for ever.
func (o *output) drain(over <-chan struct{}) {
	all := time.NewTimer(lastWords)
	defer all.Stop()
	quiet := time.NewTicker(lastOut)
	defer quiet.Stop()
	for last := o.count.Load(); ; last = o.count.Load() {
		select {
		case <-o.done:
			return
		case <-over:
			return
		case <-all.C:
			return
		case <-quiet.C:
			if !o.busy.Load() && o.count.Load() == last {
				return
			}
		}
	}
}

// crFolder makes a CR that is alone CR NUL, as the NVT wants it (RFC 854).
type crFolder struct{ afterCR bool }

func (f *crFolder) append(dst, src []byte) []byte {
	for _, b := range src {
		if f.afterCR && b != '\n' {
			dst = append(dst, 0)
		}
		dst = append(dst, b)
		f.afterCR = b == '\r'
	}
	return dst
}

// end makes the program's process group go: a hang-up, and if that does not do
// within grace, SIGKILL.
func end(pid int, exited <-chan struct{}) {
	select {
	case <-exited: // the kernel has hung up on what it left behind
		return
	default:
	}
	syscall.Kill(-pid, syscall.SIGHUP)
	syscall.Kill(-pid, syscall.SIGCONT) // a stopped one hears nothing
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-exited:
	case <-t.C:
		syscall.Kill(-pid, syscall.SIGKILL)
		<-exited
	}
}

// Event passes telnet's commands to the program of a session. It is to be
// called from Config.Event.
func (x *Exec) Event(c *telnet.Conn, ev engine.Event) {
	if ev.Kind != engine.Cmd {
		return
	}
	x.mu.Lock()
	master := x.sessions[c]
	x.mu.Unlock()
	if master != nil {
		command(master, ev.Cmd)
	}
}
