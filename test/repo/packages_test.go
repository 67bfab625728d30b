package repo_test

import (
	"strings"
	"testing"
)

// TestOnePackageComment finds packages that say too little or too much of themselves: each has exactly one package
// comment, of one paragraph and perhaps a drawing, that begins the way go doc expects. A folder that holds only tests has it in one of them.
func TestOnePackageComment(t *testing.T) {
	comments := map[string][]goFile{}
	names := map[string]string{}
	files := goFiles(t)
	hasCode := map[string]bool{}
	for _, f := range files {
		hasCode[f.pkg] = hasCode[f.pkg] || !f.test
	}
	for _, f := range files {
		if f.test && hasCode[f.pkg] {
			if f.ast.Doc != nil && strings.HasPrefix(f.ast.Doc.Text(), "Package ") {
				t.Errorf("%s: package comments belong into files that are not tests", f.name)
			}
			continue
		}
		names[f.pkg] = f.ast.Name.Name
		if f.ast.Doc != nil {
			comments[f.pkg] = append(comments[f.pkg], f)
		}
	}
	for pkg, name := range names {
		found := comments[pkg]
		if len(found) != 1 {
			t.Errorf("%s: %d files have a package comment, want exactly one", pkg, len(found))
			continue
		}
		text := strings.TrimSpace(found[0].ast.Doc.Text())
		if name != "main" && !strings.HasPrefix(text, "Package "+name+" ") {
			t.Errorf("%s: the package comment begins %.40q, want %q", found[0].name, text, "Package "+name+" …")
		}
		_, drawing, _ := strings.Cut(text, "\n\n")
		for line := range strings.Lines(drawing) {
			if strings.TrimSpace(line) != "" && !strings.HasPrefix(line, "\t") {
				t.Errorf("%s: the package comment has more than one paragraph and a drawing", found[0].name)
				break
			}
		}
	}
}
