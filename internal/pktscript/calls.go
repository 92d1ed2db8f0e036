package pktscript

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/socket"
)

// This file owns the system calls: a table by name, how one that blocks is
// tried again, and how results are compared.

// file is a descriptor of the script.
type file struct {
	fd        *socket.FD
	epoll     *epoll
	stream    bool
	listening bool
	served    bool // a connection has come; the next packets are its
	async     bool // O_NONBLOCK as the script sees it
	ownText   bool // the script writes text of its own
	wrote     uint32
	read      uint32
}

// awaits reports a socket whose next packet begins a connection: one that
// listens, or one that was made and never connected.
func (f *file) awaits() bool { return f.stream && !f.served }

// errBlocks is what a call returns that would have to wait.
var errBlocks = errors.New("the call blocks")

// sysCall is a call under way.
type sysCall struct {
	*Call
	at    *Event
	r     *runner
	begun mono.Time
	limit mono.Time // poll: when the wait is over
	done  int       // bytes written or read so far
	first bool      // the first attempt
}

// pendingCall is the call that blocks; there is at most one, as a program with
// one thread has it.
type pendingCall struct {
	c     *sysCall
	until mono.Time
}

// Unsupported names that are calls all the same.
var callTable map[string]func(c *sysCall) (int64, error)

func init() {
	callTable = map[string]func(c *sysCall) (int64, error){
		"socket": (*sysCall).socket, "bind": (*sysCall).bind, "listen": (*sysCall).listen, "accept": (*sysCall).accept,
		"connect": (*sysCall).connect, "close": (*sysCall).close, "shutdown": (*sysCall).shutdown,
		"read": (*sysCall).recv, "recv": (*sysCall).recv, "recvfrom": (*sysCall).recv, "readv": (*sysCall).recvVector,
		"recvmsg": (*sysCall).recvVector,
		"write":   (*sysCall).send, "send": (*sysCall).send, "sendto": (*sysCall).send, "writev": (*sysCall).sendVector,
		"sendmsg": (*sysCall).sendVector,
		"fcntl":   (*sysCall).fcntl, "ioctl": (*sysCall).ioctl,
		"getsockopt": (*sysCall).getsockopt, "setsockopt": (*sysCall).setsockopt,
		"poll": (*sysCall).poll, "epoll_create": (*sysCall).epollCreate, "epoll_ctl": (*sysCall).epollCtl,
		"epoll_wait": (*sysCall).epollWait,
	}
}

// call begins a call and, unless it blocks, ends it.
func (r *runner) call(e *Event) error {
	if err := r.settlePending(); err != nil {
		return err
	}
	f, ok := callTable[e.Call.Name]
	if !ok {
		return &Unsupported{Reason: e.Call.Name + "()"}
	}
	c := &sysCall{Call: e.Call, at: e, r: r, begun: r.net.Now(), first: true}
	n, err := f(c)
	c.first = false
	if err == errBlocks {
		if !e.At.Blocks {
			return fmt.Errorf("%s() blocks", c.Name)
		}
		until := r.begin.Add(e.At.Until)
		if e.At.Kind == Relative {
			until = r.planned.Add(e.At.Until - e.At.From)
		}
		r.pending = &pendingCall{c, until}
		r.settle()
		return r.retry()
	}
	return r.finishCall(c, n, err)
}

// retry tries the call that blocks again.
func (r *runner) retry() error {
	p := r.pending
	if p == nil {
		return nil
	}
	n, err := callTable[p.c.Name](p.c)
	if err == errBlocks {
		return nil
	}
	r.pending = nil
	line := r.event
	r.event = p.c.at
	if e := r.finishCall(p.c, n, err); e != nil {
		return fmt.Errorf("line %d: %w", p.c.at.Line, e)
	}
	r.event = line
	now := r.net.Now()
	tol := max(r.tolerance(p.until), time.Duration(r.cfg.tolerancePercent/100*float64(p.until.Sub(p.c.begun))))
	if d := now.Sub(p.until); d > tol || d < -tol {
		return fmt.Errorf("line %d: %s() returned at %v instead of %v", p.c.at.Line, p.c.Name, now.Sub(r.begin), p.until.Sub(r.begin))
	}
	return nil
}

// settlePending waits for the call that blocks: its thread makes the next.
func (r *runner) settlePending() error {
	p := r.pending
	if p == nil {
		return nil
	}
	var err error
	limit := p.until.Add(r.tolerance(p.until) + time.Second)
	r.net.Until(max(0, limit.Sub(r.net.Now())), func() bool {
		err = r.retry()
		return err != nil || r.pending == nil
	})
	if err == nil && r.pending != nil {
		err = fmt.Errorf("line %d: %s() still blocks", p.c.at.Line, p.c.Name)
	}
	return err
}

// finishCall compares the result of a call and lets happen what it caused.
func (r *runner) finishCall(c *sysCall, n int64, err error) error {
	var un *Unsupported
	if errors.As(err, &un) {
		return err
	}
	r.trace("%s() = %s", c.Name, resultString(n, err))
	var wrong *wrongResult
	switch {
	case errors.As(err, &wrong):
		return err
	case c.Result.Kind == ExprAny:
	case err != nil:
		errno, ok := errnoOf(err)
		if !ok {
			return fmt.Errorf("%s(): %w", c.Name, err)
		}
		want, e := c.Result.number()
		if e != nil {
			return e
		}
		if want != -1 || c.Errno != "" && errnos[c.Errno] != errno {
			if errno == syscall.EOPNOTSUPP || errno == syscall.ENOPROTOOPT {
				return &Unsupported{Reason: fmt.Sprintf("%s() with these flags or options", c.Name)}
			}
			return fmt.Errorf("%s() = -1 %s, not %s %s", c.Name, errnoName(errno), c.Result, c.Errno)
		}
	default:
		want, e := c.Result.number()
		if e != nil {
			return e
		}
		if want != n {
			return fmt.Errorf("%s() = %d, not %s %s", c.Name, n, c.Result, c.Errno)
		}
	}
	r.settle()
	return nil
}

// wrongResult is a difference in something that a call returned by reference.
type wrongResult struct{ text string }

func (w *wrongResult) Error() string { return w.text }

func wrong(format string, a ...any) error { return &wrongResult{fmt.Sprintf(format, a...)} }

func resultString(n int64, err error) string {
	if errno, ok := errnoOf(err); ok {
		return "-1 " + errnoName(errno)
	}
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(n)
}

func errnoOf(err error) (syscall.Errno, bool) {
	var e syscall.Errno
	if errors.Is(err, net.ErrClosed) {
		return syscall.EBADF, true
	}
	return e, errors.As(err, &e)
}

// arg returns argument i.
func (c *sysCall) arg(i int) *Expr {
	if i >= len(c.Args) {
		panicBug := &Expr{Kind: ExprAny}
		return panicBug
	}
	return c.Args[i]
}

// num returns argument i as a number; "..." is def.
func (c *sysCall) num(i int, def int64) (int64, error) {
	if c.arg(i).Kind == ExprAny {
		return def, nil
	}
	return c.arg(i).number()
}

// file returns the descriptor that is argument 0.
func (c *sysCall) file() (*file, error) { return c.fileAt(0) }

func (c *sysCall) fileAt(i int) (*file, error) {
	n, err := c.num(i, -1)
	if err != nil {
		return nil, err
	}
	f := c.r.files[int(n)]
	if f == nil {
		return nil, syscall.EBADF
	}
	return f, nil
}

// sock is file for calls on sockets.
func (c *sysCall) sock() (*file, error) {
	f, err := c.file()
	if err == nil && f.fd == nil {
		err = syscall.ENOTSOCK
	}
	return f, err
}

// newFD is the number that the script gives to what a call made.
func (c *sysCall) newFD() (int64, error) {
	n, err := c.Result.number()
	if err == nil && n >= 0 && c.r.files[int(n)] != nil {
		err = fmt.Errorf("descriptor %d is in use", n)
	}
	return n, err
}

// blocked translates EAGAIN for a descriptor that waits.
func (c *sysCall) blocked(f *file, err error, dontWait bool) error {
	if err == syscall.EAGAIN && !f.async && !dontWait {
		return errBlocks
	}
	return err
}
