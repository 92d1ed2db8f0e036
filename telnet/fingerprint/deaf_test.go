package fingerprint

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestDeafServer: a server that asks and takes no answers costs no more time than
// one that says nothing.
func TestDeafServer(t *testing.T) {
	for name, flood := range map[string]string{"asks": "\xff\xfd\xc8\xff\xfd\xc9", "talks": "x", "is silent": ""} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				over := make(chan bool)
				defer close(over)
				s := quick(listen(t, func(c net.Conn) {
					for range 1 << 12 {
						if _, err := io.WriteString(c, strings.Repeat(flood, 100)); err != nil {
							return
						}
					}
					<-over
				}))
				s.Most = 2 * time.Second
				start := time.Now()
				if _, err := s.Run(t.Context()); err != nil {
					t.Error(err)
				}
				if took := time.Since(start); took > time.Minute {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

// TestWriteFileLeavesPipes: what is no file is written to and stays what it is.
func TestWriteFileLeavesPipes(t *testing.T) {
	name := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := record(1, "one")
	if err := WriteFile(name, r); err != nil {
		t.Fatal(err)
	}
	if i, err := os.Stat(name); err != nil || i.Mode().Type() != os.ModeNamedPipe {
		t.Fatal(i, err)
	}
	got := make([]byte, len(r.JSON()))
	if _, err := io.ReadFull(f, got); err != nil || string(got) != string(r.JSON()) {
		t.Errorf("%q %v", got, err)
	}
}
