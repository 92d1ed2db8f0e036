package tapstack_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// This file checks that what the documents say of the code is true: each name
// they give exists, and each clause of a record in docs/rfc has a test.

// symbols are the names that a package declares, tests included: functions,
// types, constants, variables, and "Type.member" for methods and fields.
type symbols map[string]bool

// declared indexes the module by the package's path below it.
func declared(t *testing.T) map[string]symbols {
	t.Helper()
	index := make(map[string]symbols)
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && (d.Name() == ".git" || d.Name() == "testdata") {
			return fs.SkipDir
		}
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(filepath.Dir(path))
		if index[pkg] == nil {
			index[pkg] = make(symbols)
		}
		for _, d := range f.Decls {
			index[pkg].add(d)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return index
}

func (s symbols) add(d ast.Decl) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil {
			s[d.Name.Name] = true
			return
		}
		recv := d.Recv.List[0].Type
		if star, ok := recv.(*ast.StarExpr); ok {
			recv = star.X
		}
		if generic, ok := recv.(*ast.IndexExpr); ok {
			recv = generic.X
		}
		if id, ok := recv.(*ast.Ident); ok {
			s[id.Name+"."+d.Name.Name] = true
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch spec := spec.(type) {
			case *ast.ValueSpec:
				for _, n := range spec.Names {
					s[n.Name] = true
				}
			case *ast.TypeSpec:
				s[spec.Name.Name] = true
				if st, ok := spec.Type.(*ast.StructType); ok {
					for _, f := range st.Fields.List {
						for _, n := range f.Names {
							s[spec.Name.Name+"."+n.Name] = true
						}
					}
				}
			}
		}
	}
}

// TestArchitectureNames: functions and methods that docs/architecture.md names
// exist.
func TestArchitectureNames(t *testing.T) {
	all := make(symbols)
	for _, s := range declared(t) {
		for n := range s {
			all[n] = true
			if _, member, ok := strings.Cut(n, "."); ok {
				all[member] = true
			}
		}
	}
	doc, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, m := range regexp.MustCompile(`\(\*(\w+)\)\.(\w+)`).FindAllStringSubmatch(string(doc), -1) {
		if checked++; !all[m[1]+"."+m[2]] {
			t.Errorf("there is no (*%s).%s", m[1], m[2])
		}
	}
	for _, m := range regexp.MustCompile("`((?:input|deliver|leave|expire|deadline)\\w*)`").FindAllStringSubmatch(string(doc), -1) {
		if checked++; !all[m[1]] {
			t.Errorf("there is no %s", m[1])
		}
	}
	if checked < 20 {
		t.Errorf("only %d names found", checked)
	}
}

var (
	quoted = regexp.MustCompile("`([^`]+)`")
	// named is a name in a document: tcp.Conn, tcp.(*Conn).Input,
	// stack/simnet.New, tcp.TestRACK/reordering.
	named = regexp.MustCompile(`^([\w/]+)\.(?:\(\*?(\w+)\)\.)?(\w+)(?:\.(\w+))?(?:/[\w-]+)*$`)
	// departs are the words a row of a record may have instead of a test.
	departs = regexp.MustCompile(`^(not done|not ours|left to the user|as Linux)\b`)
)

// TestRecords: in docs/rfc, what stands in backquotes in the
// last two columns of a table (where, shown by) exists, and every clause is
// shown by a test or says why not. docs/rfc/README.md describes the form.
func TestRecords(t *testing.T) {
	index := declared(t)
	exists := func(name string) bool {
		if strings.HasSuffix(name, ".pkt") || strings.HasSuffix(name, ".go") || strings.HasSuffix(name, ".md") {
			_, err := os.Stat(name)
			return err == nil
		}
		m := named.FindStringSubmatch(name)
		if m == nil {
			return false
		}
		member := m[3]
		switch {
		case m[2] != "":
			member = m[2] + "." + m[3]
		case m[4] != "":
			member = m[3] + "." + m[4]
		}
		if s := index[m[1]]; s != nil {
			return s[member]
		}
		for pkg, s := range index { // by the last element of its path
			if strings.HasSuffix(pkg, "/"+m[1]) && s[member] {
				return true
			}
		}
		return false
	}
	files, err := filepath.Glob("docs/rfc/[0-9]*.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for _, file := range files {
		doc, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for n, line := range strings.Split(string(doc), "\n") {
			cells := strings.Split(strings.Trim(line, " |"), "|")
			if !strings.HasPrefix(line, "|") || len(cells) < 4 || strings.HasPrefix(cells[0], "---") || strings.TrimSpace(cells[0]) == "clause" {
				continue
			}
			rows++
			where, shown := strings.TrimSpace(cells[len(cells)-2]), strings.TrimSpace(cells[len(cells)-1])
			for _, m := range quoted.FindAllStringSubmatch(where+" "+shown, -1) {
				if !exists(m[1]) {
					t.Errorf("%s:%d: there is no %s", file, n+1, m[1])
				}
			}
			if !departs.MatchString(shown) && !strings.Contains(shown, "Test") && !strings.Contains(shown, ".pkt") && !strings.Contains(shown, "Fuzz") {
				t.Errorf("%s:%d: %q is neither a test nor a reason", file, n+1, shown)
			}
		}
	}
	if len(files) > 0 && rows == 0 {
		t.Error("no row of any record was understood")
	}
}
