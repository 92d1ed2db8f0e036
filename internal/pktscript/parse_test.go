package pktscript

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

var dir = flag.String("dir", "", "parse every script below this directory")

func TestParseDir(t *testing.T) {
	if *dir == "" {
		t.Skip()
	}
	ok, bad := 0, 0
	filepath.WalkDir(*dir, func(path string, d fs.DirEntry, err error) error {
		if filepath.Ext(path) != ".pkt" {
			return nil
		}
		b, _ := os.ReadFile(path)
		if _, err := Parse(path, string(b)); err != nil {
			bad++
			t.Logf("%s: %v", path, err)
		} else {
			ok++
		}
		return nil
	})
	t.Logf("%d parsed, %d not", ok, bad)
}
