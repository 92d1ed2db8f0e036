package telnet_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocumentNamesTests: each test that docs/telnet.md names exists.
func TestDocumentNamesTests(t *testing.T) {
	var code strings.Builder
	for _, dir := range []string{".", "engine", "option", "expect", "client", "../cmd/tapstack", "telsh", "ptyshell"} {
		files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
		if err != nil || len(files) == 0 {
			t.Fatal(dir, err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			code.Write(b)
		}
	}
	doc, err := os.ReadFile("../docs/telnet.md")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z]\\w*)`").FindAllStringSubmatch(string(doc), -1)
	if len(names) < 30 {
		t.Errorf("only %d names", len(names))
	}
	for _, n := range names {
		if !strings.Contains(code.String(), "func "+n[1]+"(") {
			t.Errorf("%s does not exist", n[1])
		}
	}
}
