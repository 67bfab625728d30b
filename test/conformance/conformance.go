// Package conformance is the table of what the RFCs and our own decisions demand of the agent, and of the tests that
// prove it. The table is text, a file per section; `make conformance` runs the named tests and counts. A requirement is
// proven when every test named for it exists, ran and passed.
package conformance

import (
	"bufio"
	"embed"
	"fmt"
	"path"
	"regexp"
	"strings"
)

// Level says how strongly something is demanded (RFC 2119).
type Level string

// The levels. Prohibitions have the level of their positive form.
const (
	Must   Level = "M"
	Should Level = "S"
	May    Level = "O"
	Fact   Level = "F" // a definition, or a decision of ours; listed but not counted
)

// Requirement is one row of the table.
type Requirement struct {
	ID     string // such as "R5.4-07"
	Level  Level
	Source string // such as "RFC 8572 §5.4"
	Text   string // what is demanded, in our own words
	Proofs []Proof
	Line   string // where in the table it is, for messages
}

// Proof names a test.
type Proof struct {
	Package string // folder below the repository's root, such as "artifacts"
	Test    string // as go test prints it, such as "TestX/sub"
}

// TopLevel returns the name of the test function.
func (p Proof) TopLevel() string {
	name, _, _ := strings.Cut(p.Test, "/")
	return name
}

func (p Proof) String() string { return p.Package + " " + p.Test }

//go:embed requirements/*.txt
var files embed.FS

// Table reads the requirements in the order of their files.
func Table() ([]Requirement, error) {
	entries, err := files.ReadDir("requirements")
	if err != nil {
		return nil, err
	}
	var table []Requirement
	for _, entry := range entries {
		name := path.Join("requirements", entry.Name())
		data, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		rows, err := parse(name, string(data))
		if err != nil {
			return nil, err
		}
		table = append(table, rows...)
	}
	return table, nil
}

var (
	headingLine = regexp.MustCompile(`^([A-Z][A-Z0-9.]*-\d+) ([MSOF]) (\S.*)$`)
	proofLine   = regexp.MustCompile(`^    = (\S+) ((?:Test|Fuzz)\S+)$`)
	proseLine   = regexp.MustCompile(`^    (\w.*)$`)
)

// parse reads one file. A requirement is a line `ID LEVEL SOURCE`, followed by indented lines: its text, then a line
// `= PACKAGE TEST` for each proof. Empty lines and lines that begin with # separate.
func parse(name, text string) ([]Requirement, error) {
	var rows []Requirement
	lines := bufio.NewScanner(strings.NewReader(text))
	for number := 1; lines.Scan(); number++ {
		line := lines.Text()
		where := fmt.Sprintf("%s:%d", name, number)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if m := headingLine.FindStringSubmatch(line); m != nil {
			rows = append(rows, Requirement{ID: m[1], Level: Level(m[2]), Source: m[3], Line: where})
			continue
		}
		if len(rows) == 0 {
			return nil, fmt.Errorf("%s: %q belongs to no requirement", where, line)
		}
		last := &rows[len(rows)-1]
		if m := proofLine.FindStringSubmatch(line); m != nil && last.Text != "" {
			last.Proofs = append(last.Proofs, Proof{Package: m[1], Test: m[2]})
			continue
		}
		if m := proseLine.FindStringSubmatch(line); m != nil && len(last.Proofs) == 0 {
			last.Text = strings.TrimSpace(last.Text + " " + m[1])
			continue
		}
		return nil, fmt.Errorf("%s: cannot make sense of %q", where, line)
	}
	return rows, lines.Err()
}
