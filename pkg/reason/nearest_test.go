package reason_test

import (
	"testing"

	"github.com/xpu-sztp/ztp/pkg/reason"
)

func TestNearest(t *testing.T) {
	names := []string{"status", "enable", "disable", "identity", "inspect", "run"}
	for wrong, want := range map[string]string{
		"stauts":   "status",
		"STATUS":   "status",
		"enabel":   "enable",
		"i":        "identity", // the first of two
		"ident":    "identity",
		"inspects": "inspect",
		"rnu":      "run",
		"nur":      "",
		"rub":      "run",
		"":         "",
		"provide":  "",
	} {
		if got := reason.Nearest(wrong, names); got != want {
			t.Errorf("%q: got %q, want %q", wrong, got, want)
		}
	}
}
