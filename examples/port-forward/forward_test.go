package main

import (
	"net"
	"testing"
)

func TestParse(t *testing.T) {
	for spec, want := range map[string][2]string{
		"80:a.test:8080":          {"bind:80", "a.test:8080"},
		"0:10.77.0.1:80":          {"bind:0", "10.77.0.1:80"},
		"*:80:a.test:8080":        {":80", "a.test:8080"},
		":80:a.test:8080":         {":80", "a.test:8080"},
		"[::1]:80:[fd77::1]:8080": {"[::1]:80", "[fd77::1]:8080"},
		"80:[fe80::1%tap7]:8080":  {"bind:80", "[fe80::1%tap7]:8080"},
		"":                        {},
		"80":                      {},
		"80:a.test":               {},
		"80::80":                  {},
		"x:a.test:80":             {},
		"80:a.test:0":             {},
		"65536:a.test:80":         {},
		"1:2:3:4:5":               {},
		"80:fd77::1:80":           {},
	} {
		listen, to, err := parse(spec, "bind")
		if got := [2]string{listen, to}; got != want || (err == nil) != (want[0] != "") {
			t.Errorf("%q: %q, %v, want %q", spec, got, err, want)
		}
	}
}

// FuzzParse: what is accepted can be listened on and dialled.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"80:a.test:8080", "*:80:a:1", "[::1]:80:[fd77::1]:8080", "80:[fe80::1%tap7]:80", "[:80:a:1", "[]:1:[]]:2", ":::"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, spec string) {
		listen, to, err := parse(spec, "127.0.0.1")
		if err != nil {
			return
		}
		for _, a := range []string{listen, to} {
			if _, _, err := net.SplitHostPort(a); err != nil {
				t.Errorf("%q: %v", a, err)
			}
		}
	})
}
