package telnet

import (
	"testing"

	"github.com/tapstack/tapstack/telnet/option"
)

// TestChildEnvNever: what decides what runs, or what it loads, is no client's to
// say, though somebody has put it on the list.
func TestChildEnvNever(t *testing.T) {
	for _, name := range []string{"LD_PRELOAD", "GCONV_PATH", "GLIBC_TUNABLES", "BASH_ENV", "BASH_FUNC_ls", "SHELLOPTS", "PYTHONPATH", "PERL5LIB", "GIT_SSH",
		"EDITOR", "PAGER", "LESSOPEN", "TERMCAP", "TERMINFO", "PROMPT_COMMAND", "USER", "HOME", "PATH", "CREDENTIALS_DIRECTORY"} {
		if env := ChildEnv([]option.Var{{Name: name, Value: "x"}}, name); len(env) != 0 {
			t.Errorf("%q", env)
		}
	}
	if env := ChildEnv([]option.Var{{Name: "LC_ALL", Value: "C"}}, "LC_ALL"); len(env) != 1 {
		t.Errorf("%q", env)
	}
}
