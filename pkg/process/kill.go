package process

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// KillMarked kills every process that has mark, "NAME=VALUE", in its environment, wherever it went. Processes that cleared
// their environment escape; under systemd the unit's control group gets those.
func KillMarked(mark string) {
	if mark == "" {
		return
	}
	for range 50 { // new ones may be born while the old ones are being killed
		killed, unknown := killMarked([]byte(mark))
		if killed == 0 && unknown == 0 {
			return
		}
		if killed == 0 {
			time.Sleep(time.Millisecond) // an execve(2) takes less
		}
	}
}

// killMarked tells how many processes it killed, and of how many it cannot know whether they carry the mark.
func killMarked(mark []byte) (killed, unknown int) {
	proc, err := os.Open("/proc")
	if err != nil {
		return 0, 0
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(-1)
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || pid == os.Getpid() {
			continue
		}
		folder := filepath.Join("/proc", name)
		has := hasEnvironment(folder)
		environ, err := os.ReadFile(filepath.Join(folder, "environ"))
		switch {
		case err != nil:
		case len(environ) == 0 && has:
			unknown++
		case hasVariable(environ, mark) && syscall.Kill(pid, syscall.SIGKILL) == nil:
			killed++
		}
	}
	return killed, unknown
}

// hasEnvironment tells whether the process with this folder in /proc has an environment, even though one cannot be read in
// the middle of execve(2). The kernel's threads, zombies and processes with an empty environment have none.
func hasEnvironment(folder string) bool {
	stat, err := os.ReadFile(filepath.Join(folder, "stat"))
	if err != nil {
		return false
	}
	// Fields of proc_pid_stat(5), counted from the one after the program's name, which may hold parentheses and spaces.
	const start, end = 50 - 3, 51 - 3
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) <= end {
		return false
	}
	if string(fields[end]) != "0" {
		return !bytes.Equal(fields[start], fields[end])
	}
	_, err = os.Readlink(filepath.Join(folder, "exe"))
	return err == nil
}

func hasVariable(environ, variable []byte) bool {
	for one := range bytes.SplitSeq(environ, []byte{0}) {
		if bytes.Equal(one, variable) {
			return true
		}
	}
	return false
}
