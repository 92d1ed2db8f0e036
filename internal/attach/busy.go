package attach

// This file owns patience with a TAP that is still another process's. Whoever
// kills a program of ours and starts it anew without waiting for its end, as mtr
// does with mtr-packet, finds that the kernel has not yet taken the device away
// from the one before.

import (
	"context"
	"errors"
	"syscall"
	"time"
)

const (
	busyWait  = 2 * time.Second
	busyPause = 2 * time.Millisecond
)

// patiently calls open again while its error is EBUSY, for two seconds at most;
// then, or when ctx ends, that error is the answer.
func patiently[T any](ctx context.Context, open func() (T, error)) (T, error) {
	end := time.Now().Add(busyWait)
	for {
		v, err := open()
		if !errors.Is(err, syscall.EBUSY) || time.Now().After(end) {
			return v, err
		}
		select {
		case <-time.After(busyPause):
		case <-ctx.Done():
			return v, err
		}
	}
}
