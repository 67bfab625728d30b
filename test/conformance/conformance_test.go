package conformance

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func table(t *testing.T) []Requirement {
	t.Helper()
	rows, err := Table()
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func TestTableIsComplete(t *testing.T) {
	seen := map[string]string{}
	for _, r := range table(t) {
		if earlier, ok := seen[r.ID]; ok {
			t.Errorf("%s: %s is already at %s", r.Line, r.ID, earlier)
		}
		seen[r.ID] = r.Line
		if !strings.HasSuffix(r.Text, ".") {
			t.Errorf("%s: %s needs one or more sentences, has %q", r.Line, r.ID, r.Text)
		}
		named := map[Proof]bool{}
		for _, proof := range r.Proofs {
			if named[proof] {
				t.Errorf("%s: %s names %s twice", r.Line, r.ID, proof)
			}
			named[proof] = true
		}
	}
	// One of each section, so that a file that is not embedded or not read is noticed.
	for _, id := range []string{
		"R3-01", "R4-01", "R5.1-01", "R5.2-04", "R5.3-13", "R5.4-01", "R5.5-09", "R5.6-23", "R6-07", "R7-19", "R8-10",
		"R9-11", "RV-13", "RC-14", "T-20", "F-28", "H-08",
	} {
		if seen[id] == "" {
			t.Errorf("the table lacks %s", id)
		}
	}
}

// TestNamedTestsExist looks for every proof in the sources: the test function by its name, each part of a subtest's
// name as a string in the package, as a script below its testdata or as a line of its tables. `make conformance` finds out
// whether they pass.
func TestNamedTestsExist(t *testing.T) {
	packages := map[string]*sources{}
	for _, r := range table(t) {
		for _, proof := range r.Proofs {
			pkg := packages[proof.Package]
			if pkg == nil {
				pkg = load(t, filepath.Join("..", "..", proof.Package))
				if proof.Package == "test/fixtures" {
					pkg.readTables(t, "../../scripts/fixtures/forms", "../../scripts/fixtures/faults")
				}
				packages[proof.Package] = pkg
			}
			parts := strings.Split(proof.Test, "/")
			if !pkg.functions[parts[0]] {
				t.Errorf("%s: %s: no function %s in %s", r.Line, r.ID, parts[0], proof.Package)
				continue
			}
			for _, part := range parts[1:] {
				if !pkg.names[part] {
					t.Errorf("%s: %s: nothing in %s is called %q", r.Line, r.ID, proof.Package, part)
				}
			}
		}
	}
}

// sources is what the files of a package say about the names of its tests.
type sources struct {
	functions map[string]bool
	names     map[string]bool // possible names of subtests, the way go test rewrites them
}

func load(t *testing.T, folder string) *sources {
	t.Helper()
	found := &sources{functions: map[string]bool{}, names: map[string]bool{}}
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != folder && !strings.Contains(path, "testdata"):
			if entry.Name() == "testdata" {
				return nil
			}
			return fs.SkipDir
		case strings.Contains(path, "testdata"):
			found.names[strings.TrimSuffix(entry.Name(), filepath.Ext(entry.Name()))] = true
			return nil
		case strings.HasSuffix(path, ".go"):
			return found.read(path)
		}
		return nil
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return found
}

func (s *sources) read(path string) error {
	tree, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	ast.Inspect(tree, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			s.functions[n.Name.Name] = strings.HasSuffix(path, "_test.go") && n.Recv == nil
		case *ast.BasicLit:
			if text, err := strconv.Unquote(n.Value); n.Kind == token.STRING && err == nil {
				for _, part := range strings.Split(text, "/") {
					s.names[strings.ReplaceAll(part, " ", "_")] = true
				}
			}
		}
		return true
	})
	return nil
}

// readTables takes the first word of each line for the name of a subtest.
func (s *sources) readTables(t *testing.T, files ...string) {
	t.Helper()
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			name, _, _ := strings.Cut(line, " ")
			s.names[name] = true
		}
	}
}

func TestParse(t *testing.T) {
	got, err := parse("x.txt", "# about\n\nR1-01 M RFC 1 §2\n    It works.\n    Always.\n    = pkg/a TestA/b\n    = b FuzzC\nH-2 F decision\n    Yes.\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []Requirement{
		{ID: "R1-01", Level: Must, Source: "RFC 1 §2", Text: "It works. Always.", Line: "x.txt:3",
			Proofs: []Proof{{"pkg/a", "TestA/b"}, {"b", "FuzzC"}}},
		{ID: "H-2", Level: Fact, Source: "decision", Text: "Yes.", Line: "x.txt:8"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("parse (-want +got):\n%s", diff)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"text without a requirement": "    It works.\n",
		"unknown level":              "R1-01 X RFC 1\n    It works.\n",
		"no source":                  "R1-01 M\n    It works.\n",
		"proof that is no test":      "R1-01 M RFC 1\n    It works.\n    = a BenchmarkX\n",
		"proof without a package":    "R1-01 M RFC 1\n    It works.\n    = TestX\n",
		"text after a proof":         "R1-01 M RFC 1\n    It works.\n    = a TestX\n    More.\n",
		"proof before the text":      "R1-01 M RFC 1\n    = a TestX\n    It works.\n",
	} {
		t.Run(name, func(t *testing.T) {
			if rows, err := parse("x.txt", text); err == nil {
				t.Errorf("parse took it as %v", rows)
			}
		})
	}
}

// TestReport counts what go test said: only what ran and passed, in whole, is proven.
func TestReport(t *testing.T) {
	events := strings.Join([]string{
		`{"Action":"start","Package":"github.com/xpu-sztp/ztp/a"}`,
		`{"Action":"output","Package":"github.com/xpu-sztp/ztp/a","Test":"TestGood","Output":"=== RUN\n"}`,
		`{"Action":"pass","Package":"github.com/xpu-sztp/ztp/a","Test":"TestGood/x"}`,
		`{"Action":"pass","Package":"github.com/xpu-sztp/ztp/a","Test":"TestGood"}`,
		`{"Action":"fail","Package":"github.com/xpu-sztp/ztp/a","Test":"TestBad"}`,
		`{"Action":"skip","Package":"github.com/xpu-sztp/ztp/a","Test":"TestIdle"}`,
		`{"ImportPath":"github.com/xpu-sztp/ztp/b","Action":"build-output","Output":"b.go:1: syntax error\n"}`,
		`{"ImportPath":"github.com/xpu-sztp/ztp/b","Action":"build-fail"}`,
		`{"Action":"fail","Package":"github.com/xpu-sztp/ztp/a"}`,
	}, "\n") + "\n"
	var diagnostics, report strings.Builder
	results, err := collect(strings.NewReader(events), &diagnostics)
	if err != nil {
		t.Fatal(err)
	}
	row := func(id string, level Level, tests ...string) Requirement {
		r := Requirement{ID: id, Level: level, Source: "RFC 1", Text: fmt.Sprintf("About %s.", id)}
		for _, test := range tests {
			r.Proofs = append(r.Proofs, Proof{"a", test})
		}
		return r
	}
	Report(&report, []Requirement{
		row("R1", Must, "TestGood", "TestGood/x"),
		row("R2", Must, "TestGood", "TestBad"),
		row("R3", Must),
		row("R4", Should, "TestGood/y"),
		row("R5", Should, "TestIdle"),
		row("R6", Should, "TestGood"),
		row("R7", Fact),
		row("R8", May),
	}, results)
	want := `CONFORMANCE must 1/3 should 1/3
open must   R2       About R2. (RFC 1; a TestBad fails)
open must   R3       About R3. (RFC 1; no test is named)
open should R4       About R4. (RFC 1; a TestGood/y did not run)
open should R5       About R5. (RFC 1; a TestIdle is skipped)
`
	if diff := cmp.Diff(want, report.String()); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff("b.go:1: syntax error\n", diagnostics.String()); diff != "" {
		t.Errorf("diagnostics (-want +got):\n%s", diff)
	}
}
