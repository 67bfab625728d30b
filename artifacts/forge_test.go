package artifacts_test

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestOnboardingCannotBeForged compiles a program outside of the package that tries.
func TestOnboardingCannotBeForged(t *testing.T) {
	if out, err := exec.Command("go", "run", "./testdata/honest").CombinedOutput(); err != nil {
		t.Fatalf("an honest program: %v\n%s", err, out)
	}
	out, err := exec.Command("go", "build", "-o", filepath.Join(t.TempDir(), "forge"), "./testdata/forge").CombinedOutput()
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
