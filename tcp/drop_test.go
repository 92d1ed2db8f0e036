package tcp

import (
	"errors"
	"regexp"
	"testing"
)

func TestDropNames(t *testing.T) {
	form := regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	seen := map[string]Drop{}
	for d := range NumDrops {
		name := d.String()
		if !form.MatchString(name) {
			t.Errorf("drop %d has the name %q", d, name)
		}
		if other, ok := seen[name]; ok {
			t.Errorf("drops %d and %d are both %q", other, d, name)
		}
		seen[name] = d
	}
	if DropNone != 0 || NumDrops.String() != "unknown" {
		t.Errorf("DropNone %d, beyond the last %q", DropNone, NumDrops)
	}
	var err error = DropBadChecksum
	if !errors.Is(err, DropBadChecksum) || err.Error() != "tcp: segment dropped: bad-checksum" {
		t.Errorf("as an error: %v", err)
	}
}
