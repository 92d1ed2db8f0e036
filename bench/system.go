package main

// This file owns what the machine tells: what it is, how busy it is, and what
// a process takes of it.

import (
	"bytes"
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// machine is where the numbers come from.
type machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
	Gvisor string `json:"gvisor"`
}

func thisMachine() machine {
	m := machine{CPU: runtime.GOARCH, Cores: runtime.NumCPU(), Go: runtime.Version()}
	for line := range strings.Lines(file("/proc/cpuinfo")) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if d.Path == "gvisor.dev/gvisor" {
				m.Gvisor = d.Version
			}
		}
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = string(bytes.TrimRight(u.Sysname[:], "\x00")) + " " + string(bytes.TrimRight(u.Release[:], "\x00"))
	}
	return m
}

// file returns "" for what cannot be read: not every system tells everything.
func file(name string) string {
	b, _ := os.ReadFile(name)
	return string(b)
}

// cpuTime is the CPU time that a process has used, 0 if it is gone.
func cpuTime(pid int) time.Duration {
	// MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED) of the kernel.
	var t unix.Timespec
	if unix.ClockGettime(int32(^pid<<3|2), &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// rss is the resident memory of a process in MB.
func rss(pid int) float64 {
	for line := range strings.Lines(file("/proc/" + strconv.Itoa(pid) + "/status")) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
			kb, _ := strconv.ParseFloat(f[1], 64)
			return kb * 1024 / mega
		}
	}
	return 0
}

// tick is the unit of /proc/stat, USER_HZ, which is 100 on all that Go runs on.
const tick = 10 * time.Millisecond

// busy is the CPU time that the machine has used since it was started. What a
// hypervisor has given to others counts as used.
func busy() (t time.Duration) {
	first, _, _ := strings.Cut(file("/proc/stat"), "\n")
	for i, s := range strings.Fields(first) {
		// cpu user nice system idle iowait irq softirq steal; the rest is
		// part of user and nice.
		if i == 0 || i == 4 || i == 5 || i > 8 {
			continue
		}
		n, _ := strconv.ParseInt(s, 10, 64)
		t += time.Duration(n) * tick
	}
	return t
}

// awaitQuiet returns when other work leaves the machine alone, or after limit.
func awaitQuiet(ctx context.Context, limit time.Duration) {
	const (
		window = 250 * time.Millisecond
		quiet  = 0.08 // of one core
	)
	for end := time.Now().Add(limit); time.Now().Before(end) && ctx.Err() == nil; {
		begin, used := time.Now(), busy()
		time.Sleep(window)
		if (busy() - used).Seconds() <= quiet*time.Since(begin).Seconds()+tick.Seconds() {
			return
		}
	}
}

// others measures how much of the machine work took that is not ours.
type others struct {
	pids []int
	at   time.Time
	used time.Duration
}

func watchOthers(peers []peer) *others {
	o := &others{pids: []int{os.Getpid()}}
	for _, p := range peers {
		o.pids = append(o.pids, p.pid())
	}
	o.at, o.used = time.Now(), o.sum()
	return o
}

func (o *others) sum() time.Duration {
	t := busy()
	// What has ended in between: relays.
	var ended unix.Rusage
	if unix.Getrusage(unix.RUSAGE_CHILDREN, &ended) == nil {
		t -= time.Duration(ended.Utime.Nano() + ended.Stime.Nano())
	}
	for _, pid := range o.pids {
		t -= cpuTime(pid)
	}
	return t
}

// cores is the mean number of cores that others have kept busy.
func (o *others) cores() float64 {
	return max(0, (o.sum()-o.used).Seconds()/time.Since(o.at).Seconds())
}
