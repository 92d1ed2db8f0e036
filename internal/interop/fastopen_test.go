package interop

// TCP Fast Open with the kernel, in both directions.

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/socket"
)

func TestFastOpen(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	inLab(t, l, func() error { return os.WriteFile("/proc/sys/net/ipv4/tcp_fastopen", []byte("3"), 0) })
	h := newHost(t, l, hostOptions{parallel: true})
	t.Run("kernel client", h.fastKernelClient)
	t.Run("our client", h.fastOurClient)
}

// fastKernelClient: the kernel gets a cookie, and then sends text in its SYN.
func (h *host) fastKernelClient(t *testing.T) {
	eachFamily(t, func(t *testing.T, fam family) {
		ln, err := h.net.Listen("tcp", addr(fam.ours.Addr(), 8081))
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		if err := ln.(*socket.Listener).FD().SetFastOpen(16); err != nil {
			t.Fatal(err)
		}
		go echoAll(ln)
		opened := h.count("tcp.fast-open-passive")
		for k, text := range []string{"first", "second", string(chargenLines(5000))} {
			to := netip.AddrPortFrom(fam.ours.Addr(), 8081)
			c := sendFast(t, h.lab, to, []byte(text))
			echoed(t, c, text)
			if got := h.count("tcp.fast-open-passive") - opened; got != uint64(k) {
				t.Errorf("connection %d: %d opened by text", k, got)
			}
			if i := kernelInfo(t, c); (i.Options&32 != 0) != (k > 0) { // TCPI_OPT_SYN_DATA
				t.Errorf("connection %d: the kernel sees options %#x", k, i.Options)
			}
			c.Close()
		}
	})
	k := kernelCounters(t, h.lab)
	if k["TcpExt.TCPFastOpenActive"] != 4 || k["TcpExt.TCPFastOpenActiveFail"] != 0 {
		t.Errorf("the kernel counts %d and %d failures", k["TcpExt.TCPFastOpenActive"], k["TcpExt.TCPFastOpenActiveFail"])
	}
}

// sendFast sends with MSG_FASTOPEN from the kernel.
func sendFast(t *testing.T, l *lab.Lab, to netip.AddrPort, text []byte) net.Conn {
	t.Helper()
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: int(to.Port()), Addr: [4]byte(to.Addr().AsSlice()[:4])}
	domain := unix.AF_INET
	if to.Addr().Is6() {
		sa, domain = &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}, unix.AF_INET6
	}
	var fd int
	inLab(t, l, func() (err error) {
		fd, err = unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		return err
	})
	tv := unix.NsecToTimeval(int64(patience))
	err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv)
	if err == nil {
		var n int
		if n, err = unix.SendmsgN(fd, text, nil, sa, unix.MSG_FASTOPEN); n != len(text) && err == nil {
			t.Errorf("%d of %d bytes sent", n, len(text))
		}
	}
	f := os.NewFile(uintptr(fd), "fastopen")
	defer f.Close()
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// fastOurClient: the same with the kernel's listener.
func (h *host) fastOurClient(t *testing.T) {
	eachFamily(t, func(t *testing.T, fam family) {
		lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
			var err error
			if e := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_FASTOPEN, 16) }); e != nil {
				return e
			}
			return err
		}}
		var ln net.Listener
		inLab(t, h.lab, func() (err error) {
			ln, err = lc.Listen(context.Background(), "tcp", addr(fam.kernel.Addr(), 8082))
			return err
		})
		defer ln.Close()
		go echoAll(ln)
		to := netip.AddrPortFrom(fam.kernel.Addr(), 8082)
		domain := map[bool]int{false: socket.AF_INET, true: socket.AF_INET6}[to.Addr().Is6()]
		opened := kernelCounters(t, h.lab)["TcpExt.TCPFastOpenPassive"]
		for k, text := range []string{"first", "second", string(chargenLines(5000)), "by connect"} {
			f, err := socket.Socket(h.stack, domain, socket.SOCK_STREAM, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			f.SetDeadline(time.Now().Add(patience))
			if k < 3 {
				_, err = f.SendTo([]byte(text), socket.MSG_FASTOPEN, to)
			} else {
				if err = f.SetFastOpenConnect(true); err == nil {
					err = f.Connect(t.Context(), to)
				}
				if err == nil {
					_, err = f.Send([]byte(text), 0)
				}
			}
			if err != nil {
				t.Fatalf("connection %d: %v", k, err)
			}
			got := make([]byte, len(text))
			for n := 0; n < len(got); {
				m, err := f.Recv(got[n:], 0)
				if err != nil {
					t.Fatalf("connection %d: after %d bytes: %v", k, n, err)
				}
				n += m
			}
			if string(got) != text || f.Stream().Info().SynData != (k > 0) {
				t.Errorf("connection %d: text in the SYN: %v", k, f.Stream().Info().SynData)
			}
			if got := kernelCounters(t, h.lab)["TcpExt.TCPFastOpenPassive"] - opened; got != uint64(k) {
				t.Errorf("connection %d: the kernel has opened %d by text", k, got)
			}
			f.Close()
		}
	})
	if n := h.count("tcp.fast-open-active"); n != 6 {
		t.Errorf("%d opened by text", n)
	}
}

func echoAll(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			io.Copy(c, c)
			c.Close()
		}()
	}
}

// echoed reads text back.
func echoed(t *testing.T, c net.Conn, text string) {
	t.Helper()
	c.SetDeadline(time.Now().Add(patience))
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, []byte(text)) {
		t.Fatalf("echo: %v", err)
	}
}
