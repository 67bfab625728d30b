package lab_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/xpu-sztp/ztp/test/lab/netlab"
)

// scratch names the folder for programs that tests build. The outer process makes and removes it.
const scratch = "LAB_TEST_SCRATCH"

func TestMain(m *testing.M) {
	if netlab.Inside() {
		os.Exit(m.Run())
	}
	os.Exit(outside())
}

func outside() int {
	dir, err := os.MkdirTemp("", "lab-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	status, err := netlab.Enter(scratch + "=" + dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return status
}
