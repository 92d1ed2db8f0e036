package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestTelnetFlags: the flags of telnetlib3's three programs are ours by the same
// names, but for those that docs/telnet.md says are not, and all of them are in
// its tables. So are the flags that are ours alone.
func TestTelnetFlags(t *testing.T) {
	b, err := os.ReadFile("../../docs/telnet.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)
	for _, tc := range []struct {
		command    *cobra.Command
		section    string
		seed, none string
		ours       string
	}{
		{telnetdCommand(), "## The server: ", `shell encoding force-binary timeout connect-maxwait pty-exec pty-fork-limit pty-raw line-mode robot-check
			status-interval never-send-ga loglevel logfile logfmt compression no-compression ssl-certfile ssl-keyfile tls-auto data-dir`, "",
			"max-connections"},
		{telnetCommand(), "## The client program", `term encoding encoding-errors force-binary speed send-environ connect-minwait connect-maxwait shell
			loglevel logfile logfmt connect-timeout raw-mode line-mode always-will always-do always-wont always-dont ansi-keys ascii-eol
			compression no-compression gmcp-modules ssl ssl-cafile ssl-no-verify typescript typescript-mode logfile-mode`, "shell ansi-keys ascii-eol",
			"escape"},
		{telnetFingerprintCommand(), "## Fingerprints", `data-dir save-json connect-timeout loglevel logfmt logfile silent set-name encoding ttype scan-type
			send-env always-will always-do mssp-wait banner-quiet-time banner-max-wait banner-max-bytes ssl ssl-cafile ssl-no-verify`, "", ""},
	} {
		_, section, ok := strings.Cut(doc, "\n"+tc.section)
		if !ok {
			t.Fatal(tc.section)
		}
		section, _, _ = strings.Cut(section, "\n## ")
		known := map[string]bool{}
		for _, name := range strings.Fields(tc.seed + " " + tc.ours) {
			known[name] = true
			none := strings.Contains(" "+tc.none+" ", " "+name+" ")
			if has := tc.command.Flags().Lookup(name) != nil; has == none {
				t.Errorf("%s --%s: there %v, said to be %v", tc.command.Name(), name, has, !none)
			}
			if !regexp.MustCompile(`--` + name + "[^-a-z]").MatchString(section) {
				t.Errorf("%s --%s is not in the document", tc.command.Name(), name)
			}
		}
		// Those of all commands for a stack are in no table here.
		stack := map[string]bool{}
		pingCommand().Flags().VisitAll(func(f *pflag.Flag) { stack[f.Name] = true })
		tc.command.Flags().VisitAll(func(f *pflag.Flag) {
			if !known[f.Name] && !stack[f.Name] && f.Name != "help" {
				t.Errorf("%s --%s is in neither list", tc.command.Name(), f.Name)
			}
		})
	}
}
