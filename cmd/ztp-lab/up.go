package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"

	"github.com/spf13/cobra"

	"github.com/xpu-sztp/ztp/test/lab"
	"github.com/xpu-sztp/ztp/test/lab/device"
	"github.com/xpu-sztp/ztp/test/lab/event"
	"github.com/xpu-sztp/ztp/test/lab/netlab"
	"github.com/xpu-sztp/ztp/test/lab/story"
)

type upFlags struct {
	family, serial string
	dhcp, keep     bool
}

func upCommand() *cobra.Command {
	var flags upFlags
	c := &cobra.Command{
		Use:   "up [-- COMMAND…]",
		Short: "Start the network and its servers, and keep them up",
		Long: `Start the network with DHCP, DNS, redirect, voucher, bootstrap and file servers, build a device with a software TPM, and keep
everything up until interrupted. With a command, run it in the device's network namespace and stay up until it ends; ZTP_ROOT
is the device's root folder then.`,
		Example: "  ztp-lab up\n  ztp-lab up -- sh -c 'ztp daemon --root \"$ZTP_ROOT\"'",
		RunE: func(cmd *cobra.Command, command []string) error {
			if !slices.Contains([]lab.Family{lab.IPv4, lab.IPv6, lab.Dual}, lab.Family(flags.family)) {
				return fmt.Errorf("unknown network %q: use ipv4, ipv6 or dual", flags.family)
			}
			return inSandbox(flags.keep, func(ctx context.Context, dir string) error {
				return up(ctx, cmd.OutOrStdout(), dir, flags, command)
			})
		},
	}
	c.Flags().StringVar(&flags.family, "network", string(lab.Dual), "ipv4, ipv6 or dual")
	c.Flags().BoolVar(&flags.dhcp, "dhcp", true, "run DHCP servers and send router advertisements")
	c.Flags().StringVar(&flags.serial, "serial", "LAB-000001", "serial number of the device that is built")
	c.Flags().BoolVar(&flags.keep, "keep", false, "keep the working folder")
	return c
}

func up(ctx context.Context, out io.Writer, dir string, flags upFlags, command []string) error {
	var mu sync.Mutex
	log := &event.Log{Observe: func(e event.Event) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(out, "%s  %-10s %s\n", e.At.Format("15:04:05.000"), e.Who, e.Text)
	}}
	l, err := lab.New(lab.Options{Family: lab.Family(flags.family), NoDHCP: !flags.dhcp, Log: log})
	if err != nil {
		return err
	}
	defer l.Close()
	l.Onboard(story.Onboarding(l), "verbose")
	pki := filepath.Join(dir, "pki")
	if err := l.SavePKI(pki); err != nil {
		return err
	}
	ns, err := netlab.New()
	if err != nil {
		return err
	}
	d, err := l.Device(ctx, device.Options{Dir: filepath.Join(dir, "device"), Serial: flags.serial, Namespace: ns})
	if err != nil {
		return err
	}
	cable, err := l.Connect(ns, "eth0")
	if err != nil {
		return err
	}
	if err := l.PlugIn(cable); err != nil {
		return err
	}
	explain(out, l, d, pki)
	if len(command) > 0 {
		return runInside(ctx, d, command)
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

// explain tells how to point a device at the lab.
func explain(out io.Writer, l *lab.Lab, d *device.Device, pki string) {
	user := ""
	if os.Getuid() == 0 && !isRealRoot() {
		user = fmt.Sprintf("--user --preserve-credentials --target %d ", os.Getpid())
	}
	fmt.Fprintf(out, `
The lab is up. It is not a production server: its keys lie in %s.

  redirect server   %s   (DHCP options 143 and 136 name it; unsigned redirect)
  bootstrap server  %s   (signed data, verbose reports)
  file server       %s
  voucher service   %s   (named in the IDevID)

A device %s is built and connected, with its interface eth0 down as after power-on. Start the agent in its network:

  nsenter %s--net=%s ztp daemon --root %s

or, without discovery, name the bootstrap server:

  nsenter %s--net=%s ztp run --once --url %s --root %s

Voucher trust anchor of the maker:       %s
Trust anchor of the bootstrap server:    %s
Interrupt with Ctrl-C to take everything down.

`,
		pki, l.RedirectAt.URL(), l.BootstrapAt.URL(), l.FilesAt.URL(), l.MASAAt.URL(), d.Serial,
		user, d.Namespace.Path(), d.Root(), user, d.Namespace.Path(), l.BootstrapAt.URL(), d.Root(),
		filepath.Join(pki, "maker-root.pem"), filepath.Join(pki, "owner-web-ca.pem"))
}

// isRealRoot reports whether root here is root on the machine, and not in a user namespace.
func isRealRoot() bool {
	mapping, err := os.ReadFile("/proc/self/uid_map")
	var inside, outside, count uint32
	if err != nil {
		return true
	}
	fmt.Sscan(string(mapping), &inside, &outside, &count)
	return count == ^uint32(0)
}

func runInside(ctx context.Context, d *device.Device, command []string) error {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "ZTP_ROOT="+d.Root())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := d.Namespace.Start(cmd); err != nil {
		return err
	}
	err := cmd.Wait()
	if cmd.ProcessState.ExitCode() > 0 {
		return exitStatus(cmd.ProcessState.ExitCode())
	}
	return err
}
