package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/test/lab/device"
	"github.com/xpu-sztp/ztp/test/lab/netlab"
	"github.com/xpu-sztp/ztp/test/lab/pki"
)

const (
	settleLimit = time.Minute      // for the daemon to come to rest
	quiet       = 3 * time.Second  // without a context switch is rest
	watched     = 20 * time.Second // how long wake-ups are counted
	// A single late event of the Go runtime in the time watched is no period.
	wakeupLimit = 3
)

// idleCost measures the daemon of a device whose only interface has no carrier.
func idleCost(ctx context.Context, ztp, dir string) ([]figure, error) {
	maker, err := pki.NewManufacturer("Bench Silicon")
	if err != nil {
		return nil, err
	}
	ns, err := netlab.New()
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	if err := netlab.AddBridge("br0"); err != nil {
		return nil, err
	}
	if _, err := netlab.Connect("br0", ns, "eth0", "port0"); err != nil {
		return nil, err
	}
	d, err := newDevice(ctx, maker, device.Options{Dir: dir, ZTP: ztp, Serial: "IDLE-1", Namespace: ns, Config: countedTPM})
	if err != nil {
		return nil, err
	}
	defer d.Close()
	counter, err := countSignatures(d.Path("dev/counted.sock"), d.Path("dev/tpm.sock"))
	if err != nil {
		return nil, err
	}
	defer counter.Close()
	if err := d.PowerOn(ctx); err != nil {
		return nil, err
	}
	defer d.Stop()

	if err := settle(ctx, d); err != nil {
		return nil, fmt.Errorf("%w; its log:\n%s", err, logOf(d))
	}
	before, err := switches(d.PID())
	if err != nil {
		return nil, err
	}
	asked := counter.commands()
	if asked == 0 {
		return nil, errors.New("the daemon found its identity without its TPM")
	}
	if err := wait(ctx, watched); err != nil {
		return nil, err
	}
	asked = counter.commands() - asked
	after, err := switches(d.PID())
	if err != nil {
		return nil, err
	}
	resident, err := residentMemory(d.PID())
	if err != nil {
		return nil, err
	}
	return []figure{
		{"idle-rss", float64(resident), "bytes", 15 * mebibyte},
		{"idle-wakeups", float64(after-before) * float64(time.Minute) / float64(watched), "per-minute", wakeupLimit},
		{"idle-tpm-commands", float64(asked), "commands", 0},
	}, nil
}

// settle waits until the daemon says that it waits for a link, and then until its threads have come to rest. When they do
// not, the count that follows will tell.
func settle(ctx context.Context, d *device.Device) error {
	limited, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	if err := awaitPhase(limited, d, state.PhaseWaitingForLink); err != nil {
		return err
	}
	for {
		before, err := switches(d.PID())
		if err != nil {
			return err
		}
		if err := wait(limited, quiet); err != nil {
			return ctx.Err()
		}
		if after, err := switches(d.PID()); err != nil || after == before {
			return err
		}
	}
}

// awaitPhase waits until the daemon's status has a phase.
func awaitPhase(ctx context.Context, d *device.Device, want state.Phase) error {
	for phase(d) != want {
		if d.PID() == 0 {
			return errors.New("the daemon ended")
		}
		if err := wait(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("the daemon is in phase %q, not %q: %w", phase(d), want, err)
		}
	}
	return nil
}

func phase(d *device.Device) state.Phase {
	var status state.Status
	if data, err := os.ReadFile(d.Path("run/ztp/" + state.StatusName)); err == nil {
		json.Unmarshal(data, &status) // a half-made device has no phase yet
	}
	return status.Phase
}

func logOf(d *device.Device) string {
	data, _ := os.ReadFile(filepath.Join(d.Dir, "daemon.log"))
	return string(data)
}

// switches returns how often the threads of a process were given a processor so far. A process that sleeps is given none,
// and every timer or event that wakes it counts.
func switches(pid int) (int64, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("process %d has no threads", pid)
	}
	var total int64
	for _, file := range files {
		fields, err := statusFields(file)
		if errors.Is(err, os.ErrNotExist) {
			continue // a thread that ended meanwhile
		}
		if err != nil {
			return 0, err
		}
		total += fields["voluntary_ctxt_switches"] + fields["nonvoluntary_ctxt_switches"]
	}
	return total, nil
}

// residentMemory returns the memory of a process that is resident, in bytes.
func residentMemory(pid int) (int64, error) {
	fields, err := statusFields(fmt.Sprintf("/proc/%d/status", pid))
	return fields["VmRSS"] * 1024, err
}

// statusFields reads the numbers of a status file of proc(5), without their unit.
func statusFields(path string) (map[string]int64, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	fields := map[string]int64{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		name, rest, _ := strings.Cut(lines.Text(), ":")
		number, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
		if value, err := strconv.ParseInt(number, 10, 64); err == nil {
			fields[name] = value
		}
	}
	return fields, lines.Err()
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
