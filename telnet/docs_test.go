package telnet_test

import (
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// testDirs are the packages whose tests docs/telnet.md names.
var testDirs = []string{".", "engine", "option", "expect", "client", "fingerprint", "telsh", "ptyshell", "../cmd/tapstack", "../internal/interop", "../internal/service"}

// parseDir parses a directory's files: of tests, or the others.
func parseDir(t *testing.T, dir string, tests bool) (files []*ast.File) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") != tests {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, e.Name()), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return files
}

// testNames are the functions that are tests.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, dir := range testDirs {
		if _, err := os.Stat(dir); err != nil {
			t.Fatal(err)
		}
		for _, f := range parseDir(t, dir, true) {
			for _, d := range f.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
					names[fn.Name.Name] = true
				}
			}
		}
	}
	return names
}

// symbols are the exported names of a package: functions, types, variables, and
// as T.x methods and fields.
func symbols(t *testing.T, dir string) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, f := range parseDir(t, dir, false) {
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				name := d.Name.Name
				if d.Recv != nil {
					recv := d.Recv.List[0].Type
					if star, ok := recv.(*ast.StarExpr); ok {
						recv = star.X
					}
					if id, ok := recv.(*ast.Ident); ok {
						name = id.Name + "." + name
					}
				}
				names[name] = true
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch spec := spec.(type) {
					case *ast.ValueSpec:
						for _, id := range spec.Names {
							names[id.Name] = true
						}
					case *ast.TypeSpec:
						names[spec.Name.Name] = true
						var list *ast.FieldList
						switch typ := spec.Type.(type) {
						case *ast.StructType:
							list = typ.Fields
						case *ast.InterfaceType:
							list = typ.Methods
						default:
							continue
						}
						for _, field := range list.List {
							for _, id := range field.Names {
								names[spec.Name.Name+"."+id.Name] = true
							}
						}
					}
				}
			}
		}
	}
	return names
}

func document(t *testing.T) string {
	t.Helper()
	doc, err := os.ReadFile("../docs/telnet.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(doc)
}

var (
	quoted   = regexp.MustCompile("`([^`]+)`")
	testName = regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z]\\w*)`")
)

// TestDocumentNamesTests: each test that docs/telnet.md names exists.
func TestDocumentNamesTests(t *testing.T) {
	have, n := testNames(t), 0
	for _, m := range testName.FindAllStringSubmatch(document(t), -1) {
		if n++; !have[m[1]] {
			t.Errorf("%s does not exist", m[1])
		}
	}
	if n < 100 {
		t.Errorf("only %d names", n)
	}
}

// seedMethods are those of telnetlib3's three interfaces, by section of the
// document.
var seedMethods = map[string]string{
	"### asyncio": `create_server host port protocol_factory shell encoding encoding_errors force_binary never_send_ga line_mode connect_maxwait
		compression limit term cols rows timeout ssl tls_auto close wait_closed sockets is_serving clients wait_for_client
		open_connection client_factory family flags local_addr tspeed xdisploc connect_minwait connect_timeout waiter_closed send_environ server_hostname
		read readexactly readuntil readuntil_pattern readline __aiter__ at_eof
		write writelines echo drain is_closing write_eof get_extra_info iac send_iac send_ga send_eor
		request_status request_tspeed request_charset request_environ request_xdisploc request_ttype request_forwardmask request_comport_signature
		send_linemode request_linemode_change send_lineflow_mode send_gmcp send_msdp send_mssp wait_for wait_for_condition
		set_iac_callback set_slc_callback set_ext_callback set_ext_send_callback set_ext_offer_callback
		mode linemode inbinary outbinary will_echo slctab forwardmask local_option remote_option pending_option
		always_will always_do always_wont always_dont passive_do ctx
		begin_negotiation begin_advanced_negotiation negotiation_should_advance check_negotiation
		on_naws on_ttype on_tspeed on_xdisploc on_environ on_charset on_request_environ on_request_charset on_timeout
		send_ttype send_tspeed send_xdisploc send_naws send_env send_charset idle duration rx_bytes tx_bytes`,
	"### Blocking": `TelnetConnection connect read read_some readline read_until write flush close get_extra_info wait_for writer __enter__ __exit__
		TimeoutError EOFError BlockingTelnetServer start accept serve_forever shutdown
		active address port terminal_type columns rows connect_time last_input_time send addrport idle duration deactivate`,
	"### telnetlib": `open close get_socket fileno write read_until read_all read_some read_very_eager read_eager read_lazy read_very_lazy read_sb_data
		set_option_negotiation_callback expect interact mt_interact msg set_debuglevel`,
}

// TestSeedTable: each method of the seed's is in the table for those who come
// from there, each name of Go's in its second column exists, and each row has a
// test.
func TestSeedTable(t *testing.T) {
	doc, tests, packages := document(t), testNames(t), map[string]map[string]bool{}
	exists := func(name string) bool {
		pkg, rest, ok := strings.Cut(name, ".")
		if first := pkg[0]; !ok || first >= 'A' && first <= 'Z' {
			pkg, rest = "telnet", name
		}
		if packages[pkg] == nil {
			dir := map[string]string{"telnet": "."}[pkg]
			if _, err := os.Stat(pkg); dir == "" && err == nil {
				dir = pkg
			} else if dir == "" {
				p, err := build.Import(pkg, "", build.FindOnly)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				dir = p.Dir
			}
			packages[pkg] = symbols(t, dir)
		}
		return packages[pkg][rest]
	}
	goName := regexp.MustCompile(`^(?:[a-z]+\.)?[A-Z]\w*(?:\.[A-Z]\w*)?$`)
	for section, methods := range seedMethods {
		_, rest, ok := strings.Cut(doc, "\n"+section+"\n")
		if !ok {
			t.Fatalf("no %s", section)
		}
		rest, _, _ = strings.Cut(rest, "\n#")
		var there []string
		for line := range strings.Lines(rest) {
			cells := strings.Split(line, "|")
			if len(cells) != 5 || strings.HasPrefix(cells[1], "---") || strings.TrimSpace(cells[1]) == "there" {
				continue
			}
			row := strings.TrimSpace(cells[1])
			for _, m := range quoted.FindAllStringSubmatch(cells[1], -1) {
				there = append(there, m[1])
			}
			names := 0
			for _, m := range quoted.FindAllStringSubmatch(cells[2], -1) {
				if !goName.MatchString(m[1]) {
					continue
				}
				if names++; !exists(m[1]) {
					t.Errorf("%s: %s does not exist", row, m[1])
				}
			}
			shown := quoted.FindAllStringSubmatch(cells[3], -1)
			for _, m := range shown {
				if !tests[m[1]] {
					t.Errorf("%s: the test %s does not exist", row, m[1])
				}
			}
			if len(shown) == 0 || names == 0 && !strings.Contains(cells[2], "`defer`") {
				t.Errorf("%s: %d names, %d tests", row, names, len(shown))
			}
		}
		for _, m := range strings.Fields(methods) {
			if !slices.Contains(there, m) {
				t.Errorf("%s: %s is missing", section, m)
			}
		}
	}
}

// TestDefectTable: the defects are in the document by number, and so are the
// tests that have a number.
func TestDefectTable(t *testing.T) {
	doc := document(t)
	numbered := regexp.MustCompile(`^TestDefect(\d\d)`)
	for name := range testNames(t) {
		if numbered.MatchString(name) && !strings.Contains(doc, "`"+name+"`") {
			t.Errorf("%s is not in the document", name)
		}
	}
	for n := 1; n <= 19; n++ {
		row := regexp.MustCompile("(?m)^\\| " + strings.TrimLeft(string(rune('0'+n/10)), "0") + string(rune('0'+n%10)) + " \\|.*`(TestDefect" +
			string(rune('0'+n/10)) + string(rune('0'+n%10)) + "\\w+)`")
		if !row.MatchString(doc) {
			t.Errorf("no row for %d with its test", n)
		}
	}
}
