package artifacts_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestOnboardingCannotBeForged compiles a program outside of the package that tries.
func TestOnboardingCannotBeForged(t *testing.T) {
	if out, err := exec.Command("go", "run", "./testdata/honest").CombinedOutput(); err != nil {
		t.Fatalf("an honest program: %v\n%s", err, out)
	}
	out, err := exec.Command("go", "build", "-gcflags=-e", "-o", filepath.Join(t.TempDir(), "forge"), "./testdata/forge").CombinedOutput()
	if err == nil {
		t.Fatal("a program forged onboarding information")
	}
	var lines []string
	for _, m := range regexp.MustCompile(`main\.go:(\d+):\d+: .*(?:unexported|implicit assignment|cannot refer)`).FindAllSubmatch(out, -1) {
		if n := len(lines); n == 0 || lines[n-1] != string(m[1]) {
			lines = append(lines, string(m[1]))
		}
	}
	if diff := cmp.Diff([]string{"8", "10", "11", "12", "13", "15"}, lines); diff != "" {
		t.Errorf("lines that do not compile (-want +got):\n%s\n%s", diff, out)
	}
}

// TestWaysToTrust knows every exported function that returns what stands for trust; another one would be another way to it.
func TestWaysToTrust(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var ways []string
	var note func(name string, in ast.Node)
	note = func(name string, in ast.Node) {
		ast.Inspect(in, func(n ast.Node) bool {
			if f, ok := n.(*ast.Field); ok {
				note(name, f.Type)
				return false
			}
			if id, ok := n.(*ast.Ident); ok && slices.Contains([]string{"Onboarding", "Conveyed", "ServerEvidence"}, id.Name) {
				ways = append(ways, name+": "+id.Name)
			}
			return true
		})
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && d.Type.Results != nil {
					note(d.Name.Name, d.Type.Results)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch spec := spec.(type) {
					case *ast.ValueSpec:
						if slices.ContainsFunc(spec.Names, (*ast.Ident).IsExported) {
							note(spec.Names[0].Name, spec)
						}
					case *ast.TypeSpec:
						if spec.Name.IsExported() {
							note(spec.Name.Name, spec.Type)
						}
					}
				}
			}
		}
	}
	slices.Sort(ways)
	want := []string{"AuthenticateServer: ServerEvidence", "Conveyed: Onboarding", "Judge: Conveyed", "Validate: Conveyed"}
	if diff := cmp.Diff(want, ways); diff != "" {
		t.Errorf("exported ways to trust (-want +got):\n%s", diff)
	}
}
