package pktscript

import (
	"errors"
	"testing"
)

func TestEvalHolds(t *testing.T) {
	for _, code := range []string{
		"assert 1 == 1",
		"assert 1 + 2 * 3 == 7 and (1 + 2) * 3 == 9",
		"assert 7 // 2 == 3 and -7 // 2 == -4 and 7 % 4 == 3 and -7 % 4 == 1",
		"assert 7 / 2 == 3.5",
		"assert 1 << 4 | 1 == 17 and 0xff & 0x0f == 15 and 5 ^ 1 == 4 and ~0 == -1",
		"assert 990 <= x <= 1010, x",
		"assert not 2 < 1 < 3",
		"assert x != 5 or undefined",
		"assert not (x == 5 and True)",
		"assert 'a' in 'bac' and 'x' != 'y'",
		"assert abs(-3) == 3 and max(1, 2, 3) == 3 and min(2, 1) == 1 and int(2.9) == 2",
		"y = x // 2; assert y == 500",
		"assert x == 1000, 'x=%d y=%d' % (x, x)  # a comment; with 'quotes",
		"print(x)\nprint undefined\nassert x",
		"if x == 5: assert False\nif x == 1000: assert True",
		"assert (x ==\n 1000)",
		"assert x == 1000; \\\n assert x > 999",
		"assert 1e3 == x and .5 < 1",
	} {
		if err := (env{"x": int64(1000), "undefined": false}).exec(code); err != nil {
			t.Errorf("%s: %v", code, err)
		}
	}
}

func TestEvalFails(t *testing.T) {
	for code, want := range map[string]string{
		"assert x == 5, x":               "assertion failed: x == 5 (1000)",
		"assert 990 <= x <= 999":         "assertion failed: 990 <= x <= 999",
		"assert not x":                   "assertion failed: not x",
		"assert x < 5 and 1":             "assertion failed: x < 5 and 1",
		"assert x == 7, 'v=%d' % x":      "assertion failed: x == 7 (v=%d % 1000)",
		"assert 0":                       "assertion failed: 0",
		"assert 1\nassert x & 1, 'odd'":  "assertion failed: x & 1 (odd)",
		"if x: assert x == 1":            "assertion failed: x == 1",
		"assert max(1, 2) == min(1, 2)":  "assertion failed: max(1, 2) == min(1, 2)",
		"assert 'a' == 'b'":              "assertion failed: 'a' == 'b'",
		"assert 1 == 1 == 2":             "assertion failed: 1 == 1 == 2",
		"assert 2 > 1 > 0 and 0 > 1 > 2": "assertion failed: 2 > 1 > 0 and 0 > 1 > 2",
	} {
		err := (env{"x": int64(1000)}).exec(code)
		var a *assertion
		if !errors.As(err, &a) || err.Error() != want {
			t.Errorf("%s: %v", code, err)
		}
	}
	for _, code := range []string{"assert", "assert y", "assert (1", "assert 1 +", "assert 1 1", "for x in y: z", "assert 1 / 0", "assert 1 // 0",
		"assert f(1)", "assert 'a", "assert 1 < 'a'", "assert 'a' < 1", "x +", "assert -'a'", "assert 1 << 'a'"} {
		err := (env{"x": int64(1)}).exec(code)
		var a *assertion
		if err == nil || errors.As(err, &a) {
			t.Errorf("%s: %v", code, err)
		}
	}
}

// FuzzEval: no code makes the evaluator panic or hang.
func FuzzEval(f *testing.F) {
	f.Add("assert (x & 1) != 0, 'x=%d' % x")
	f.Add("y = 3 * x // 2; assert 1 <= y <= 2 and not 'a' in 'b'")
	f.Fuzz(func(t *testing.T, code string) { _ = (env{"x": int64(3)}).exec(code) })
}
