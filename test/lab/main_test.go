package lab_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/xpu-sztp/ztp/test/lab/netlab"
)

func TestMain(m *testing.M) {
	if netlab.Inside() {
		os.Exit(m.Run())
	}
	status, err := netlab.Enter()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(status)
}
