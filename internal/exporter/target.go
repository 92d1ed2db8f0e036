package exporter

// This file owns what ?target= may be. It comes from whoever can reach the
// exporter, so it is checked as far as its grammar goes before anything is done.

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"github.com/tapstack/tapstack/probe/check"
)

// target is whom to probe.
type target struct {
	host string // a name, or an address without brackets
	port uint16 // 0: none needed
	path string // of a URL, with its query
	tls  bool   // of https
}

// maxTarget bounds the text.
const maxTarget = 2048

// target reads the text as the module's prober takes it: a host; a host and a
// port, "[fd77::1]:22"; or for http a URL.
func (m *Module) target(text string) (t target, err error) {
	switch {
	case text == "":
		return t, errors.New("the parameter target is missing")
	case len(text) > maxTarget:
		return t, fmt.Errorf("the target is longer than %d characters", maxTarget)
	}
	s := check.LookupService(m.Service)
	if strings.Contains(text, "://") {
		if s == nil || s.Name != "http" && s.Name != "https" {
			return t, fmt.Errorf("target %q: a URL is of modules for http only; want %s", text, m.want())
		}
		if text, err = t.url(text); err != nil {
			return t, err
		}
	}
	port := ""
	t.host = text
	if inner, ok := strings.CutPrefix(text, "["); ok && strings.HasSuffix(inner, "]") {
		t.host = strings.TrimSuffix(inner, "]")
	}
	if _, err := netip.ParseAddr(t.host); err != nil {
		if h, p, err := net.SplitHostPort(text); err == nil {
			t.host, port = h, p
		}
	}
	if err := checkHost(t.host); err != nil {
		return t, fmt.Errorf("target %q: %w; want %s", text, err, m.want())
	}
	switch {
	case port != "" && m.packets():
		return t, fmt.Errorf("target %q: no port, want %s", text, m.want())
	case port != "":
		if t.port, err = check.ParsePort(port); err != nil {
			return t, fmt.Errorf("target %q: %w", text, err)
		}
	case t.port != 0: // the URL's
	case m.Port != 0:
		t.port = uint16(m.Port)
	case s != nil:
		t.port = s.Port
	case !m.packets():
		return t, fmt.Errorf("target %q: no port, want %s", text, m.want())
	}
	return t, nil
}

// want is a target in words.
func (m *Module) want() string {
	switch s := check.LookupService(m.Service); {
	case m.packets():
		return "a host: a name or an address"
	case s != nil && (s.Name == "http" || s.Name == "https"):
		return "a URL, HOST or HOST:PORT"
	case s != nil || m.Port != 0:
		return "HOST or HOST:PORT"
	}
	return "HOST:PORT"
}

// url takes a URL apart and returns its host and port.
func (t *target) url(text string) (string, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return "", fmt.Errorf("target %q: not a URL", text)
	case u.Scheme != "http" && u.Scheme != "https":
		return "", fmt.Errorf("target %q: want http or https", text)
	case u.User != nil:
		return "", errors.New("a target with a password in it is refused: it would stand in logs")
	}
	t.tls, t.path, t.port = u.Scheme == "https", u.RequestURI(), 80
	if t.tls {
		t.port = 443
	}
	return u.Host, nil
}

// checkHost refuses what is neither an address nor a name (RFC 1123 §2.1, and
// the underscore that many have all the same).
func checkHost(s string) error {
	if _, err := netip.ParseAddr(s); err == nil {
		return nil
	}
	if s == "" || len(s) > 254 {
		return errors.New("no host")
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 {
			return fmt.Errorf("%q is neither a name nor an address", s)
		}
		for _, c := range []byte(label) {
			if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return fmt.Errorf("%q is neither a name nor an address", s)
			}
		}
	}
	return nil
}
