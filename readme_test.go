package tapstack_test

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
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

// TestArchitectureNames: functions and methods that docs/architecture.md names
// exist.
func TestArchitectureNames(t *testing.T) {
	functions := make(map[string]bool)
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && d.Name() == "bench" {
			return fs.SkipDir // another module
		}
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, d := range f.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			name := f.Name.Name
			functions[name] = true
			if f.Recv == nil {
				continue
			}
			recv := f.Recv.List[0].Type
			if star, ok := recv.(*ast.StarExpr); ok {
				recv = star.X
			}
			if id, ok := recv.(*ast.Ident); ok {
				functions[id.Name+"."+name] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, m := range regexp.MustCompile(`\(\*(\w+)\)\.(\w+)`).FindAllStringSubmatch(string(doc), -1) {
		if checked++; !functions[m[1]+"."+m[2]] {
			t.Errorf("there is no (*%s).%s", m[1], m[2])
		}
	}
	for _, m := range regexp.MustCompile("`((?:input|deliver|leave|expire|deadline)\\w*)`").FindAllStringSubmatch(string(doc), -1) {
		if checked++; !functions[m[1]] {
			t.Errorf("there is no %s", m[1])
		}
	}
	if checked < 20 {
		t.Errorf("only %d names found", checked)
	}
}
