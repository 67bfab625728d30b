package repo_test

import (
	"bytes"
	"go/ast"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestGoFilesAreShort(t *testing.T) {
	const limit = 500
	for _, f := range goFiles(t) {
		if lines := f.fset.File(f.ast.Pos()).LineCount(); lines > limit {
			t.Errorf("%s has %d lines; more than %d is more than one story", f.name, lines, limit)
		}
	}
}

// TestNoDeveloperPaths finds absolute paths that exist only on the machine a file was written on.
func TestNoDeveloperPaths(t *testing.T) {
	personal := regexp.MustCompile(`(^|[^\w.\-}/*])/(home|Users|root|work)/[\w.\-]+`)
	for _, name := range committed(t) {
		data := read(t, name)
		if !utf8.Valid(data) {
			continue // binary fixtures
		}
		for number, line := range bytes.Split(data, []byte("\n")) {
			if found := personal.Find(line); found != nil {
				t.Errorf("%s:%d: %q is a path of somebody's machine", name, number+1, found)
			}
		}
	}
}

func TestNoBinaries(t *testing.T) {
	for _, name := range committed(t) {
		if bytes.HasPrefix(read(t, name), []byte("\x7fELF")) {
			t.Errorf("%s is a built binary", name)
		}
	}
}

func TestLicense(t *testing.T) {
	text := strings.Join(strings.Fields(string(read(t, "LICENSE"))), " ")
	for _, part := range []string{
		"Apache License Version 2.0, January 2004 http://www.apache.org/licenses/",
		"TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION",
		"3. Grant of Patent License.",
		"9. Accepting Warranty or Additional Liability.",
		"END OF TERMS AND CONDITIONS",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("LICENSE lacks %q of Apache-2.0", part)
		}
	}
}

// TestTestsNeitherSkipNorSleep keeps a green run meaningful: what a test needs is installed by scripts/setup, and time
// passes only in synctest or on an injected clock.
func TestTestsNeitherSkipNorSleep(t *testing.T) {
	banned := []string{"t.Skip", "t.Skipf", "t.SkipNow", "b.Skip", "b.Skipf", "f.Skip", "f.Skipf"}
	for _, f := range goFiles(t) {
		if !f.test {
			continue
		}
		synthetic := slices.Contains(f.imports(), "testing/synctest")
		ast.Inspect(f.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			selector, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			receiver, ok := selector.X.(*ast.Ident)
			if !ok {
				return true
			}
			name := receiver.Name + "." + selector.Sel.Name
			if slices.Contains(banned, name) || (name == "time.Sleep" && !synthetic) {
				t.Errorf("%s: %s", f.fset.Position(call.Pos()), name)
			}
			return true
		})
	}
}

// TestNothingLeftOpen finds places that were meant to be filled in.
func TestNothingLeftOpen(t *testing.T) {
	open := regexp.MustCompile(`panic\("(` + "seam" + `|not implemented|` + "TODO" + `|unimplemented)`)
	for _, f := range goFiles(t) {
		if open.Match(read(t, f.name)) {
			t.Errorf("%s: unfinished", f.name)
		}
	}
}

// TestScriptsAreExecutable keeps recipes of the Makefile from failing in a fresh clone.
func TestScriptsAreExecutable(t *testing.T) {
	for _, name := range committed(t) {
		if path.Dir(name) != "scripts" && name != ".ci/run" {
			continue
		}
		if !bytes.HasPrefix(read(t, name), []byte("#!/bin/")) {
			t.Errorf("%s: the first line names no interpreter", name)
		}
		info, err := os.Stat(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode()&0o111 == 0 {
			t.Errorf("%s: not executable", name)
		}
	}
}
