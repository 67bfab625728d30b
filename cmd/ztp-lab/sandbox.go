package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/test/lab/netlab"
)

// dirVariable hands the working folder from the outer process, which removes it, to the inner one.
const dirVariable = "ZTP_LAB_DIR"

const exitInterrupted = 130

var errInterrupted = errors.New("interrupted")

// inSandbox runs f in network namespaces of its own with a fresh working folder. Whatever ends f, also a signal, namespaces
// and processes are gone afterwards, and so is the folder unless keep is set.
func inSandbox(keep bool, f func(ctx context.Context, dir string) error) error {
	if !netlab.Inside() {
		return outside(keep)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		for range signals {
			cancel(errInterrupted)
		}
	}()
	dir := os.Getenv(dirVariable)
	if !keep {
		defer os.RemoveAll(dir) // also when the outer process was killed
	}
	err := f(ctx, dir)
	if err != nil && context.Cause(ctx) == errInterrupted {
		fmt.Fprintln(os.Stderr, "interrupted; everything was taken down")
		return exitStatus(exitInterrupted)
	}
	return err
}

func outside(keep bool) error {
	dir, err := os.MkdirTemp("", "ztp-lab-")
	if err != nil {
		return fmt.Errorf("no working folder: %w; set TMPDIR to a folder that can be written to", err)
	}
	if err := roomIn(dir); err != nil {
		os.RemoveAll(dir)
		return err
	}
	if keep {
		defer fmt.Fprintln(os.Stderr, "kept:", dir)
	} else {
		defer os.RemoveAll(dir)
	}
	status, err := netlab.Enter(dirVariable + "=" + dir)
	if err == nil && status != 0 {
		return exitStatus(status)
	}
	return err
}

// needed is what a working folder takes, in bytes: two slots with small images, and a download.
const needed = 64 << 20

// roomIn refuses a file system that is full, of which the parts of the lab would complain in stranger words.
func roomIn(dir string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("the working folder: %w", err)
	}
	if free := int64(fs.Bavail) * fs.Bsize; fs.Blocks > 0 && free < needed {
		return fmt.Errorf("there are only %d MiB free for the working folder in %s, and %d are needed; make room, or set TMPDIR to a folder with more",
			free>>20, filepath.Dir(dir), int64(needed)>>20)
	}
	return nil
}
