package service

// A Set runs several services on one network, as `tapstack up --services`
// does: each on its TCP and, if it has one, its UDP port, for both families.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
)

// Network is what services need of a stack.
type Network interface {
	Listen(network, address string) (net.Listener, error)
	ListenPacket(network, address string) (net.PacketConn, error)
}

// Set is a number of running services.
type Set struct {
	services []*Service
	cancel   context.CancelFunc
	running  sync.WaitGroup
	failed   chan struct{}

	mu  sync.Mutex // guards err
	err error
}

// Start listens for the named services on their ports, TCP and where they have
// datagrams UDP, and serves them. When one cannot listen none of them runs.
func Start(n Network, names []string) (*Set, error) {
	return start(n, names, func(s *Service) string { return fmt.Sprintf(":%d", s.Port) })
}

func start(n Network, names []string, address func(*Service) string) (*Set, error) {
	ctx, cancel := context.WithCancel(context.Background())
	set := &Set{cancel: cancel, failed: make(chan struct{})}
	seen := make(map[string]bool)
	for _, name := range names {
		if seen[name] {
			continue
		}
		seen[name] = true
		if err := set.add(ctx, n, name, address); err != nil {
			return nil, errors.Join(err, set.Close())
		}
	}
	return set, nil
}

func (set *Set) add(ctx context.Context, n Network, name string, address func(*Service) string) error {
	s, err := New(name)
	if err != nil {
		return err
	}
	ln, err := n.Listen("tcp", address(s))
	if err != nil {
		return fmt.Errorf("service %s: %w", name, err)
	}
	if s.streamOnly {
		set.services = append(set.services, s)
		set.running.Go(func() { set.note(s, s.Serve(ctx, ln)) })
		return nil
	}
	pc, err := n.ListenPacket("udp", address(s))
	if err != nil {
		ln.Close()
		return fmt.Errorf("service %s: %w", name, err)
	}
	set.services = append(set.services, s)
	set.running.Go(func() { set.note(s, s.Serve(ctx, ln)) })
	set.running.Go(func() { set.note(s, s.ServePacket(ctx, pc)) })
	return nil
}

// note keeps the first error with which a service ended.
func (set *Set) note(s *Service, err error) {
	set.mu.Lock()
	defer set.mu.Unlock()
	if err != nil && set.err == nil {
		set.err = fmt.Errorf("service %s: %w", s.Name, err)
		close(set.failed)
	}
}

// Failed is closed when a service has ended with an error; the others go on.
func (set *Set) Failed() <-chan struct{} { return set.failed }

// Names lists the services that run, as "echo".
func (set *Set) Names() []string {
	names := make([]string, len(set.services))
	for i, s := range set.services {
		names[i] = s.Name
	}
	return names
}

// Counters returns the counters that are not zero, under names like
// "service.echo.accepted".
func (set *Set) Counters() map[string]uint64 {
	m := make(map[string]uint64)
	for _, s := range set.services {
		st := s.Stats()
		for name, n := range map[string]uint64{
			"accepted": st.Accepted, "refused": st.Refused,
			"answered": st.Answered, "ignored": st.Ignored, "failed": st.Failed,
		} {
			if n != 0 {
				m["service."+s.Name+"."+name] = n
			}
		}
	}
	return m
}

// Close closes every listener and connection, waits until all goroutines are
// gone, and returns the first error with which a service had ended before.
func (set *Set) Close() error {
	set.cancel()
	set.running.Wait()
	set.mu.Lock()
	defer set.mu.Unlock()
	return set.err
}
