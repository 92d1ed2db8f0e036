package ptyshell

import (
	"slices"
	"strings"

	"github.com/tapstack/tapstack/telnet"
)

// This file owns the environment of the program. Nothing reaches it that is not
// on one of two lists: variables of this host, and, of what the client tells,
// how it shows text. A client's USER, HOME or PATH would decide who runs and
// what: telnetd's have handed USER="-f root" (CVE-2026-24061) and
// CREDENTIALS_DIRECTORY (CVE-2026-28372) to login. The window's size is not
// among them: as variables it would be wrong from the first change on.

// ours are the variables of this host that a program needs.
var ours = []string{"PATH", "HOME", "USER", "LOGNAME", "SHELL", "TZ", "TMPDIR"}

// theirs are the variables that a client may set.
var theirs = []string{"LANG", "LC_ALL", "LC_CTYPE", "COLORTERM"}

// environ makes the environment out of the host's and what is known of the
// client.
func environ(host []string, info *telnet.Info) []string {
	var env []string
	for _, v := range host {
		if name, _, ok := strings.Cut(v, "="); ok && slices.Contains(ours, name) {
			env = append(env, v)
		}
	}
	env = append(env, "TERM="+term(info.Term))
	lang := false
	for _, v := range telnet.ChildEnv(info.Env, theirs...) {
		name, value, _ := strings.Cut(v, "=")
		// A locale with a slash in it is a file's name.
		if !isWord(value, 64) || slices.ContainsFunc(env, func(have string) bool { return strings.HasPrefix(have, name+"=") }) {
			continue
		}
		env = append(env, v)
		lang = lang || name == "LANG" || name == "LC_ALL"
	}
	if !lang {
		env = append(env, "LANG="+locale(info.Charset))
	}
	return env
}

// locale is one with a session's character set.
func locale(charset string) string {
	switch {
	case strings.EqualFold(charset, "UTF-8"):
		return "C.UTF-8"
	case isWord(charset, 64):
		return "en_US." + charset
	}
	return "C"
}

// term is the name of a client's terminal for terminfo, which makes a path of
// it.
func term(name string) string {
	switch name = strings.ToLower(name); {
	case name == "vtnt": // Microsoft's
		return "ansi"
	case !isWord(name, 64) || name == "unknown":
		return "dumb"
	}
	return name
}

// isWord reports whether s is of letters, digits and a few signs, and could not
// be taken for an option or a path.
func isWord(s string, most int) bool {
	return s != "" && len(s) <= most && s[0] != '-' && s[0] != '.' && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_.@+-", r)
	})
}
