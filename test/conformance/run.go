package conformance

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// Module is the import path that the packages of proofs lie below.
const Module = "github.com/xpu-sztp/ztp"

// Results holds how each test that ran ended: "pass", "fail" or "skip".
type Results map[Proof]string

// Run runs the tests named in table with go test and the extra flags given, in the module at folder root. Tests that
// fail are results, not errors; what does not compile is written to diagnostics and yields no results.
func Run(ctx context.Context, root string, table []Requirement, flags []string, diagnostics io.Writer) (Results, error) {
	pattern, packages := selection(table)
	if len(packages) == 0 {
		return Results{}, nil
	}
	args := append([]string{"test", "-json", "-timeout=20m", "-run", pattern}, flags...)
	cmd := exec.CommandContext(ctx, "go", append(args, packages...)...)
	cmd.Dir = root
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	results, readErr := collect(out, diagnostics)
	var failed *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &failed) {
		return nil, err
	}
	return results, readErr
}

// selection returns the -run pattern and the packages that cover every proof. Whole test functions are run, since go test
// selects subtests by one pattern for all functions.
func selection(table []Requirement) (pattern string, packages []string) {
	var tests []string
	for _, requirement := range table {
		for _, proof := range requirement.Proofs {
			tests = append(tests, regexp.QuoteMeta(proof.TopLevel()))
			packages = append(packages, "./"+proof.Package)
		}
	}
	slices.Sort(tests)
	slices.Sort(packages)
	return "^(" + strings.Join(slices.Compact(tests), "|") + ")$", slices.Compact(packages)
}

// collect reads the events that go test -json prints.
func collect(events io.Reader, diagnostics io.Writer) (Results, error) {
	results := Results{}
	lines := bufio.NewReader(events)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var event struct{ Action, Package, ImportPath, Test, Output string }
			if json.Unmarshal(line, &event) != nil {
				return nil, fmt.Errorf("go test -json printed %q", line)
			}
			switch event.Action {
			case "pass", "fail", "skip":
				if event.Test != "" {
					folder := strings.TrimPrefix(event.Package, Module+"/")
					results[Proof{Package: folder, Test: event.Test}] = event.Action
				}
			case "build-output":
				fmt.Fprint(diagnostics, event.Output)
			}
		}
		if errors.Is(err, io.EOF) {
			return results, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// Proven reports whether r is proven by results, and if not, why not.
func (r Requirement) Proven(results Results) (bool, string) {
	if len(r.Proofs) == 0 {
		return false, "no test is named"
	}
	for _, proof := range r.Proofs {
		switch results[proof] {
		case "pass":
		case "fail":
			return false, proof.String() + " fails"
		case "skip":
			return false, proof.String() + " is skipped"
		default:
			return false, proof.String() + " did not run"
		}
	}
	return true, ""
}

// Report writes the count of proven requirements, then every open one of the levels that count.
func Report(w io.Writer, table []Requirement, results Results) {
	proven, all := map[Level]int{}, map[Level]int{}
	counted := map[Level]string{Must: "must", Should: "should"}
	var open strings.Builder
	for _, requirement := range table {
		all[requirement.Level]++
		ok, why := requirement.Proven(results)
		if ok {
			proven[requirement.Level]++
		} else if name := counted[requirement.Level]; name != "" {
			fmt.Fprintf(&open, "open %-6s %-8s %s (%s; %s)\n", name, requirement.ID, requirement.Text, requirement.Source, why)
		}
	}
	fmt.Fprintf(w, "CONFORMANCE must %d/%d should %d/%d\n%s",
		proven[Must], all[Must], proven[Should], all[Should], open.String())
}
