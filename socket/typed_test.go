package socket_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/socket"
)

// roundTrip sets an option and reads it again.
func roundTrip[T comparable](t *testing.T, name string, f *socket.FD, o socket.Option[T], v, want T) {
	t.Helper()
	if err := socket.SetOption(f, o, v); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	if got, err := socket.GetOption(f, o); got != want || err != nil {
		t.Errorf("%s: %v, %v, want %v", name, got, err, want)
	}
}

// TestTypedValues: a typed option and the bytes of the same name are one.
func TestTypedValues(t *testing.T) {
	s := lone(t)
	f := tcp4(t, s)
	roundTrip(t, "NoDelay", f, socket.NoDelay, true, true)
	if got := getOpt(t, f, socket.SOL_TCP, socket.TCP_NODELAY); got != 1 {
		t.Errorf("in the raw form %d", got)
	}
	roundTrip(t, "NoDelay", f, socket.NoDelay, false, false)
	roundTrip(t, "KeepAlive", f, socket.KeepAlive, true, true)
	roundTrip(t, "KeepIdle", f, socket.KeepIdle, 1500*time.Millisecond, 2*time.Second)
	roundTrip(t, "UserTimeout", f, socket.UserTimeout, 3*time.Second, 3*time.Second)
	roundTrip(t, "ReceiveTimeout", f, socket.ReceiveTimeout, 1500*time.Millisecond, 1500*time.Millisecond)
	if d := f.ReceiveTimeout(); d != 1500*time.Millisecond {
		t.Errorf("by the method %v", d)
	}
	roundTrip(t, "SendTimeout", f, socket.SendTimeout, -1, 0)
	if d := f.SendTimeout(); d >= 0 {
		t.Errorf("no time at all is %v", d)
	}
	roundTrip(t, "LingerTime", f, socket.LingerTime, socket.Linger{On: true, Time: 2 * time.Second}, socket.Linger{On: true, Time: 2 * time.Second})
	roundTrip(t, "LingerTime", f, socket.LingerTime, socket.Linger{}, socket.Linger{})
	roundTrip(t, "Congestion", f, socket.Congestion, "reno", "reno")
	roundTrip(t, "Device", f, socket.Device, "lo", "lo")
	roundTrip(t, "an int", f, socket.IntOption(socket.SOL_TCP, socket.TCP_KEEPCNT), 5, 5)
	roundTrip(t, "a byte", udp4(t, s), socket.IntOption(socket.IPPROTO_IP, socket.IP_TOS), 8, 8)
	if c, err := socket.GetOption(f, socket.Cookie); c == 0 || err != nil {
		t.Errorf("cookie %d, %v", c, err)
	}
	wantErr(t, "read only", socket.SetOption(f, socket.Cookie, 1), syscall.ENOPROTOOPT)
	_, err := socket.GetOption(f, socket.Option[int]{})
	wantErr(t, "none", err, syscall.ENOPROTOOPT)
	_, err = socket.GetOption(f, socket.RepairWindow)
	wantErr(t, "out of repair", err, syscall.EPERM)
	wantErr(t, "not here", socket.SetOption(f, socket.IntOption(socket.SOL_SOCKET, 12), 1), syscall.ENOPROTOOPT)
	wantErr(t, "a bad value", socket.SetOption(f, socket.KeepIdle, 0), syscall.EINVAL)
	wantErr(t, "of another socket", socket.SetOption(udp4(t, s), socket.NoDelay, true), syscall.ENOPROTOOPT)
}
