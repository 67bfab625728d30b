// Command bench measures what the agent costs: size of the binaries, time and memory of `ztp status`, memory and wake-ups
// of a daemon that waits for a link, time from a carrier to the first packet to a bootstrap server, time to validate signed
// data and to decode hostile input, how evenly many devices come back to a server that was down, TPM signatures for each
// bootstrap server, and how fast an image is installed, in how much memory. It prints a line `BENCH <name> <value> <unit>`
// for each figure, and fails when one is above its limit; those that depend much on the speed of the machine have none. It
// is what `make bench` runs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/xpu-sztp/ztp/test/lab/netlab"
)

const mebibyte = 1 << 20

// figure is one measured value. A limit of noLimit is for figures that depend on the machine.
type figure struct {
	name  string
	value float64
	unit  string
	limit float64
}

const noLimit = -1

func main() {
	bin := flag.String("bin", "bin", "folder of the binaries to measure")
	stages := flag.Bool("stages", false, "measure only the way from carrier to request, and print its packets")
	install := flag.Bool("install", false, "measure only the installation of an image")
	imageSize := flag.Int64("image-size", 4<<30, "bytes of the image that is installed")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if flag.Arg(0) == stageArgument {
		if err := runStage(ctx, flag.Arg(1)); err != nil {
			fail(err)
		}
		return
	}
	if !netlab.Inside() {
		// The go command may have to fetch modules, for which there is no way out of the namespaces.
		var r report
		if !*stages && !*install {
			if err := r.show(hostileCost()); err != nil {
				fail(fmt.Errorf("hostile input: %w", err))
			}
			if err := r.show(stormCost()); err != nil {
				fail(fmt.Errorf("storm: %w", err))
			}
		}
		status, err := netlab.Enter()
		if err = errors.Join(err, r.verdict()); err != nil {
			fail(err)
		}
		os.Exit(status)
	}
	if err := run(ctx, *bin, *stages, *install, *imageSize); err != nil {
		stop()
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "bench:", err)
	os.Exit(1)
}

// run measures everything and reports each figure as soon as it is known.
func run(ctx context.Context, bin string, stages, install bool, imageSize int64) error {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "ztp-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	if err := netlab.Up("lo"); err != nil {
		return err
	}

	var r report
	ztp := filepath.Join(bin, "ztp")
	if stages {
		return errors.Join(r.show(carrierCost(ctx, ztp, filepath.Join(scratch, "carrier"), true)), r.verdict())
	}
	if install {
		return errors.Join(r.show(installCost(ctx, ztp, filepath.Join(scratch, "install"), imageSize)), r.verdict())
	}
	if err := r.show(sizes(bin)); err != nil {
		return err
	}
	if err := r.show(verifyCost()); err != nil {
		return fmt.Errorf("verify a bundle: %w", err)
	}
	device, signatures, err := provision(ctx, ztp, filepath.Join(scratch, "provisioned"))
	if err != nil {
		return fmt.Errorf("provision a device: %w", err)
	}
	defer device.Close()
	if err := r.show(statusCost(ctx, device)); err != nil {
		return fmt.Errorf("status: %w", err)
	}
	if err := r.show(idleCost(ctx, ztp, filepath.Join(scratch, "idle"))); err != nil {
		return fmt.Errorf("idle daemon: %w", err)
	}
	if err := r.show(carrierCost(ctx, ztp, filepath.Join(scratch, "carrier"), false)); err != nil {
		return fmt.Errorf("carrier to request: %w", err)
	}
	if err := r.show([]figure{{"tpm-signatures-per-server", signatures, "signatures", 1}}, nil); err != nil {
		return err
	}
	if err := r.show(installCost(ctx, ztp, filepath.Join(scratch, "install"), imageSize)); err != nil {
		return fmt.Errorf("install an image: %w", err)
	}
	return r.verdict()
}

// report prints figures as soon as they are known, and remembers which are above their limit.
type report struct{ above []error }

func (r *report) show(figures []figure, err error) error {
	for _, f := range figures {
		fmt.Printf("BENCH %s %s %s\n", f.name, strconv.FormatFloat(f.value, 'f', -1, 64), f.unit)
		if f.limit != noLimit && f.value > f.limit {
			r.above = append(r.above, fmt.Errorf("%s is %v %s, the limit is %v", f.name, f.value, f.unit, f.limit))
		}
	}
	return err
}

func (r *report) verdict() error { return errors.Join(r.above...) }

// sizes weighs the device binaries as they are delivered, which is stripped.
func sizes(bin string) ([]figure, error) {
	var figures []figure
	for _, arch := range []string{"amd64", "arm64"} {
		info, err := os.Stat(filepath.Join(bin, "ztp-linux-"+arch))
		if err != nil {
			return figures, err
		}
		figures = append(figures, figure{"binary-" + arch, float64(info.Size()), "bytes", 9 * mebibyte})
	}
	return figures, nil
}
