// Package repo_test holds the rules of this repository that a machine can check: how packages are documented, which way
// imports point, what is linked into the device binary, and what no committed file may contain.
package repo_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	root   = "../.."
	module = "github.com/xpu-sztp/ztp"
)

// committed lists the files of the repository, committed or about to be, as slash-separated paths below its root.
func committed(t *testing.T) []string {
	t.Helper()
	cmd := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	var files []string
	for name := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
		if info, err := os.Lstat(filepath.Join(root, name)); err == nil && info.Mode().IsRegular() {
			files = append(files, name)
		}
	}
	// go test remembers results by the files and folders that a test itself opened, so that a new file must show here.
	for name := range strings.SplitSeq(string(out), "\x00") {
		if _, err := os.ReadDir(filepath.Join(root, path.Dir(name))); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	slices.Sort(files)
	if len(files) == 0 {
		t.Fatal("git lists no files")
	}
	return files
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// goFile is one parsed Go file of the module.
type goFile struct {
	name string // below the repository's root
	pkg  string // the folder, which is also the package's path below the module
	test bool
	ast  *ast.File
	fset *token.FileSet
}

// imports returns the import paths of f.
func (f goFile) imports() []string {
	var paths []string
	for _, spec := range f.ast.Imports {
		paths = append(paths, strings.Trim(spec.Path.Value, `"`))
	}
	return paths
}

// goFiles parses every Go file of the module. Build constraints are not looked at: rules hold on every platform.
func goFiles(t *testing.T) []goFile {
	t.Helper()
	var files []goFile
	for _, name := range committed(t) {
		if path.Ext(name) != ".go" || strings.Contains(name, "testdata/") {
			continue
		}
		fset := token.NewFileSet()
		tree, err := parser.ParseFile(fset, name, read(t, name), parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, goFile{
			name: name, pkg: path.Dir(name), test: strings.HasSuffix(name, "_test.go"), ast: tree, fset: fset,
		})
	}
	return files
}

// list runs go list for the device binary on one architecture, the way it is built, and returns the distinct lines.
func list(t *testing.T, arch string, args ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-tags=nethttpomithttp2", "-deps"}, args...)...)
	cmd.Args = append(cmd.Args, "./cmd/ztp")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, stderr.Bytes())
	}
	lines := strings.Fields(string(out))
	slices.Sort(lines)
	return slices.Compact(lines)
}
