package tapstack_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// This file checks that what the documents link to in this repository is there.

var (
	codeSpan = regexp.MustCompile("`[^`]*`")
	linked   = regexp.MustCompile(`\]\(([^)\s]+)(?: "[^"]*")?\)|^\[[^\]]+\]:\s+(\S+)|(?:href|src)="([^"]+)"`)
	scheme   = regexp.MustCompile(`^[a-z][a-z0-9+.-]*:`)
	linkText = regexp.MustCompile(`!?\[([^\]]*)\]\([^)]*\)`)
)

// prose calls f with each line of a document that is not in a block of code.
func prose(doc string, f func(n int, line string)) {
	fence := ""
	for n, line := range strings.Split(doc, "\n") {
		bare := strings.TrimLeft(line, " >")
		switch {
		case fence == "" && (strings.HasPrefix(bare, "```") || strings.HasPrefix(bare, "~~~")):
			fence = bare[:3]
		case fence != "":
			if strings.HasPrefix(bare, fence) {
				fence = ""
			}
		default:
			f(n+1, line)
		}
	}
}

// anchors are the names that headings have in a page made of doc.
func anchors(doc string) map[string]bool {
	all := make(map[string]bool)
	prose(doc, func(_ int, line string) {
		level := len(line) - len(strings.TrimLeft(line, "#"))
		if level == 0 || level > 6 || !strings.HasPrefix(line[level:], " ") {
			return
		}
		title := linkText.ReplaceAllString(strings.TrimSpace(line[level:]), "$1")
		slug := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, title)
		for k, name := 0, slug; ; k++ {
			if k > 0 {
				name = fmt.Sprintf("%s-%d", slug, k)
			}
			if !all[name] {
				all[name] = true
				return
			}
		}
	})
	return all
}

// brokenLinks returns the links of a document in dir that lead nowhere, and how
// many it has that lead into the repository.
func brokenLinks(file, doc string) (broken []string, checked int) {
	prose(doc, func(n int, line string) {
		for _, m := range linked.FindAllStringSubmatch(codeSpan.ReplaceAllString(line, "``"), -1) {
			to := m[1] + m[2] + m[3]
			if scheme.MatchString(to) || strings.HasPrefix(to, "//") {
				continue
			}
			checked++
			path, anchor, has := strings.Cut(to, "#")
			target, text := file, doc
			if path != "" {
				target = filepath.Join(filepath.Dir(file), filepath.FromSlash(path))
				if _, err := os.Stat(target); err != nil {
					broken = append(broken, fmt.Sprintf("%s:%d: there is no %s", file, n, to))
					continue
				}
			}
			if !has || !strings.HasSuffix(target, ".md") {
				continue // lines of code have no names to check
			}
			if path != "" {
				b, err := os.ReadFile(target)
				if err != nil {
					broken = append(broken, err.Error())
					continue
				}
				text = string(b)
			}
			if !anchors(text)[anchor] {
				broken = append(broken, fmt.Sprintf("%s:%d: %s has no heading #%s", file, n, target, anchor))
			}
		}
	})
	return broken, checked
}

// TestLinks: relative links in the README and the documents lead to files, and
// their anchors to headings.
func TestLinks(t *testing.T) {
	total := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && (d.Name() == ".git" || d.Name() == "testdata") {
			return fs.SkipDir
		}
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".md") {
			return err
		}
		doc, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		broken, n := brokenLinks(path, string(doc))
		for _, b := range broken {
			t.Error(b)
		}
		total += n
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if total < 8 {
		t.Errorf("only %d links found", total)
	}
}

// TestLinksAreChecked: the checker tells what leads nowhere.
func TestLinksAreChecked(t *testing.T) {
	const doc = "# Of `Two` words, [a link](README.md)\n## Twice\n## Twice\n" +
		"[a](README.md) [b](#of-two-words-a-link) [c](#twice-1) [d](https://example.org/no.md) `[e](no.md)`\n" +
		"```\n[f](no.md)\n# Not a heading\n```\n" +
		"[g](no.md) ![h](docs/no.svg) [i](#twice-2) [j](#not-a-heading)\n[k]: no/where\n<img src=\"no.png\">\n"
	broken, checked := brokenLinks("made-up.md", doc)
	want := []string{"9: there is no no.md", "9: there is no docs/no.svg", "9: made-up.md has no heading #twice-2",
		"9: made-up.md has no heading #not-a-heading", "10: there is no no/where", "11: there is no no.png"}
	if len(broken) != len(want) || checked != 10 {
		t.Fatalf("%d checked, broken:\n%s", checked, strings.Join(broken, "\n"))
	}
	for k, w := range want {
		if broken[k] != "made-up.md:"+w {
			t.Errorf("%q, want %q", broken[k], w)
		}
	}
}
