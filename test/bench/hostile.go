package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/xpu-sztp/ztp/test/hostile"
)

// hostileRuns is how often each input is decoded. The fastest run counts, since it is the one that others disturbed least.
const hostileRuns = 7

// hostileLimit is what a megabyte may cost, in milliseconds. A package with an input beyond it is measured again, as often as
// hostileTurns: what else a machine does may make seven runs in a row slow, but never one fast.
const (
	hostileLimit = 50
	hostileTurns = 3
)

// hostileCost measures what a megabyte of the worst costs each decoder in time: the benchmarks called Hostile, in whichever
// package has some. It tells the slowest, in milliseconds and in units of what SHA-256 of as much takes on this machine.
func hostileCost() ([]figure, error) {
	packages, err := hostilePackages()
	if err != nil {
		return nil, err
	}
	times := make(map[string]float64)
	if err := measureHostile(times, packages); err != nil {
		return nil, err
	}
	if len(times) < 100 {
		return nil, fmt.Errorf("only %d benchmarks of hostile input ran", len(times))
	}
	worst := slowest(times)
	for range hostileTurns {
		if times[worst] <= hostileLimit*float64(time.Millisecond) {
			break
		}
		fmt.Printf("%s took %v; once more\n", worst, time.Duration(times[worst]))
		folder, _, _ := strings.Cut(worst, " ")
		if err := measureHostile(times, []string{folder}); err != nil {
			return nil, err
		}
		worst = slowest(times)
	}
	fmt.Printf("the slowest of %d hostile inputs is %s\n", len(times), worst)
	milliseconds := times[worst] / float64(time.Millisecond)
	return []figure{
		{"hostile-mib-time", hundredths(milliseconds), "milliseconds", hostileLimit},
		{"hostile-mib-to-sha256", hundredths(times[worst] / hashTime()), "times", noLimit},
	}, nil
}

// measureHostile runs the benchmarks of hostile input in packages, and enters those into times that were never faster.
func measureHostile(times map[string]float64, packages []string) error {
	out, err := goTool(append([]string{"test", "-run=^$", "-bench=^BenchmarkHostile", "-benchtime=1x",
		"-count=" + strconv.Itoa(hostileRuns)}, packages...)...)
	if err == nil {
		fastest(times, out)
	}
	return err
}

// slowest is the name of the benchmark that took longest.
func slowest(times map[string]float64) (worst string) {
	for name, took := range times {
		if took > times[worst] {
			worst = name
		}
	}
	return worst
}

// hostilePackages lists the packages whose tests use package hostile.
func hostilePackages() ([]string, error) {
	const imports = `{{.ImportPath}}{{range .TestImports}} {{.}}{{end}}{{range .XTestImports}} {{.}}{{end}}`
	out, err := goTool("list", "-f="+imports, "./...")
	if err != nil {
		return nil, err
	}
	var packages []string
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); slices.ContainsFunc(fields[1:], isHostile) {
			packages = append(packages, fields[0])
		}
	}
	if packages == nil {
		return nil, errors.New("no package has hostile input")
	}
	return packages, nil
}

func isHostile(path string) bool { return strings.HasSuffix(path, "/test/hostile") }

// goTool runs the go command with the build tags of this program.
func goTool(args ...string) ([]byte, error) {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "-tags" {
				args = slices.Insert(args, 1, "-tags="+s.Value)
			}
		}
	}
	cmd := exec.Command("go", args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return out, nil
}

// fastest lowers times, the least in nanoseconds of each benchmark by package and name, to those in the output of go test.
func fastest(times map[string]float64, out []byte) {
	var folder string
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) == 2 && fields[0] == "pkg:" {
			folder = fields[1]
		}
		if len(fields) < 4 || fields[3] != "ns/op" {
			continue
		}
		took, err := strconv.ParseFloat(fields[2], 64)
		if err != nil {
			continue
		}
		name := folder + " " + fields[0]
		if least, known := times[name]; !known || took < least {
			times[name] = took
		}
	}
}

// hashTime is how long SHA-256 of as much as a hostile input takes, in nanoseconds.
func hashTime() float64 {
	data := make([]byte, hostile.Size)
	least := math.Inf(1)
	for range hostileRuns {
		start := time.Now()
		sha256.Sum256(data)
		least = min(least, float64(time.Since(start)))
	}
	return least
}
