// Command vm proves the agent on machines that boot: QEMU with UEFI, a TPM, two slots and a boot loader, Debian made by
// scripts/image/debian, real DHCP servers and the lab's bootstrap, voucher and file servers. Each scenario has a network, a
// maker, an owner and a device of its own, and is judged by the serial console, the servers' records and what the device says.
// It is what `make vm-test` runs.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/xpu-sztp/ztp/test/lab/event"
	"github.com/xpu-sztp/ztp/test/lab/netlab"
)

const scripts = "scripts/image/debian"

type options struct {
	ztp, manual, cache string
	only               string
	jobs               int
	keep               bool
	verbose            bool
	soak               int    // rounds of power cuts; 0 plays the scenarios
	seed               uint64 // of what is random
	timeout            time.Duration
	boot               string // systemd-boot of all devices; empty is the scenario's
	inside             string // the scenario that this process plays
	dir                string // its folder
	base               base   // and what its images are made of
}

func main() {
	var o options
	flag.StringVar(&o.ztp, "ztp", "bin/ztp-linux-amd64", "the agent's program")
	flag.StringVar(&o.manual, "manual", "bin/manual", "folder of its manual pages")
	flag.StringVar(&o.cache, "cache", defaultCache(), "folder for what is kept from run to run")
	flag.StringVar(&o.only, "run", "", "scenarios to play, with commas between them; all unless given")
	flag.IntVar(&o.jobs, "jobs", 2, "how many scenarios are played at a time")
	flag.BoolVar(&o.keep, "keep", false, "keep the folder of each scenario, with its disk and its log")
	flag.BoolVar(&o.verbose, "v", false, "print everything as it happens")
	flag.DurationVar(&o.timeout, "timeout", 20*time.Minute, "longest time for one scenario")
	flag.IntVar(&o.soak, "soak", 0, "instead of the scenarios, play so many devices with three power cuts each")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().Unix()), "of what is random")
	flag.StringVar(&o.inside, "inside", "", "")
	flag.StringVar(&o.dir, "dir", "", "")
	flag.StringVar(&o.boot, "systemd-boot", "", "the program of systemd-boot for every device that has it, instead of Debian's")
	flag.StringVar(&o.base.userland, "userland", "", "")
	flag.StringVar(&o.base.slot, "slot", "", "")
	flag.StringVar(&o.base.newer, "newer", "", "")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := o.main(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
		os.Exit(1)
	}
}

func defaultCache() string {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	return filepath.Join(cache, "ztp", "vm")
}

func (o *options) main(ctx context.Context) error {
	if o.inside == "" {
		return o.playAll(ctx)
	}
	if !netlab.Inside() {
		status, err := netlab.Enter()
		if err == nil && status != 0 {
			os.Exit(status)
		}
		return err
	}
	for _, s := range o.scenarios() {
		if s.name == o.inside {
			return o.play(ctx, s)
		}
	}
	return fmt.Errorf("no scenario is called %q", o.inside)
}

// playAll builds the images, and plays scenarios in processes of their own, each of which has a network of its own.
func (o *options) playAll(ctx context.Context) error {
	begin := time.Now()
	var chosen []scenario
	for _, s := range o.scenarios() {
		if o.only == "" || slices.Contains(strings.Split(o.only, ","), s.name) {
			chosen = append(chosen, s)
		}
	}
	if len(chosen) == 0 {
		return fmt.Errorf("no scenario is called %q", o.only)
	}
	var err error
	if o.ztp, err = filepath.Abs(o.ztp); err != nil {
		return err
	}
	if o.base, err = (builder{scripts: scripts, cache: o.cache, ztp: o.ztp, manual: o.manual}).build(ctx); err != nil {
		return fmt.Errorf("image: %w", err)
	}
	fmt.Printf("VM images are there after %.0f s; seed %d\n", time.Since(begin).Seconds(), o.seed)

	var failed []string
	var mu sync.Mutex
	var all sync.WaitGroup
	slots := make(chan struct{}, o.jobs)
	for _, s := range chosen {
		slots <- struct{}{}
		all.Add(1)
		go func() {
			defer all.Done()
			defer func() { <-slots }()
			var out bytes.Buffer
			var to io.Writer = &out
			if o.verbose {
				to = os.Stdout
			}
			err := o.apart(ctx, s, to)
			mu.Lock()
			defer mu.Unlock()
			os.Stdout.Write(out.Bytes())
			if err != nil {
				failed = append(failed, s.name)
			}
		}()
	}
	all.Wait()
	fmt.Printf("VM total %.0f s, %d of %d scenarios as they must be\n", time.Since(begin).Seconds(), len(chosen)-len(failed), len(chosen))
	if len(failed) > 0 {
		return fmt.Errorf("failed: %s", strings.Join(failed, ", "))
	}
	return nil
}

// apart plays a scenario in another process.
func (o *options) apart(ctx context.Context, s scenario, out io.Writer) error {
	// A unix socket's path must be short.
	dir, err := os.MkdirTemp("", "ztp-vm-")
	if err != nil {
		return err
	}
	if o.keep {
		fmt.Fprintln(out, "kept:", dir)
	} else {
		defer os.RemoveAll(dir)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	// Another run may take it out of the cache meanwhile.
	slot := filepath.Join(dir, "base")
	if err := run(exec.CommandContext(ctx, "cp", o.base.slot, slot)); err != nil {
		return err
	}
	args := append(slices.Clone(os.Args[1:]), "-inside", s.name, "-dir", dir, "-ztp", o.ztp, "-seed", strconv.FormatUint(o.seed, 10),
		"-userland", o.base.userland, "-slot", slot, "-newer", o.base.newer)
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	cmd.Stdout, cmd.Stderr = out, out
	return cmd.Run()
}

// play plays a scenario in this process, and tells how it went.
func (o *options) play(ctx context.Context, s scenario) error {
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("the scenario takes longer than %v", o.timeout))
	defer cancel()
	begin := time.Now()
	logFile, err := os.Create(filepath.Join(o.dir, "log"))
	if err != nil {
		return err
	}
	defer logFile.Close()
	log := &event.Log{Observe: func(e event.Event) {
		line := fmt.Sprintf("%8.2f  %-10s %s\n", e.At.Sub(begin).Seconds(), e.Who, e.Text)
		io.WriteString(logFile, line)
		if o.verbose {
			fmt.Print(s.name, " ", line)
		}
	}}
	r := &rig{plan: &s.plan, dir: o.dir, ztp: o.ztp, boot: o.boot, log: log}
	defer r.close()
	if err = r.build(ctx, o.base); err == nil {
		err = s.play(ctx, r)
	}
	verdict := "ok"
	if err != nil {
		verdict = "FAILED"
		showEnd(filepath.Join(o.dir, "log"))
	}
	fmt.Printf("VM %-10s %-6s %4.0f s: %s\n            %s\n", s.name, verdict, time.Since(begin).Seconds(), s.about, r.times())
	return err
}

// showEnd prints the end of a log.
func showEnd(path string) {
	const lines = 120
	text, err := os.ReadFile(path)
	if err != nil {
		return
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	fmt.Println(strings.Join(all[max(0, len(all)-lines):], "\n"))
}
