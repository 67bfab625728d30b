package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

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
