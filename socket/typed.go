package socket

// This file owns options with Go types: each is a name of Setsockopt and
// Getsockopt with the way from a value to bytes and back, so that there is one
// mechanism, and what a value is stands beside the name.

import (
	"encoding/binary"
	"syscall"
	"time"

	"github.com/tapstack/tapstack/tcp"
)

// Option is an option whose value is a T. The zero Option is none.
type Option[T any] struct {
	level, opt int
	size       int // of what is read
	put        func(v T) []byte
	get        func(b []byte) (T, error)
}

// SetOption is setsockopt(2) of a typed option. Errors as Setsockopt's.
func SetOption[T any](f *FD, o Option[T], v T) error {
	if o.put == nil {
		return syscall.ENOPROTOOPT
	}
	return f.Setsockopt(o.level, o.opt, o.put(v))
}

// GetOption is getsockopt(2) of a typed option. Errors as Getsockopt's.
func GetOption[T any](f *FD, o Option[T]) (v T, err error) {
	if o.get == nil {
		return v, syscall.ENOPROTOOPT
	}
	b := make([]byte, o.size)
	n, err := f.Getsockopt(o.level, o.opt, b)
	if err != nil {
		return v, err
	}
	return o.get(b[:n])
}

// IntOption is an option that is a number.
func IntOption(level, opt int) Option[int] {
	return Option[int]{level, opt, 4, putInt, getInt}
}

// BoolOption is an option that is on or off.
func BoolOption(level, opt int) Option[bool] {
	return Option[bool]{level, opt, 4,
		func(v bool) []byte { return putInt(b2i(v)) },
		func(b []byte) (bool, error) { v, err := getInt(b); return v != 0, err },
	}
}

// TimeOption is an option that counts a time in units; it is rounded up.
func TimeOption(level, opt int, unit time.Duration) Option[time.Duration] {
	return Option[time.Duration]{level, opt, 4,
		func(v time.Duration) []byte { return putInt(int((v + unit - 1) / unit)) },
		func(b []byte) (time.Duration, error) {
			v, err := getInt(b)
			return time.Duration(v) * unit, err
		},
	}
}

func putInt(v int) []byte { return binary.NativeEndian.AppendUint32(nil, uint32(int32(v))) }

func getInt(b []byte) (int, error) {
	switch {
	case len(b) == 1:
		return int(b[0]), nil
	case len(b) < 4:
		return 0, syscall.EINVAL
	}
	return int(int32(binary.NativeEndian.Uint32(b))), nil
}

// timeout is an option that is a struct timeval; below 0 is no time at all.
func timeout(opt int) Option[time.Duration] {
	return Option[time.Duration]{SOL_SOCKET, opt, timevalLen,
		func(v time.Duration) []byte {
			if v < 0 {
				return binary.NativeEndian.AppendUint64(binary.NativeEndian.AppendUint64(nil, 1<<64-1), 0) // -1 s
			}
			return timeval(v)
		},
		func(b []byte) (time.Duration, error) {
			if len(b) < timevalLen {
				return 0, syscall.EINVAL
			}
			return time.Duration(binary.NativeEndian.Uint64(b))*time.Second + time.Duration(binary.NativeEndian.Uint64(b[8:]))*time.Microsecond, nil
		},
	}
}

// Linger is the value of LingerTime.
type Linger struct {
	On   bool
	Time time.Duration // how long Close waits, in whole seconds
}

// Options that are no int, and those that programs set most. Any other int is
// IntOption, BoolOption or TimeOption of its level and name.
var (
	NoDelay        = BoolOption(SOL_TCP, TCP_NODELAY)
	KeepAlive      = BoolOption(SOL_SOCKET, SO_KEEPALIVE)
	KeepIdle       = TimeOption(SOL_TCP, TCP_KEEPIDLE, time.Second)
	UserTimeout    = TimeOption(SOL_TCP, TCP_USER_TIMEOUT, time.Millisecond)
	ReceiveTimeout = timeout(SO_RCVTIMEO)
	SendTimeout    = timeout(SO_SNDTIMEO)
	Congestion     = nameOption(SOL_TCP, TCP_CONGESTION, congestionSize)
	Device         = nameOption(SOL_SOCKET, SO_BINDTODEVICE, ifNameSize)

	LingerTime = Option[Linger]{SOL_SOCKET, SO_LINGER, 8,
		func(v Linger) []byte {
			return append(putInt(b2i(v.On)), putInt(int((v.Time+time.Second-1)/time.Second))...)
		},
		func(b []byte) (l Linger, err error) {
			on, err := getInt(b)
			if err == nil && len(b) == 8 {
				l = Linger{on != 0, time.Duration(binary.NativeEndian.Uint32(b[4:])) * time.Second}
			}
			return l, err
		},
	}
	// Cookie is read only.
	Cookie = Option[uint64]{SOL_SOCKET, SO_COOKIE, 8, nil,
		func(b []byte) (uint64, error) { return binary.NativeEndian.Uint64(b), nil },
	}
	// RepairWindow is TCP_REPAIR_WINDOW.
	RepairWindow = Option[tcp.RepairWindow]{SOL_TCP, TCP_REPAIR_WINDOW, repairWindowLen, putRepairWindow,
		func(b []byte) (tcp.RepairWindow, error) { return getRepairWindow(b), nil },
	}
)

// nameOption is an option that is a string, with or without a NUL.
func nameOption(level, opt, size int) Option[string] {
	return Option[string]{level, opt, size,
		func(v string) []byte { return []byte(v) },
		func(b []byte) (string, error) { return cString(b), nil },
	}
}
