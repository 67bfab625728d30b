package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/xpu-sztp/ztp/test/lab/story"
)

func demoCommand() *cobra.Command {
	var scenario, ztp string
	var keep, verbose bool
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "demo",
		Short: "Power on a device and watch it provision itself",
		Long: `Power on a device with a software TPM on a network of its own and watch it provision itself.

  ipv4      DHCPv4 with option 143, redirect, signed onboarding, image, reboot, scripts, configuration
  ipv6      the same over DHCPv6 with option 136, with no IPv4 on the network
  tampered  the ownership voucher is for another serial number: the device must refuse it

The exit code is 0 only when the expected end was observed in the servers' records, in ztp status and in the device's files.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains(story.Scenarios, story.Scenario(scenario)) {
				return fmt.Errorf("unknown scenario %q: use one of %v", scenario, story.Scenarios)
			}
			program, err := findZTP(ztp)
			if err != nil {
				return err
			}
			return inSandbox(keep, func(ctx context.Context, dir string) error {
				return story.Play(ctx, story.Options{
					Scenario: story.Scenario(scenario), ZTP: program, Dir: dir, Out: cmd.OutOrStdout(), Timeout: timeout, Verbose: verbose,
				})
			})
		},
	}
	c.Flags().StringVar(&scenario, "scenario", string(story.IPv4), "ipv4, ipv6 or tampered")
	c.Flags().StringVar(&ztp, "ztp", "", "the agent's program (default: ztp beside this program, or in PATH)")
	c.Flags().BoolVar(&keep, "keep", false, "keep the device's files and print where they are")
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "show every line of the device's log")
	c.Flags().DurationVar(&timeout, "timeout", 3*time.Minute, "give up after this time")
	return c
}

// findZTP returns the absolute path of the agent's program.
func findZTP(given string) (string, error) {
	if given == "" {
		if self, err := os.Executable(); err == nil {
			beside := filepath.Join(filepath.Dir(self), "ztp")
			if _, err := os.Stat(beside); err == nil {
				return beside, isZTP(beside)
			}
		}
		given = "ztp"
	}
	path, err := exec.LookPath(given)
	if err != nil {
		return "", fmt.Errorf("the agent's program: %w; build it with `make build`, and say where it is with --ztp", err)
	}
	if path, err = filepath.Abs(path); err != nil {
		return "", err
	}
	return path, isZTP(path)
}

// isZTP refuses another program than the agent's, which would fail the story at each of its steps.
func isZTP(path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "version").Output()
	if err == nil && !strings.HasPrefix(string(out), "version ") {
		err = errors.New("it does not tell its version")
	}
	if err != nil {
		return fmt.Errorf("%s is not the agent's program, or does not run on this machine: %w; build it with `make build`, and say where it is with --ztp", path, err)
	}
	return nil
}
