package pktscript

import "strings"

// This file owns the differences between the collections. Scripts written for
// FreeBSD are recognised by their sysctl names. They are run in a tolerant
// mode, because what they say about a connection holds for every TCP while
// some of its outward form is FreeBSD's:
//
//   - the options of a segment are compared as a set, padding and the shift of
//     the window scale aside;
//   - the window of an expected segment is not compared, nor are the buffer
//     sizes behind it;
//   - an ACK may come at once where FreeBSD delays it: a bare ACK that is not
//     the one expected is passed over if it acknowledges, in order, what has
//     just arrived;
//   - of "#ifdef STANDARD" and "#ifdef FreeBSD" the first is taken;
//   - times are good to 75 ms.

// bsdTolerance is what the tolerant mode forgives in time.
const bsdTolerance = 75_000 // microseconds

// isBSD recognises FreeBSD's scripts.
func isBSD(src string) bool {
	return strings.Contains(src, "sysctl -w net.inet.") || strings.Contains(src, "sysctl -w kern.") ||
		strings.Contains(src, "#ifdef STANDARD")
}

// preprocess blanks the lines that #ifdef excludes, so that line numbers stay.
func preprocess(src string, defined map[string]bool) (string, error) {
	if !strings.Contains(src, "#if") {
		return src, nil
	}
	type frame struct{ outer, this bool }
	var stack []frame
	on := true
	lines := strings.Split(src, "\n")
	for i, l := range lines {
		f := strings.Fields(l)
		if len(f) == 0 || f[0][0] != '#' {
			if !on {
				lines[i] = ""
			}
			continue
		}
		lines[i] = ""
		switch {
		case (f[0] == "#ifdef" || f[0] == "#ifndef") && len(f) > 1:
			stack = append(stack, frame{on, defined[f[1]] == (f[0] == "#ifdef")})
		case f[0] == "#else" && len(stack) > 0:
			top := &stack[len(stack)-1]
			top.this = !top.this
		case f[0] == "#endif" && len(stack) > 0:
			on = stack[len(stack)-1].outer
			stack = stack[:len(stack)-1]
			continue
		default:
			return "", &SyntaxError{i + 1, "preprocessor line " + l}
		}
		top := stack[len(stack)-1]
		on = top.outer && top.this
	}
	if len(stack) > 0 {
		return "", &SyntaxError{len(lines), "#ifdef without #endif"}
	}
	return strings.Join(lines, "\n"), nil
}
