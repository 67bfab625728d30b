package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/test/lab/device"
)

const (
	warmUps    = 3
	statusRuns = 41
)

// statusCost measures `ztp status` as an operator runs it, on a device that was provisioned.
func statusCost(ctx context.Context, d *device.Device) ([]figure, error) {
	var times []time.Duration
	for i := range warmUps + statusRuns {
		cmd := exec.CommandContext(ctx, d.ZTP, "status", "--root", d.Root())
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		begin := time.Now()
		err := cmd.Run()
		took := time.Since(begin)
		if cmd.ProcessState.ExitCode() != state.ExitProvisioned {
			return nil, fmt.Errorf("%s: %w\n%s", cmd, err, &out)
		}
		if i >= warmUps {
			times = append(times, took)
		}
	}
	slices.Sort(times)
	median := float64(times[len(times)/2].Microseconds()) / 1000

	var peak int64
	for range 5 {
		bytes, err := peakMemory(d.ZTP, "status", "--root", d.Root())
		if err != nil {
			return nil, err
		}
		peak = max(peak, bytes)
	}
	return []figure{
		{"status-time", median, "ms", noLimit},
		{"status-rss", float64(peak), "bytes", 10 * mebibyte},
	}, nil
}

// peakMemory runs a program and returns the most memory it ever had resident, in bytes.
func peakMemory(program string, args ...string) (int64, error) {
	usage, exit, err := runAlone(os.Stderr, program, args...)
	if err == nil && exit != 0 {
		err = fmt.Errorf("%s %v ended with %d", program, args, exit)
	}
	return usage.Maxrss * 1024, err
}

// runAlone runs a program and returns what it used, and its exit status. The kernel counts the memory that a process had
// before it executed a program, too, and a child of this process begins with this one's. So a shell starts the program
// and goes away, and this process, as the next of kin, waits for it.
func runAlone(stderr *os.File, program string, args ...string) (usage syscall.Rusage, exit int, err error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return usage, 0, fmt.Errorf("become the parent of orphans: %w", err)
	}
	// Until the shell is gone, the program waits for the end of a pipe: the shell would reap one that ended before it.
	const script = `{ exec </dev/null >/dev/null; read -r _ <&3; exec "$0" "$@" 3<&-; } & echo $!`
	r, w, err := os.Pipe()
	if err != nil {
		return usage, 0, err
	}
	defer w.Close()
	shell := exec.Command("/bin/sh", append([]string{"-c", script, program}, args...)...)
	shell.Stderr, shell.ExtraFiles = stderr, []*os.File{r} // a pipe would have to be waited for
	out, err := shell.Output()
	r.Close()
	if err != nil {
		return usage, 0, err
	}
	w.Close()
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		return usage, 0, err
	}
	var status syscall.WaitStatus
	for {
		_, err = syscall.Wait4(pid, &status, 0, &usage)
		if err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		return usage, 0, fmt.Errorf("wait for %s: %w", program, err)
	}
	if !status.Exited() {
		return usage, 0, fmt.Errorf("%s %v ended with status %#x", program, args, status)
	}
	return usage, status.ExitStatus(), nil
}
