package interop

// A flood of SYNs from a station on the link, while the kernel opens
// connections: they are made, through cookies, and lack nothing.

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/csum"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// floodPort is where it goes to.
const floodPort = 8080

// synFrame is the n-th SYN of a flood on a port, ready for the wire.
func synFrame(n int, port uint16) []byte {
	s := tcp.Segment{SrcPort: uint16(1024 + n%60000), DstPort: port, Seq: 7, Flags: tcp.FlagSYN, Window: 65535}
	s.Options = tcp.Options{MSS: 1460, SACKPermitted: true, HasTS: true, TSVal: uint32(n), HasWScale: true, WScale: 7}
	seg := make([]byte, s.HeaderLen())
	s.PutHeader(seg)
	src, dst, typ := netip.AddrFrom4([4]byte{10, 77, 0, byte(100 + n%8)}), our4.Addr(), ether.TypeIPv4
	var ip []byte
	if n%2 == 0 {
		f := ipv4.Fields{TTL: 64, Protocol: ipv4.ProtoTCP, Src: src, Dst: dst, PayloadLen: len(seg)}
		ip = make([]byte, f.HeaderLen())
		f.Put(ip)
	} else {
		src, dst, typ = netip.AddrFrom16([16]byte{0xfd, 0x77, 15: byte(100 + n%8)}), our6.Addr(), ether.TypeIPv6
		f := ipv6.Fields{NextHeader: ipv4.ProtoTCP, HopLimit: 64, Src: src, Dst: dst, PayloadLen: len(seg)}
		ip = make([]byte, ipv6.HeaderLen)
		f.Put(ip)
	}
	binary.BigEndian.PutUint16(seg[tcp.ChecksumOffset:], csum.Checksum(seg, csum.Pseudo(src, dst, ipv4.ProtoTCP, len(seg))))
	frame := make([]byte, ether.HeaderLen)
	ether.Put(frame, ourMAC, ether.Addr(strangerMAC), typ)
	return append(append(frame, ip...), seg...)
}

// TestSynFlood connects during a flood.
func TestSynFlood(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	h := newHost(t, l, hostOptions{parallel: true, nic: stack.InterfaceConfig{NoDAD: true}})
	h.anyDrop = true
	// The kernel is known before the flood, so that this is about TCP.
	ln, err := h.net.Listen("tcp", ":8080")
	if err != nil {
		t.Fatal(err)
	}
	var infos sync.Map // of accepted connections
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			infos.Store(c.RemoteAddr().String(), c.(*socket.Conn).FD().Stream().Info())
			go func() {
				io.Copy(c, c)
				c.Close()
			}()
		}
	}()
	t.Cleanup(func() { ln.Close() })

	s := newStranger(t, l)
	var stop atomic.Bool
	var sent atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; !stop.Load(); n++ {
			// A link that is busy refuses frames.
			if _, err := s.f.Write(synFrame(n, floodPort)); err != nil && !errors.Is(err, unix.ENOBUFS) {
				t.Errorf("flood: %v", err)
				return
			}
			sent.Add(1)
			if n%50 == 49 {
				time.Sleep(time.Millisecond) // so that the other tests go on too
			}
		}
	})
	defer func() {
		stop.Store(true)
		wg.Wait()
	}()
	eventually(t, patience, "the first cookie", func() bool { return h.count("tcp.syn-cookies-sent") > 1000 })
	eachFamily(t, func(t *testing.T, fam family) {
		side := h.kernelSide()
		want := chargenLines(200_000)
		// A flood that is late leaves a place in the queue, which needs no cookie.
		const often = 100
		before := h.count("tcp.syn-cookies-received")
		for tried := 0; h.count("tcp.syn-cookies-received") < before+10; tried++ {
			if tried == often {
				t.Fatalf("%d of %d connections through cookies; %d SYNs sent", h.count("tcp.syn-cookies-received")-before, often, sent.Load())
			}
			c := dial(t, side, "tcp", addr(fam.ours.Addr(), floodPort), patience)
			go c.Write(want)
			got := make([]byte, len(want))
			if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("echo: %v", err)
			}
			v, ok := infos.Load(c.LocalAddr().String())
			if !ok {
				t.Fatal("not accepted")
			}
			i := v.(tcp.Info)
			if !i.WScale || !i.SACK || !i.Timestamps || i.PeerMSS < 1420 || i.SndWScale == 0 {
				t.Errorf("a connection through a cookie has %+v", i)
			}
			k := kernelInfo(t, c)
			if k.Options&7 != 7 { // TCPI_OPT_TIMESTAMPS, _SACK, _WSCALE
				t.Errorf("the kernel sees options %#x", k.Options)
			}
			c.Close()
		}
	})
}

// kernelInfo is the kernel's tcp_info of one of its connections.
func kernelInfo(t *testing.T, c net.Conn) *unix.TCPInfo {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var info *unix.TCPInfo
	if e := raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }); e != nil || err != nil {
		t.Fatal(e, err)
	}
	return info
}
