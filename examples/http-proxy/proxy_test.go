package main

import (
	"bufio"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

func TestTarget(t *testing.T) {
	for request, want := range map[string]string{
		"GET http://a.test/x":          "a.test:80",
		"GET http://a.test:8080/x":     "a.test:8080",
		"GET http://[fd77::1]/":        "[fd77::1]:80",
		"GET http://[fd77::1]:81/":     "[fd77::1]:81",
		"CONNECT a.test:443":           "a.test:443",
		"CONNECT [fd77::1]:443":        "[fd77::1]:443",
		"GET /":                        "",
		"GET https://a.test/":          "",
		"GET ftp://a.test/":            "",
		"GET http://a.test:99999/":     "",
		"CONNECT a.test":               "",
		"CONNECT :443":                 "",
		"CONNECT a.test:0":             "",
		"CONNECT a.test:https":         "",
		"CONNECT http://a.test:443/":   "",
		"CONNECT a.test:443/index.htm": "",
	} {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(request + " HTTP/1.1\r\nHost: other.test\r\n\r\n")))
		got := ""
		if err == nil {
			got, err = target(r)
		}
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v, want %q", request, got, err, want)
		}
	}
}

// FuzzTarget: what a request is said to be for can be dialled.
func FuzzTarget(f *testing.F) {
	for _, seed := range []string{"GET http://a.test/x HTTP/1.1", "GET http://[fd77::1%25tap7]:81/ HTTP/1.0", "CONNECT a.test:443 HTTP/1.1",
		"CONNECT [fd77::1]:443 HTTP/1.1", "CONNECT http://a:1/ HTTP/1.1", "GET http://u:p@a.test:/ HTTP/1.1", "GET * HTTP/1.1", "OPTIONS http:///x HTTP/1.1"} {
		f.Add([]byte(seed + "\r\nHost: b.test\r\n\r\n"))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(string(b))))
		if err != nil {
			return
		}
		to, err := target(r)
		if err != nil {
			return
		}
		host, port, err := net.SplitHostPort(to)
		if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 || host == "" {
			t.Errorf("%q: %v, %v", to, err, perr)
		}
	})
}
