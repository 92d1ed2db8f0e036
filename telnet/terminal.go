package telnet

import (
	"io"
	"slices"
	"strings"

	"github.com/tapstack/tapstack/telnet/engine"
	"github.com/tapstack/tapstack/telnet/option"
)

// This file owns what lies between a session and a terminal of this host, for
// programs that put one behind it: keys, signals, and the environment of what
// runs there.

// Keys returns the Conn's data as a terminal would be typed at: CR LF and CR NUL
// are the key Return, a CR (RFC 1123 §3.3.1), over any division into reads.
func (c *Conn) Keys() io.Reader { return &keys{c: c} }

type keys struct {
	c       *Conn
	afterCR bool
}

// Read implements io.Reader.
func (k *keys) Read(p []byte) (int, error) {
	for {
		n, err := k.c.Read(p)
		kept := p[:0]
		for _, b := range p[:n] {
			if k.afterCR && (b == '\n' || b == 0) {
				k.afterCR = false
				continue
			}
			k.afterCR = b == '\r'
			kept = append(kept, b)
		}
		if len(kept) > 0 || err != nil || len(p) == 0 {
			return len(kept), err
		}
	}
}

// functions are the special characters that commands stand for.
var functions = map[engine.Command]option.Function{
	engine.BRK: option.FnIP, engine.IP: option.FnIP, engine.AO: option.FnAO, engine.AYT: option.FnAYT, engine.ABORT: option.FnABORT,
	engine.EOF: option.FnEOF, engine.SUSP: option.FnSUSP, engine.EC: option.FnEC, engine.EL: option.FnEL,
}

// KeyOf returns the byte that a command stands for at a terminal: that of the
// special characters of LINEMODE, which are BSD's until the client changes them.
// BRK is the interrupt, as a terminal has no break key.
func (c *Conn) KeyOf(cmd engine.Command) (key byte, ok bool) {
	fn, ok := functions[cmd]
	if !ok {
		return 0, false
	}
	chars := option.DefaultTable()
	c.View(func(e *engine.Engine) {
		if lm, is := e.Option(engine.Linemode).(*option.Linemode); is {
			chars = lm.Chars()
		}
	})
	if chars[fn].Level() == option.NoSupport {
		return 0, false
	}
	return chars[fn].Value, true
}

// neverEnv are variables that no client may set for a program of this host:
// they decide who it runs as, what it loads and where it looks.
var neverEnv = []string{"USER", "LOGNAME", "HOME", "SHELL", "PATH", "IFS", "ENV", "BASH_ENV", "CDPATH", "CREDENTIALS_DIRECTORY", "TERMINFO",
	"TERMINFO_DIRS", "TERMPATH", "NLSPATH", "LOCPATH", "HOSTALIASES", "RES_OPTIONS", "TZDIR", "MAIL", "MAILPATH", "PS4", "PROMPT_COMMAND", "SHELLOPTS",
	"BASHOPTS", "GCONV_PATH", "GETCONF_DIR", "GLIBC_TUNABLES", "LOCALDOMAIN", "RESOLV_HOST_CONF", "MALLOC_TRACE", "TERMCAP", "EDITOR", "VISUAL", "PAGER",
	"BROWSER", "LESSOPEN", "LESSCLOSE"}

// neverPrefixes begin names of that kind.
var neverPrefixes = []string{"LD_", "BASH_FUNC_", "PYTHON", "PERL5", "RUBY", "NODE_", "JAVA_", "GIT_", "LESS_"}

// ChildEnv returns, as "NAME=value", those of a client's variables that are on
// the list and harmless: no name that is known to decide what runs, whatever the list says,
// no value that could be taken for an option, has control characters, or is
// longer than 256 bytes.
func ChildEnv(vars []option.Var, allow ...string) []string {
	var env []string
	for _, v := range vars {
		switch {
		case v.Undefined, !slices.Contains(allow, v.Name), slices.Contains(neverEnv, v.Name),
			slices.ContainsFunc(neverPrefixes, func(p string) bool { return strings.HasPrefix(v.Name, p) }),
			strings.HasPrefix(v.Value, "-"), len(v.Value) > 256, !harmless(v.Value), !isName(v.Name):
			continue
		}
		env = append(env, v.Name+"="+v.Value)
	}
	return env
}

func harmless(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\ufffd' })
}

func isName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_'
	})
}
