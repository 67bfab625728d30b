package slot

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// CommandLine is where the kernel tells its parameters.
const CommandLine = "/proc/cmdline"

// RunningByCommandLine tells which slot runs by the parameter that only its boot entry gives to the kernel, such as
// "root=PARTLABEL=root-a". path is CommandLine, and arguments has the parameter of each slot by the slot's name. What is
// written down for the boot loader cannot tell that: it is only a plan.
func RunningByCommandLine(path string, arguments map[string]string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fail(CodeUnavailable, "the kernel's command line cannot be read", "mount /proc", err)
	}
	given := strings.Fields(string(text))
	found := ""
	for name, argument := range arguments {
		if !slices.Contains(given, argument) {
			continue
		}
		if found != "" {
			return "", fail(CodeUnavailable, fmt.Sprintf("the kernel's command line has the arguments of both slots: %.1024q", text),
				"have each boot entry give its own only", nil)
		}
		found = name
	}
	if found == "" {
		return "", fail(CodeUnavailable, fmt.Sprintf("the kernel's command line tells of no slot: it has none of %q",
			slices.Sorted(maps.Values(arguments))), "have each boot entry give its own, or correct them in the configuration", nil)
	}
	return found, nil
}
