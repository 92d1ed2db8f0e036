package socket_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/socket"
)

// TestPoll: it waits for the first of many, for a time, and for one that is
// closed meanwhile.
func TestPoll(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		c, s := p.connected(t)
		u := udp4(t, p.b)
		must(t, u.Bind(ap("10.77.0.2:9")))
		fds := []socket.PollFD{{FD: s, Events: socket.POLLIN}, {Events: socket.POLLIN}, {FD: u, Events: socket.POLLIN}}
		if n := socket.Poll(fds, 0); n != 0 {
			t.Error("at once:", n, fds)
		}
		begin := time.Now()
		if n := socket.Poll(fds, 3*time.Second); n != 0 || time.Since(begin) != 3*time.Second {
			t.Error("after a while:", n, time.Since(begin), fds)
		}
		time.AfterFunc(time.Second, func() { c.Send([]byte("x"), 0) })
		if n := socket.Poll(fds, -1); n != 1 || fds[0].Revents != socket.POLLIN || fds[1].Revents != 0 || fds[2].Revents != 0 {
			t.Error("data:", n, fds)
		}
		s.Recv(make([]byte, 9), 0)
		time.AfterFunc(time.Second, func() { u.Close() })
		if n := socket.Poll(fds, time.Hour); n != 1 || fds[2].Revents != socket.POLLNVAL {
			t.Error("closed:", n, fds)
		}
	})
}

// TestPollFollows: who polls a socket sees it connect, fail, and listen, though
// what is below is another thing each time.
func TestPollFollows(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		s := tcp4(t, p.b)
		must(t, s.Bind(ap("10.77.0.2:7")))
		fds := []socket.PollFD{{FD: s, Events: socket.POLLIN}}
		if n := socket.Poll(fds, -1); n != 1 || fds[0].Revents != socket.POLLHUP {
			t.Error("bound:", n, fds)
		}
		must(t, s.Listen(4))
		c := tcp4(t, p.a)
		time.AfterFunc(time.Second, func() { c.Connect(bg, ap("10.77.0.2:7")) })
		if n := socket.Poll(fds, -1); n != 1 || fds[0].Revents != socket.POLLIN {
			t.Error("listening:", n, fds)
		}
		set := socket.NewPoller()
		defer set.Close()
		f := tcp4(t, p.a)
		f.SetNonblock(true)
		must(t, set.Add(f, socket.EPOLLOUT|socket.EPOLLET, nil))
		ev := make([]socket.EpollEvent, 4)
		want := func(what string, events uint32) {
			t.Helper()
			synctest.Wait()
			if n, err := set.Wait(ev, time.Minute); n != 1 || err != nil || ev[0].Events != events {
				t.Errorf("%s: %d %v %x, want %x", what, n, err, ev[0].Events, events)
			}
		}
		want("fresh", socket.EPOLLOUT|socket.EPOLLHUP)
		wantErr(t, "connect", f.Connect(bg, ap("10.77.0.2:77")), syscall.EINPROGRESS)
		want("refused", socket.EPOLLOUT|socket.EPOLLERR|socket.EPOLLHUP)
		wantErr(t, "connect", f.Connect(bg, ap("10.77.0.2:77")), syscall.ECONNREFUSED)
		want("as before", socket.EPOLLOUT|socket.EPOLLHUP)
		wantErr(t, "connect", f.Connect(bg, ap("10.77.0.2:7")), syscall.EINPROGRESS)
		want("connected", socket.EPOLLOUT)
	})
}

// TestDup: the descriptors of a socket are closed each for itself.
func TestDup(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		c, s := p.connected(t)
		d, err := s.Dup()
		must(t, err)
		recv := start(func() (int, error) { return s.Recv(make([]byte, 9), 0) })
		synctest.Wait()
		must(t, s.Close())
		wantErr(t, "Recv on what is closed", (<-recv).err, net.ErrClosed)
		wantErr(t, "Close again", s.Close(), net.ErrClosed)
		_, err = s.Dup()
		wantErr(t, "Dup of what is closed", err, net.ErrClosed)
		must(t, d.SetNonblock(true))
		_, err = d.Recv(make([]byte, 9), 0)
		wantErr(t, "Recv", err, syscall.EAGAIN)
		if _, err := c.Send([]byte("still"), 0); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		b := make([]byte, 9)
		if n, err := d.Recv(b, 0); err != nil || string(b[:n]) != "still" {
			t.Error(string(b[:n]), err)
		}
		must(t, d.Close())
		if all, err := recvAll(c); err != nil || len(all) != 0 {
			t.Error("after the last Close the peer reads", all, err)
		}
	})
}

// TestPollerModes: level, edge, one-shot, and what a set refuses.
func TestPollerModes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		c, s := p.connected(t)
		set := socket.NewPoller()
		ev := make([]socket.EpollEvent, 4)
		told := func(what string, want uint32) {
			t.Helper()
			synctest.Wait()
			n, err := set.Wait(ev, 0)
			got := uint32(0)
			if n > 0 {
				got = ev[0].Events
			}
			if err != nil || got != want || n > 1 {
				t.Errorf("%s: %d of %x, %v, want %x", what, n, got, err, want)
			}
		}
		send := func() { c.Send([]byte("xyz"), 0); synctest.Wait() }
		b := make([]byte, 2)

		wantErr(t, "Mod", set.Mod(s, socket.EPOLLIN, nil), syscall.ENOENT)
		wantErr(t, "Del", set.Del(s), syscall.ENOENT)
		wantErr(t, "Add nil", set.Add(nil, socket.EPOLLIN, nil), syscall.EBADF)
		must(t, set.Add(s, socket.EPOLLIN, "s"))
		wantErr(t, "Add", set.Add(s, socket.EPOLLIN, nil), syscall.EEXIST)
		_, err := set.Wait(nil, 0)
		wantErr(t, "Wait for nothing", err, syscall.EINVAL)
		told("nothing", 0)
		send()
		told("level", socket.EPOLLIN)
		if ev[0].Data != "s" {
			t.Error("data", ev[0].Data)
		}
		told("level", socket.EPOLLIN)
		s.Recv(b, 0)
		told("a rest", socket.EPOLLIN)
		s.Recv(b, 0)
		told("empty", 0)

		must(t, set.Mod(s, socket.EPOLLIN|socket.EPOLLOUT|socket.EPOLLET, 7))
		told("edge, at first", socket.EPOLLOUT)
		told("edge", 0)
		send()
		told("edge", socket.EPOLLIN|socket.EPOLLOUT)
		told("edge", 0)
		send()
		told("edge", socket.EPOLLIN|socket.EPOLLOUT)
		told("edge", 0)

		must(t, set.Mod(s, socket.EPOLLIN|socket.EPOLLONESHOT, nil))
		told("once", socket.EPOLLIN)
		send()
		told("once", 0)
		must(t, set.Mod(s, socket.EPOLLIN|socket.EPOLLONESHOT, nil))
		told("once more", socket.EPOLLIN)

		wantErr(t, "exclusive by Mod", set.Mod(s, socket.EPOLLIN|socket.EPOLLEXCLUSIVE, nil), syscall.EINVAL)
		must(t, set.Del(s))
		told("not a member", 0)
		wantErr(t, "exclusive and once", set.Add(s, socket.EPOLLIN|socket.EPOLLONESHOT|socket.EPOLLEXCLUSIVE, nil), syscall.EINVAL)
		must(t, set.Add(s, socket.EPOLLIN|socket.EPOLLRDHUP, nil))
		d, _ := s.Dup()
		must(t, set.Add(d, socket.EPOLLIN, nil))
		if set.Len() != 2 {
			t.Error(set.Len(), "members")
		}
		d.Close()
		if set.Len() != 1 {
			t.Error("a member that was closed is one still")
		}
		c.Close()
		told("the end", socket.EPOLLIN|socket.EPOLLRDHUP)
		wait := start(func() (int, error) { return set.Wait(ev, -1) })
		if r := <-wait; r.err != nil {
			t.Error(r.err)
		}
		s.Close()
		told("closed", 0)
		if set.Len() != 0 {
			t.Error(set.Len(), "members")
		}
		wait = start(func() (int, error) { return set.Wait(ev, -1) })
		synctest.Wait()
		must(t, set.Close())
		wantErr(t, "Wait for what is closed", (<-wait).err, net.ErrClosed)
		wantErr(t, "Close again", set.Close(), net.ErrClosed)
		wantErr(t, "Add to what is closed", set.Add(c, 0, nil), net.ErrClosed)
		ctx, cancel := context.WithCancel(bg)
		cancel()
		set = socket.NewPoller()
		_, err = set.WaitContext(ctx, ev)
		wantErr(t, "cancelled", err, context.Canceled)
	})
}

// TestPollerWakesOne: of those who wait, an event wakes as many as it takes; of
// several sets with EPOLLEXCLUSIVE, one.
func TestPollerWakesOne(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		c, s := p.connected(t)
		for _, shared := range []bool{true, false} {
			sets := make([]*socket.Poller, 5)
			for i := range sets {
				if i == 0 || !shared {
					sets[i] = socket.NewPoller()
					flags := uint32(socket.EPOLLIN | socket.EPOLLET)
					if !shared {
						flags |= socket.EPOLLEXCLUSIVE
					}
					must(t, sets[i].Add(s, flags, nil))
				} else {
					sets[i] = sets[0]
				}
			}
			woken := make(chan int, 2*len(sets))
			for i, set := range sets {
				go func() {
					for {
						n, err := set.Wait(make([]socket.EpollEvent, 2), -1)
						if err != nil {
							return
						}
						woken <- i + 100*(n-1)
					}
				}()
			}
			synctest.Wait()
			for k := range 3 {
				c.Send([]byte("x"), 0)
				synctest.Wait()
				if len(woken) != k+1 {
					t.Errorf("shared %v: %d woken by %d events", shared, len(woken), k+1)
				}
			}
			for _, set := range sets {
				set.Close()
			}
			s.Recv(make([]byte, 9), 0)
			synctest.Wait()
		}
	})
}

// TestPollerTimes: a wait ends in time, and one that ends takes no news along.
func TestPollerTimes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		c, s := p.connected(t)
		set := socket.NewPoller()
		defer set.Close()
		must(t, set.Add(s, socket.EPOLLIN|socket.EPOLLONESHOT, nil))
		ev := make([]socket.EpollEvent, 1)
		begin := time.Now()
		if n, err := set.Wait(ev, time.Second); n != 0 || err != nil || time.Since(begin) != time.Second {
			t.Error(n, err, time.Since(begin))
		}
		for round := range 20 {
			ctx, cancel := context.WithCancel(bg)
			a := start(func() (int, error) { return set.WaitContext(ctx, make([]socket.EpollEvent, 1)) })
			b := start(func() (int, error) { return set.Wait(make([]socket.EpollEvent, 1), -1) })
			synctest.Wait()
			go cancel()
			go c.Send([]byte("x"), 0)
			ra := <-a
			if ra.n == 1 {
				s.Recv(make([]byte, 9), 0) // it got it: another one for b
				must(t, set.Mod(s, socket.EPOLLIN|socket.EPOLLONESHOT, nil))
				c.Send([]byte("x"), 0)
			}
			if rb := <-b; rb.n != 1 || rb.err != nil {
				t.Fatal(round, ra, rb)
			}
			s.Recv(make([]byte, 9), 0)
			must(t, set.Mod(s, socket.EPOLLIN|socket.EPOLLONESHOT, nil))
		}
	})
}

// TestPollerMany: of 10,000 members those that are ready are told, each once,
// and looking for them costs no memory.
func TestPollerMany(t *testing.T) {
	watch(t)
	s := lone(t)
	set := socket.NewPoller()
	defer set.Close()
	const members = 10000
	fds := make([]*socket.FD, members)
	for i := range fds {
		fds[i] = udp4(t, s)
		must(t, fds[i].Bind(ap(fmt.Sprintf("127.0.0.1:%d", 20000+i))))
		must(t, set.Add(fds[i], socket.EPOLLIN, i))
	}
	from := udp4(t, s)
	ev := make([]socket.EpollEvent, 64)
	seen := make(map[int]bool)
	b := make([]byte, 9)
	for range 100 {
		for i := 7; i < members; i += 400 {
			if _, err := from.SendTo([]byte("x"), 0, ap(fmt.Sprintf("127.0.0.1:%d", 20000+i))); err != nil {
				t.Fatal(err)
			}
		}
		clear(seen)
		for len(seen) < members/400 {
			n, err := set.Wait(ev, time.Minute)
			if err != nil || n == 0 {
				t.Fatal(n, err, len(seen))
			}
			for _, e := range ev[:n] {
				i := e.Data.(int)
				if seen[i] || i%400 != 7 || e.Events != socket.EPOLLIN {
					t.Fatal(e)
				}
				seen[i] = true
				if _, err := fds[i].Recv(b, socket.MSG_DONTWAIT); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	fds[0].SendTo([]byte("x"), 0, ap("127.0.0.1:20001"))
	if n, err := set.Wait(ev, time.Minute); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if !raceEnabled {
		noAllocs(t, func() {
			if n, _ := set.Wait(ev, -1); n != 1 {
				t.Fatal(n)
			}
		})
	}
	for _, f := range fds {
		f.Close()
	}
	if n := set.Len(); n != 0 {
		t.Errorf("%d members are left", n)
	}
}

// TestPollerRaces: sockets that come, go and change while many wait.
func TestPollerRaces(t *testing.T) {
	watch(t)
	s := lone(t)
	set := socket.NewPoller()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			ev := make([]socket.EpollEvent, 8)
			for {
				n, err := set.Wait(ev, time.Millisecond)
				if err != nil {
					return
				}
				for _, e := range ev[:n] {
					f := e.Data.(*socket.FD)
					f.Recv(make([]byte, 9), socket.MSG_DONTWAIT)
					set.Mod(f, socket.EPOLLIN|socket.EPOLLONESHOT, f)
				}
			}
		})
	}
	var work sync.WaitGroup
	for k := range 4 {
		work.Go(func() {
			for range 200 {
				f, err := socket.Socket(s, socket.AF_INET, socket.SOCK_DGRAM, 0)
				must(t, err)
				must(t, f.Bind(ap(fmt.Sprintf("127.0.0.1:%d", 7000+k))))
				set.Add(f, socket.EPOLLIN|socket.EPOLLONESHOT, f)
				d, _ := f.Dup()
				set.Add(d, socket.EPOLLIN|socket.EPOLLET, d)
				f.SendTo([]byte("x"), 0, ap(fmt.Sprintf("127.0.0.1:%d", 7000+k)))
				if k%2 == 0 {
					set.Del(d)
				}
				d.Close()
				f.Close()
			}
		})
	}
	work.Wait()
	if n := set.Len(); n != 0 {
		t.Errorf("%d members are left", n)
	}
	set.Close()
	all.Wait()
}
