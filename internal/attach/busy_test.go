package attach

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestPatiently(t *testing.T) {
	busy := fmt.Errorf("open tap7: %w", syscall.EBUSY)
	other := errors.New("no such thing")
	for _, c := range []struct {
		name   string
		free   time.Duration // when the device is free, or fails otherwise
		then   error
		cancel time.Duration // 0: never
		want   error
		took   time.Duration
	}{
		{"free", 0, nil, 0, nil, 0},
		{"soon", 100 * time.Millisecond, nil, 0, nil, 100 * time.Millisecond},
		{"fails", 0, other, 0, other, 0},
		{"never", time.Hour, nil, 0, busy, busyWait + busyPause},
		{"cancelled", time.Hour, nil, time.Second, busy, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if c.cancel > 0 {
					time.AfterFunc(c.cancel, cancel)
				}
				begin := time.Now()
				_, err := patiently(ctx, func() (int, error) {
					if time.Since(begin) < c.free {
						return 0, busy
					}
					return 1, c.then
				})
				if took := time.Since(begin); err != c.want || took != c.took {
					t.Errorf("%v after %v, want %v after %v", err, took, c.want, c.took)
				}
			})
		})
	}
}
