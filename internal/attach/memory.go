package attach

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// minMemory is the least budget: room for the connections of a small service,
// each with a few KB.
const minMemory = 1 << 20

func (o *Options) checkMemory(p *plan) error {
	if o.Memory == "" {
		return nil
	}
	n, ok := parseSize(o.Memory)
	if !ok || n < minMemory {
		return fmt.Errorf("--memory %q: want a size of at least 1M, as 256M or 2G", o.Memory)
	}
	p.memory = n
	return nil
}

// sizeUnits are the endings of a size and what they stand for; the first that
// fits counts.
var sizeUnits = []struct {
	name string
	size float64
}{
	{"KIB", 1 << 10}, {"MIB", 1 << 20}, {"GIB", 1 << 30}, {"KB", 1 << 10}, {"MB", 1 << 20}, {"GB", 1 << 30},
	{"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}, {"", 1},
}

// parseSize reads a number of bytes, or of units of 1024 bytes: "262144",
// "256K", "1.5G", "64MiB".
func parseSize(s string) (n int, ok bool) {
	s = strings.ToUpper(strings.TrimSpace(s))
	for _, u := range sizeUnits {
		number, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		if strings.Trim(number, "0123456789.") != "" {
			return 0, false // no signs, exponents or names of numbers
		}
		x, err := strconv.ParseFloat(number, 64)
		x *= u.size
		return int(min(x, math.MaxInt/2)), err == nil && x <= math.MaxInt/2
	}
	return 0, false
}
