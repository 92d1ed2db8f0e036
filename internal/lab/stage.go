package lab

// This file is the inner half of Run: the copy of the program that lives in
// the new namespaces, builds the network, runs the command and leaves nothing
// of it behind.

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// killWait is how long processes that outlive the command get to end by
// themselves.
const killWait = time.Second

// Init has to be the first call of main and of TestMain in a program that uses
// Run. In the copy of the program that Run starts it never returns; otherwise
// it does nothing.
func Init() {
	if os.Getenv(envStage) == "" {
		return
	}
	os.Exit(stage(os.Args[1:]))
}

// reportFile is the pipe on which the stage tells Run that there is no lab.
const reportFile = 3

func stage(argv []string) int {
	// The thread has to live as long as the stage: the command's Pdeathsig is
	// tied to it.
	runtime.LockOSThread()
	syscall.CloseOnExec(reportFile)
	report := os.NewFile(reportFile, "report")
	fail := func(err error) int {
		fmt.Fprint(report, err.Error())
		return 1
	}
	var o Options
	if err := json.Unmarshal([]byte(os.Getenv(envConfig)), &o); err != nil {
		return fail(fmt.Errorf("lab: %s: %w", envConfig, err))
	}
	os.Unsetenv(envStage)
	os.Unsetenv(envConfig)
	// What the command's children leave behind becomes ours, to be ended by
	// reap.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fail(fmt.Errorf("lab: become the reaper: %w", err))
	}
	l, err := build(o)
	if err != nil {
		return fail(explain(err))
	}
	if l.Note != "" {
		fmt.Fprintf(os.Stderr, "lab: %s\n", l.Note)
	}
	status := l.command(argv)
	reap()
	return status
}

func (l *Layout) command(argv []string) int {
	signals := catch()
	defer signal.Stop(signals)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = l.env()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		fmt.Fprintf(os.Stderr, "lab: %v\n", err)
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
			return 127
		}
		return 126
	}
	stop := relay(signals, cmd.Process)
	ended := make(chan struct{})
	go orphan(os.Getppid(), cmd.Process, ended)
	// The command's status is all there is to learn from the error.
	_ = cmd.Wait()
	close(ended)
	stop()
	return exitStatus(cmd.ProcessState)
}

// orphan kills a command that is still there some time after Run's process is
// gone; Run itself would have done so.
func orphan(parent int, p *os.Process, ended chan struct{}) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for os.Getppid() == parent {
		select {
		case <-tick.C:
		case <-ended:
			return
		}
	}
	select {
	case <-time.After(grace):
		_ = p.Kill()
	case <-ended:
	}
}

// reap ends every process that the command has left: first politely, then not.
// Killing by number is safe because a child of ours keeps its number until we
// wait for it.
func reap() {
	asked := make(map[int]bool)
	for end := time.Now().Add(killWait); ; time.Sleep(5 * time.Millisecond) {
		for {
			pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			if err == syscall.ECHILD {
				return
			}
			if err != nil || pid <= 0 {
				break
			}
			delete(asked, pid)
		}
		late := time.Now().After(end)
		for _, pid := range children() {
			switch {
			case late:
				_ = syscall.Kill(pid, syscall.SIGKILL)
			case !asked[pid]:
				asked[pid] = true
				_ = syscall.Kill(pid, syscall.SIGTERM)
			}
		}
	}
}

// children lists the processes whose parent is this one. Anything that cannot
// be read has ended meanwhile.
func children() (pids []int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	self := strconv.Itoa(os.Getpid())
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		b, _ := os.ReadFile("/proc/" + e.Name() + "/stat")
		// pid (name) state ppid …; the name may hold blanks and parentheses.
		_, rest, _ := strings.Cut(string(b[strings.LastIndexByte(string(b), ')')+1:]), " ")
		if f := strings.Fields(rest); len(f) > 1 && f[1] == self {
			pids = append(pids, pid)
		}
	}
	return pids
}
