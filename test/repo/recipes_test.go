package repo_test

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// TestRecipes wants the recipes for images to build a commit of this history: whoever follows them cannot fetch one that a
// rebase has left behind.
func TestRecipes(t *testing.T) {
	git := func(arguments ...string) string {
		cmd := exec.Command("git", arguments...)
		cmd.Dir = root
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("git %s: %v %s", strings.Join(arguments, " "), err, out)
		}
		return strings.TrimSpace(string(out))
	}
	shallow := git("rev-parse", "--is-shallow-repository") == "true"
	commits := map[string]bool{}
	for name, line := range map[string]string{
		"scripts/image/meta-ztp/recipes-core/ztp/ztp_git.bb": `(?m)^SRCREV = "([0-9a-f]{40})"$`,
		"scripts/image/buildroot/package/ztp/ztp.mk":         `(?m)^ZTP_VERSION = ([0-9a-f]{40})$`,
	} {
		found := regexp.MustCompile(line).FindSubmatch(read(t, name))
		if found == nil {
			t.Errorf("%s names no commit", name)
			continue
		}
		commits[string(found[1])] = true
		if !shallow { // a clone without history knows too little to tell
			git("merge-base", "--is-ancestor", string(found[1]), "HEAD")
		}
	}
	if len(commits) != 1 {
		t.Errorf("the recipes build different commits: %v", commits)
	}
}
