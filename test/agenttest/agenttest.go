// Package agenttest runs a package's tests in namespaces of their own, with the real agent's program beside them.
package agenttest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/xpu-sztp/ztp/test/lab/netlab"

	_ "github.com/xpu-sztp/ztp/pkg/daemon" // of which the agent is built: a cached test result must not outlive a change
)

// folder names the environment variable with the scratch folder, which the outer process makes and removes.
const folder = "AGENTTEST_FOLDER"

// Main builds the agent and runs the tests inside (netlab.Enter). Call it from TestMain: os.Exit(agenttest.Main(m)).
func Main(tests interface{ Run() int }) int {
	if netlab.Inside() {
		return tests.Run()
	}
	dir, err := os.MkdirTemp("", "agenttest-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-tags", "nethttpomithttp2", "-o", filepath.Join(dir, "ztp"), "github.com/xpu-sztp/ztp/cmd/ztp")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the agent: %v\n%s", err, out)
		return 1
	}
	status, err := netlab.Enter(folder + "=" + dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return status
}

// Program is the agent's program.
func Program() string { return filepath.Join(Folder(), "ztp") }

// Folder is a folder for what must not have the long name of a test's own, such as unix sockets.
func Folder() string { return os.Getenv(folder) }
