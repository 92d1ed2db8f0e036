package tapstack_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

// readmeProgram is what the reader has to add to the README's lines of Go.
const readmeProgram = `package main

import (
	"log"
	"net/http"
	"net/netip"

	"github.com/tapstack/tapstack/ether/tap"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
)

func main() {
`

// TestReadmeProgram compiles the README's lines of Go, runs them in a lab and
// reads their web page from the kernel.
func TestReadmeProgram(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, lines, ok := strings.Cut(string(readme), "```go\n")
	lines, _, ok2 := strings.Cut(lines, "```")
	if !ok || !ok2 {
		t.Fatal("no Go in README.md")
	}
	dir := t.TempDir()
	source, program := filepath.Join(dir, "main.go"), filepath.Join(dir, "readme")
	if err := os.WriteFile(source, []byte(readmeProgram+lines+"}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "build", "-o", program, source).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	lab.InNamespace(t, func(l *lab.Lab) {
		c := exec.Command(program)
		c.Dir = "docs"
		if err := l.Start(c); err != nil {
			t.Fatal(err)
		}
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true,
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				return l.DialKernel(ctx, network, address)
			}}}
		var page *http.Response
		// Nothing is printed when it listens; until then it refuses.
		for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			if page, err = client.Get("http://10.77.0.7/architecture.md"); err == nil || time.Now().After(end) {
				break
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		defer page.Body.Close()
		got, err := io.ReadAll(page.Body)
		want, _ := os.ReadFile("docs/architecture.md")
		if err != nil || string(got) != string(want) {
			t.Errorf("%d bytes of %d, %v", len(got), len(want), err)
		}
	})
}
