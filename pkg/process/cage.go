package process

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cage is a control group of its own for a program and everything that it starts. Nothing gets out of it, whatever it does to
// its session and environment. There is none where the kernel has no unified hierarchy (cgroup v2), or gives this process no
// part of it; then only process group and mark hold what the program starts together.
type cage struct {
	dir *os.File
}

// cageGrace bounds the wait for the end of what was killed.
const cageGrace = 2 * time.Second

// newCage returns nil where there can be none.
func newCage() *cage {
	own := ownGroup()
	if own == "" {
		return nil
	}
	tidy(own)
	path := filepath.Join(own, fmt.Sprintf("%s%d-%s", cagePrefix, os.Getpid(), rand.Text()))
	if os.Mkdir(path, 0o755) != nil {
		return nil
	}
	c := &cage{}
	if _, err := os.Stat(filepath.Join(path, "cgroup.kill")); err == nil { // since Linux 5.14
		c.dir, _ = os.Open(path)
	}
	if c.dir == nil {
		os.Remove(path)
		return nil
	}
	return c
}

const cagePrefix = "ztp-"

// tidy takes down the cages of processes that were killed before they could. One with anything in it stays.
func tidy(own string) {
	stale, _ := filepath.Glob(filepath.Join(own, cagePrefix+"*"))
	for _, path := range stale {
		name, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), cagePrefix), "-")
		if pid, err := strconv.Atoi(name); err == nil && syscall.Kill(pid, 0) == syscall.ESRCH {
			os.Remove(path)
		}
	}
}

// ownGroup is the folder of the control group that this process is in.
func ownGroup() string {
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	groups, _ := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(groups)) {
		path, unified := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !unified {
			continue
		}
		for mount := range strings.Lines(string(mounts)) {
			fields := strings.Fields(mount) // proc_pid_mountinfo(5): root and mount point are the fourth and fifth
			if len(fields) < 6 || !strings.Contains(mount, " - cgroup2 ") {
				continue
			}
			if below, ok := strings.CutPrefix(path, strings.TrimSuffix(fields[3], "/")); ok {
				return filepath.Join(fields[4], below)
			}
		}
	}
	return ""
}

// end kills what is left in the cage and takes it down. A nil cage has nothing in it.
func (c *cage) end() {
	if c == nil {
		return
	}
	path := c.dir.Name()
	c.dir.Close()
	_ = os.WriteFile(filepath.Join(path, "cgroup.kill"), []byte("1"), 0)
	for waited := time.Duration(0); os.Remove(path) != nil && waited < cageGrace; waited += 5 * time.Millisecond {
		time.Sleep(5 * time.Millisecond) // it is busy until the last of them is gone
	}
}
