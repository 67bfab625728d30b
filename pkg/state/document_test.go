package state_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/state"
)

const document = "../../docs/status.md"

// TestDocument holds the reference for operators against the types: every field is there, with its type, in the order of the
// type, with a meaning, and nothing else.
func TestDocument(t *testing.T) {
	want := map[string][]string{}
	describe(reflect.TypeFor[state.Status](), want)
	got, section := map[string][]string{}, ""
	for line := range strings.Lines(read(t)) {
		if title, ok := strings.CutPrefix(line, "## "); ok {
			section = strings.TrimSpace(title)
		}
		cells := strings.Split(line, "|")
		if len(cells) != 5 || !strings.HasPrefix(cells[1], " `") {
			continue
		}
		if strings.TrimSpace(cells[3]) == "" {
			t.Errorf("%s of %s has no meaning", cells[1], section)
		}
		got[section] = append(got[section], strings.Trim(cells[1], " `")+": "+strings.TrimSpace(cells[2]))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-types +document):\n%s", document, diff)
	}
}

// TestDocumentedWords: every word that a phase, an outcome or the state of an image can be is in the document.
func TestDocumentedWords(t *testing.T) {
	text, found := read(t), 0
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 {
				return true
			}
			kind, _ := spec.Type.(*ast.Ident)
			value, _ := spec.Values[0].(*ast.BasicLit)
			if kind == nil || value == nil || !slices.Contains([]string{"Phase", "Outcome", "ImageState"}, kind.Name) || value.Value == `""` {
				return true
			}
			found++
			if word := "`" + strings.Trim(value.Value, `"`) + "`"; !strings.Contains(text, word) {
				t.Errorf("%s lacks the %s %s", document, kind.Name, word)
			}
			return true
		})
	}
	if found < 15 {
		t.Errorf("only %d words were found", found)
	}
}

func read(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// describe lists the fields of an object, and of those in it, as "NAME: TYPE".
func describe(of reflect.Type, all map[string][]string) {
	if all[of.Name()] != nil {
		return
	}
	all[of.Name()] = fields(of, all)
}

func fields(of reflect.Type, all map[string][]string) (list []string) {
	for i := range of.NumField() {
		f := of.Field(i)
		if f.Anonymous {
			list = append(list, fields(f.Type, all)...)
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		kind := kindOf(f.Type, all)
		if strings.HasPrefix(options, "omit") {
			kind += ", optional"
		}
		list = append(list, name+": "+kind)
	}
	return list
}

func kindOf(of reflect.Type, all map[string][]string) string {
	if of == reflect.TypeFor[time.Time]() {
		return "time"
	}
	switch of.Kind() {
	case reflect.Pointer:
		return kindOf(of.Elem(), all)
	case reflect.Slice:
		return "list of " + kindOf(of.Elem(), all)
	case reflect.Struct:
		describe(of, all)
		return of.Name()
	case reflect.Bool:
		return "boolean"
	case reflect.Int, reflect.Int64:
		return "integer"
	}
	return of.Kind().String()
}
