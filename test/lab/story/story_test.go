package story_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/test/agenttest"
	"github.com/xpu-sztp/ztp/test/lab/story"
)

func TestMain(m *testing.M) { os.Exit(agenttest.Main(m)) }

func TestDemo(t *testing.T) {
	ztp := agenttest.Program()
	for scenario, wants := range map[story.Scenario][]string{
		story.IPv4:     {"OFFER", "with option 143", "slot b, which is LabOS 2.0.0", "bootstrap-complete", "(exit code 0)"},
		story.IPv6:     {"with option 136", "slot b, which is LabOS 2.0.0", "bootstrap-complete", "(exit code 0)"},
		story.Tampered: {"vouchers are for device LAB-999999", "(exit code 2)"},
	} {
		t.Run(string(scenario), func(t *testing.T) {
			out, err := play(t.Context(), t, scenario, ztp)
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			for _, want := range wants {
				if !strings.Contains(out, want) {
					t.Errorf("the story does not tell of %q:\n%s", want, out)
				}
			}
			if scenario == story.IPv6 && strings.Contains(out, "192.0.2.1 ") {
				t.Errorf("IPv4 was used:\n%s", out)
			}
		})
	}
}

func play(ctx context.Context, t *testing.T, scenario story.Scenario, ztp string) (string, error) {
	t.Helper()
	dir, err := os.MkdirTemp(agenttest.Folder(), "")
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	err = story.Play(ctx, story.Options{Scenario: scenario, ZTP: ztp, Dir: dir, Out: &out, Timeout: time.Minute})
	return out.String(), err
}

func TestAgentThatDoesNothing(t *testing.T) {
	out, err := play(t.Context(), t, story.IPv4, "/bin/true")
	if err == nil || !strings.Contains(err.Error(), "the reports were") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestInterruption(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	broken := errors.New("interrupted")
	cancel(broken)
	if out, err := play(ctx, t, story.IPv4, "/bin/true"); err == nil {
		t.Errorf("an interrupted story ended well:\n%s", out)
	}
}
