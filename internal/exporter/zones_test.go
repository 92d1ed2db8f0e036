package exporter

import "testing"

// TestTargetZones: targets may have a zone wherever they have an address.
func TestTargetZones(t *testing.T) {
	presets := Presets()
	for _, c := range []struct {
		module, text, host string
		port               uint16
	}{
		{"icmp", "fe80::1%tap7", "fe80::1%tap7", 0},
		{"icmp", "[fe80::1%tap7]", "fe80::1%tap7", 0},
		{"icmp", "fe80::1%2", "fe80::1%2", 0},
		{"ssh", "fe80::1%tap7", "fe80::1%tap7", 22},
		{"ssh", "[fe80::1%tap7]:2222", "fe80::1%tap7", 2222},
		{"ssh", "[fd77::1%tap7]:2222", "fd77::1%tap7", 2222},
		{"http", "http://[fe80::1%25tap7]:8080/x", "fe80::1%tap7", 8080}, // RFC 6874
	} {
		m := presets[c.module]
		if m == nil {
			t.Fatalf("no module %s", c.module)
		}
		if got, err := m.target(c.text); err != nil || got.host != c.host || got.port != c.port {
			t.Errorf("%s %s: %+v, %v", c.module, c.text, got, err)
		}
	}
	for _, text := range []string{"fe80::1%", "[fe80::1%]:22", "name%tap7", "10.77.0.1%tap7"} {
		if got, err := presets["ssh"].target(text); err == nil {
			t.Errorf("%s: %+v", text, got)
		}
	}
}
