package pktscript

import (
	"fmt"
	"slices"
	"syscall"
)

// This file owns getsockopt, setsockopt and ioctl. Options are passed on by
// the kernel's numbers, so that one that package socket learns is known here
// at once; those that have a method of their own are in the tables.

// tcpCongestion is TCP_CONGESTION, the one option whose value is text.
var tcpCongestion = [2]int{6, 13}

// notSentLowat is TCP_NOTSENT_LOWAT.
var notSentLowat = [2]int{6, 25}

// setters are options with a method of their own on socket.FD.
var setters = map[[2]int]func(f *file, v int) error{
	{0, 10}: func(*file, int) error { return nil }, // IP_MTU_DISCOVER: nothing here looks at DF
	{6, 23}: func(f *file, v int) error { return f.fd.SetFastOpen(v) },
	{6, 30}: func(f *file, v int) error { return f.fd.SetFastOpenConnect(v != 0) },
}

// option reads level and name.
func (c *sysCall) option() (f *file, key [2]int, label string, err error) {
	f, err = c.sock()
	if err != nil {
		return
	}
	level, err := c.num(1, 0)
	if err != nil {
		return
	}
	name, err := c.num(2, 0)
	return f, [2]int{int(level), int(name)}, c.arg(2).String(), err
}

func (c *sysCall) setsockopt() (int64, error) {
	f, key, label, err := c.option()
	if err != nil {
		return 0, err
	}
	v := c.arg(3)
	if v.Kind == ExprStruct && v.Field("onoff") != nil {
		on, err1 := v.Field("onoff").number()
		sec, err2 := v.Field("linger").orZero().number()
		if err1 != nil || err2 != nil {
			return 0, &Unsupported{Reason: "setsockopt " + label}
		}
		if on == 0 {
			sec = -1
		}
		return 0, f.fd.SetLinger(int(sec))
	}
	if v.Kind == ExprString && key == [2]int{6, 33} { // TCP_FASTOPEN_KEY
		return 0, f.fd.SetFastOpenKey([]byte(v.Text))
	}
	if v.Kind == ExprString {
		if key != tcpCongestion {
			return 0, &Unsupported{Reason: "setsockopt " + label}
		}
		return 0, f.fd.SetCongestion(v.Text)
	}
	n, err := v.number()
	if err != nil {
		return 0, err
	}
	if c.r.script.BSD && (label == "SO_RCVBUF" || label == "SO_SNDBUF") {
		return 0, nil
	}
	if set := setters[key]; set != nil {
		return 0, set(f, int(n))
	}
	return 0, c.unknownOption(f.fd.SetsockoptInt(key[0], key[1], int(n)), label)
}

// unknownOption skips a script whose option does not exist, unless that is
// what it wants to see.
func (c *sysCall) unknownOption(err error, label string) error {
	if err == syscall.ENOPROTOOPT && c.Errno != "ENOPROTOOPT" {
		return &Unsupported{Reason: c.Name + " " + label}
	}
	return err
}

func (c *sysCall) getsockopt() (int64, error) {
	f, key, label, err := c.option()
	if err != nil {
		return 0, err
	}
	if c.r.script.BSD && (label == "SO_RCVBUF" || label == "SO_SNDBUF") {
		return 0, nil
	}
	want := c.arg(3)
	if want.Kind == ExprString {
		if key != tcpCongestion {
			return 0, &Unsupported{Reason: "getsockopt " + label}
		}
		got, err := f.fd.Congestion()
		if err == nil && got != want.Text {
			return 0, wrong("%s is %q", label, got)
		}
		return 0, err
	}
	n, err := c.getInt(f, key, label)
	if err != nil || want.Kind == ExprAny {
		return 0, err
	}
	w, err := want.number()
	if err != nil {
		return 0, err
	}
	if int32(n) != int32(w) {
		return 0, wrong("%s is %s, not %s", label, optionValue(key, n), want)
	}
	return 0, nil
}

func (c *sysCall) getInt(f *file, key [2]int, label string) (int, error) {
	n, err := f.fd.GetsockoptInt(key[0], key[1])
	if key == notSentLowat && slices.Contains(c.r.set0.socket, [3]int{key[0], key[1], n}) {
		n = 0 // Linux does not show what tcp_notsent_lowat does
	}
	return n, c.unknownOption(err, label)
}

func optionValue(key [2]int, n int) string {
	if key == [2]int{1, 4} && n != 0 {
		return errnoName(syscall.Errno(n))
	}
	return fmt.Sprint(n)
}

func (c *sysCall) ioctl() (int64, error) {
	f, err := c.sock()
	if err != nil {
		return 0, err
	}
	request, err := c.num(1, 0)
	if err != nil {
		return 0, err
	}
	if request == symbols["FIONBIO"] {
		n, err := c.num(2, 0)
		f.async = n != 0
		return 0, err
	}
	n, err := f.ioctl(int(request))
	if err != nil {
		return 0, err
	}
	if c.arg(2).Kind == ExprAny {
		return 0, nil
	}
	want, err := c.arg(2).number()
	if err == nil && want != int64(n) {
		err = wrong("%s is %d, not %d", c.arg(1), n, want)
	}
	return 0, err
}

func (f *file) ioctl(request int) (int, error) {
	n, err := f.fd.Ioctl(request)
	if err == syscall.ENOTTY {
		err = &Unsupported{Reason: fmt.Sprintf("ioctl %#x", request)}
	}
	return n, err
}
