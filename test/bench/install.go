package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	installBudget = 150 * time.Second // after which no further round begins
	installRounds = 5                 // at most, for each target
)

// installCost measures how long it takes to fetch, verify and write an image of size bytes that nobody can compress, from an
// nginx on this machine, to a plain file and to a loop device. Each round does all of the following once, one after another,
// since the machine is not equally fast all the time; figures are medians over the rounds of ratios within one.
//
// An install is what the daemon does, in a process of its own: image.Fetch into the writer of a slot, with checkpoints, and
// with its progress in a status file, up to the moment when everything was forced to the storage. Reading it back, which
// comes after that, is not in it, because no other contestant does that; its share of the whole is a figure of its own.
// What the install is held against:
//
//   - the slowest stage: hash alone (from memory), write alone (the same writer, from memory, forced to the storage too) and
//     loopback alone (curl to /dev/null), each with the whole machine to itself. On two processors the stages of an install
//     and the server have to share them, which counts as a loss of the install.
//   - the machine: the slowest stage, or, where that takes longer, its processors when none is ever idle while they do what nobody
//     can do without: hash alone, one thread that copies from a socket to the same writer, and what the server spent on that.
//     With two processors this is what decides.
//   - the pipeline curl | tee >(sha256sum) | dd bs=1M conv=fsync to the same target, and the same with openssl, because some
//     builds of sha256sum do not use the processor's instructions for it
//   - the minimum of processor time: hash alone, and one thread that copies from a socket to the same writer
//
// The share of the status is the time in which the progress is shown. Not all of it is lost: hash and storage go on. The
// memory is that of the real daemon, with everything else it does.
func installCost(ctx context.Context, ztp, dir string, size int64) ([]figure, error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	size, err := affordable(dir, size)
	if err != nil {
		return nil, err
	}
	targets, closeTargets := installTargets(dir, size)
	defer closeTargets()
	server, err := serveImage(ctx, dir, size)
	if err != nil {
		return nil, err
	}
	defer server.Close()

	peak, err := installMemory(ctx, ztp, filepath.Join(dir, "device"), server)
	if err != nil {
		return nil, fmt.Errorf("by the daemon: %w", err)
	}
	figures := []figure{{"install-peak-rss", float64(peak), "bytes", 24 * mebibyte}}
	rounds := map[string][]installRound{}
	for begin, i := time.Now(), 0; i < installRounds*len(targets); i++ {
		if i >= len(targets) && time.Since(begin) > installBudget {
			break
		}
		target := targets[i%len(targets)]
		round, err := measureInstall(ctx, server, target.path, dir)
		if err != nil {
			return figures, fmt.Errorf("%s: %w", target.name, err)
		}
		rounds[target.name] = append(rounds[target.name], round)
		fmt.Printf("%s: %s\n", target.name, round.speeds(size))
	}
	for _, target := range targets {
		figures = append(figures, installFigures(target.suffix, runtime.NumCPU(), rounds[target.name])...)
	}
	return figures, nil
}

func installFigures(suffix string, processors int, rounds []installRound) []figure {
	ratios := []struct {
		name string
		of   func(installRound) float64
	}{
		{"install-vs-slowest-stage", installRound.vsSlowest},
		{"install-vs-machine", func(r installRound) float64 { return r.vsMachine(processors) }},
		{"install-vs-pipeline", func(r installRound) float64 { return r.pipeline / r.install.Seconds }},
		{"install-vs-pipeline-openssl", func(r installRound) float64 { return r.openssl / r.install.Seconds }},
		{"install-cpu-vs-minimum", func(r installRound) float64 { return r.install.CPU / (r.hash.CPU + r.copy.CPU) }},
		{"install-readback-share", func(r installRound) float64 {
			return r.install.ReadBack / (r.install.Seconds + r.install.ReadBack)
		}},
		{"status-overhead", func(r installRound) float64 { return r.install.Status / r.install.Seconds }},
	}
	var figures []figure
	for _, ratio := range ratios {
		var values []float64
		for _, r := range rounds {
			values = append(values, ratio.of(r))
		}
		figures = append(figures, figure{ratio.name + suffix, math.Round(median(values)*1e4) / 1e4, "times", noLimit})
	}
	return figures
}

func median(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// affordable reduces the size of the image to what this machine has room for: on its disk for the image, a file and what is
// below a loop device; in its memory for the image, which the server must not read from the disk.
func affordable(dir string, size int64) (int64, error) {
	var disk unix.Statfs_t
	if err := unix.Statfs(dir, &disk); err != nil {
		return 0, err
	}
	memory, err := availableMemory()
	if err != nil {
		return 0, err
	}
	affordable := min(size, int64(disk.Bavail)*disk.Bsize/4, memory/2) &^ (mebibyte - 1)
	if affordable < size {
		fmt.Printf("the image has %d bytes only: there are %d on the disk and %d of memory\n", affordable, int64(disk.Bavail)*disk.Bsize, memory)
	}
	if affordable < 64*mebibyte {
		return 0, errors.New("too little room; set TMPDIR")
	}
	return affordable, nil
}

func availableMemory() (int64, error) {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(data), "MemAvailable:")
	value, _, found := strings.Cut(after, "kB")
	kilobytes, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
	if !found {
		err = errors.New("/proc/meminfo does not tell MemAvailable")
	}
	return kilobytes << 10, err
}

// installRound is what one round took, in seconds.
type installRound struct {
	install, hash, write, copy stageCost
	loopback                   float64
	serving                    float64 // processor time of the server, for copy
	pipeline, openssl          float64
}

func (r installRound) slowest() float64 { return max(r.hash.Seconds, r.write.Seconds, r.loopback) }

func (r installRound) vsSlowest() float64 { return r.slowest() / r.install.Seconds }

func (r installRound) vsMachine(processors int) float64 {
	return max(r.slowest(), (r.hash.CPU+r.copy.CPU+r.serving)/float64(processors)) / r.install.Seconds
}

// speeds tells what the ratios are of.
func (r installRound) speeds(size int64) string {
	speed := func(seconds float64) float64 { return float64(size) / seconds / 1e6 }
	return fmt.Sprintf("MB/s: install %.0f, read back %.0f, hash %.0f, write %.0f, copy %.0f, loopback %.0f, pipeline %.0f, with openssl %.0f; "+
		"seconds of processors: install %.2f, hash %.2f, write %.2f, copy %.2f, server %.2f",
		speed(r.install.Seconds), speed(r.install.ReadBack), speed(r.hash.Seconds), speed(r.write.Seconds), speed(r.copy.Seconds),
		speed(r.loopback), speed(r.pipeline), speed(r.openssl), r.install.CPU, r.hash.CPU, r.write.CPU, r.copy.CPU, r.serving)
}

// measureInstall does everything once.
func measureInstall(ctx context.Context, server *imageServer, target, dir string) (r installRound, err error) {
	task := stageTask{URI: server.uri, SHA256: server.sha256, Size: server.size, Target: target, Dir: dir}
	for _, stage := range []struct {
		name string
		cost *stageCost
	}{{"install", &r.install}, {"hash", &r.hash}, {"write", &r.write}, {"copy", &r.copy}} {
		task.Stage = stage.name
		if err := clearTarget(target); err != nil {
			return r, err
		}
		before := server.processorTime()
		if *stage.cost, err = task.measure(ctx); err != nil {
			return r, err
		}
		if stage.name == "copy" {
			r.serving = server.processorTime() - before
		}
	}
	for _, command := range []struct {
		text    string
		seconds *float64
	}{
		{`curl -sSf -o /dev/null "$0"`, &r.loopback},
		{`set -o pipefail; curl -sSf "$0" | tee >(sha256sum >&2) | dd of="$1" bs=1M conv=fsync status=none`, &r.pipeline},
		{`set -o pipefail; curl -sSf "$0" | tee >(openssl dgst -sha256 >&2) | dd of="$1" bs=1M conv=fsync status=none`, &r.openssl},
	} {
		if err := clearTarget(target); err != nil {
			return r, err
		}
		if *command.seconds, err = timeShell(ctx, command.text, server.uri, target); err != nil {
			return r, err
		}
	}
	return r, clearTarget(target)
}

// timeShell returns how many seconds commands of bash took, up to the end of all their processes.
func timeShell(ctx context.Context, text string, args ...string) (float64, error) {
	cmd := exec.CommandContext(ctx, "bash", append([]string{"-c", text}, args...)...)
	begin := time.Now()
	out, err := cmd.CombinedOutput() // ends when nobody can write any more, not before the digest is there
	if err != nil {
		return 0, fmt.Errorf("%s: %w\n%s", text, err, out)
	}
	return time.Since(begin).Seconds(), nil
}

// clearTarget removes what is in a file; that of a device may stay. What others left to be written to the storage is waited for.
func clearTarget(path string) error {
	if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	unix.Sync()
	return nil
}

// installTarget is where an image is installed to.
type installTarget struct{ name, path, suffix string }

// installTargets names a file, and a loop device where one can be had.
func installTargets(dir string, size int64) ([]installTarget, func()) {
	targets := []installTarget{{"file", filepath.Join(dir, "target"), ""}}
	device, err := attachLoop(filepath.Join(dir, "loop"), size)
	if err != nil {
		fmt.Printf("no loop device: %v\n", err)
		return targets, func() {}
	}
	return append(targets, installTarget{"loop", device, "-loop"}), func() {
		if out, err := exec.Command("losetup", "--detach", device).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "bench: detach %s: %v\n%s", device, err, out)
		}
	}
}

// attachLoop makes a loop device of a file. It is read and written past the page cache of what is below it, as a disk is.
func attachLoop(backing string, size int64) (device string, err error) {
	f, err := os.Create(backing)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, size); err != nil {
		return "", err
	}
	out, err := exec.Command("losetup", "--find", "--show", "--direct-io=on", backing).Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = errors.New(strings.TrimSpace(string(exit.Stderr)))
	}
	if err != nil {
		os.Remove(backing)
	}
	return strings.TrimSpace(string(out)), err
}
