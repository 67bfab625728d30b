// Package story plays the lab's demonstrations: a device is powered on, and what happens is told line by line, as the network
// and the device see it. A story ends well only when its end was really observed: in the servers' records, in the exit code
// of `ztp status`, and in the files on the device.
package story

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/xpu-sztp/ztp/test/lab"
	"github.com/xpu-sztp/ztp/test/lab/artifact"
	"github.com/xpu-sztp/ztp/test/lab/device"
	"github.com/xpu-sztp/ztp/test/lab/event"
	"github.com/xpu-sztp/ztp/test/lab/netlab"
)

// Scenario is one story.
type Scenario string

// The scenarios.
const (
	IPv4     Scenario = "ipv4"     // everything goes well, over IPv4
	IPv6     Scenario = "ipv6"     // the same with no IPv4 on the network
	Tampered Scenario = "tampered" // the voucher is for another device
)

// Scenarios lists all scenarios.
var Scenarios = []Scenario{IPv4, IPv6, Tampered}

// Options says what to play.
type Options struct {
	Scenario Scenario
	ZTP      string    // the agent's program
	Dir      string    // an empty folder for everything
	Out      io.Writer // the story
	Timeout  time.Duration
	Verbose  bool // also show every line of the device's log
}

const (
	serial      = "LAB-000001"
	otherSerial = "LAB-999999"
	newVersion  = "2.0.0"
	maxBoots    = 3

	plugInTimeout = 3 * time.Second

	provisioningLog = "var/log/provisioning" // written by the scripts
	deviceConfig    = "etc/device.conf"
	configuration   = "hostname dpu-7\nntp server 192.0.2.1\n"
)

// play is a story being played.
type play struct {
	Options
	lab    *lab.Lab
	device *device.Device

	mu    sync.Mutex
	start time.Time
}

// Play plays a story inside a network of its own (netlab.Enter) and returns nil when its end is the expected one.
func Play(ctx context.Context, o Options) error {
	p := &play{Options: o, start: time.Now()}
	ctx, cancel := context.WithTimeoutCause(ctx, o.Timeout, fmt.Errorf("the story did not end within %v", o.Timeout))
	defer cancel()
	defer p.close()
	if err := p.setUp(ctx); err != nil {
		return err
	}
	end := p.success
	if o.Scenario == Tampered {
		end = p.refusal
	}
	if err := end(ctx); err != nil {
		return err
	}
	p.say("lab", "the story ended as expected")
	return nil
}

func (p *play) setUp(ctx context.Context) error {
	family := lab.IPv4
	if p.Scenario == IPv6 {
		family = lab.IPv6
	}
	log := &event.Log{Observe: p.tell}
	var err error
	if p.lab, err = lab.New(lab.Options{Family: family, Log: log}); err != nil {
		return err
	}
	p.say("lab", "%s network with DHCP, DNS, redirect server, voucher service, bootstrap server, file server", p.Scenario.network())
	p.lab.Onboard(Onboarding(p.lab), "verbose")
	ns, err := netlab.New()
	if err != nil {
		return err
	}
	p.device, err = p.lab.Device(ctx, device.Options{
		Dir: filepath.Join(p.Dir, "device"), ZTP: p.ZTP, Serial: serial, Namespace: ns, Config: p.config(),
	})
	if err != nil {
		return err
	}
	p.say("lab", "factory: device %s, IDevID key %#x and certificate in its TPM, issued by %q",
		serial, 0x81020000, p.device.IDevID.Issuer.Certificate.Subject.CommonName)
	cable, err := p.lab.Connect(ns, "eth0")
	if err != nil {
		return err
	}
	go p.plugInLater(ctx, cable)
	return nil
}

// config shortens the waits of a device that does not find what it looks for.
func (p *play) config() string {
	timeout := 20 * time.Second
	if p.Scenario == Tampered {
		// The round ends in failure only when the other family, which this network does not have, was given up too.
		timeout = 4 * time.Second
	}
	return fmt.Sprintf("[discovery]\ntimeout = %q\n\n[retry]\ninitial = \"2s\"\n", timeout.String())
}

// plugInLater plugs the cable in when the device says that it waits for one, or has had time to.
func (p *play) plugInLater(ctx context.Context, cable *netlab.Cable) {
	waiting := func(e event.Event) bool { return e.Kind == event.DeviceLog && strings.Contains(e.Text, "carrier") }
	patience, cancel := context.WithTimeout(ctx, plugInTimeout)
	defer cancel()
	p.lab.Log.Wait(patience, waiting)
	if ctx.Err() != nil {
		return
	}
	if err := p.lab.PlugIn(cable); err != nil {
		p.say("lab", "the cable cannot be plugged in: %v", err)
	}
}

func (s Scenario) network() string {
	if s == IPv6 {
		return "IPv6-only"
	}
	return "IPv4"
}

// Onboarding is what the owner wants devices of the stories to become: a new image, two scripts and a configuration.
func Onboarding(l *lab.Lab) artifact.Onboarding {
	return artifact.Onboarding{
		BootImage:     l.ServeImage(device.Image{OSName: "LabOS", OSVersion: newVersion}),
		PreScript:     script("pre-configuration script on $(grep ^IMAGE_VERSION= \"$ZTP_ROOT/etc/os-release\")"),
		Handling:      "replace",
		Configuration: []byte(configuration),
		PostScript:    script("post-configuration script sees: $(head -n 1 \"$ZTP_ROOT/etc/device.conf\")"),
	}
}

// script returns a script that leaves a line in the provisioning log.
func script(line string) []byte {
	return []byte("#!/bin/sh\nset -e\nmkdir -p \"$ZTP_ROOT/var/log\"\necho \"" + line + "\" >>\"$ZTP_ROOT/" + provisioningLog + "\"\n")
}

func (p *play) success(ctx context.Context) error {
	exit, err := p.device.Run(ctx, maxBoots)
	if err != nil {
		return p.brokenOff(ctx, err)
	}
	var findings findings
	if exit != 0 {
		findings.add("the daemon ended with exit code %d, want 0", exit)
	}
	if err := p.showStatus(ctx, func(code int, _ string) {
		if code != 0 {
			findings.add("ztp status ended with exit code %d, want 0 (provisioned)", code)
		}
	}); err != nil {
		return err
	}
	p.checkServers(&findings)
	p.checkDevice(&findings)
	return findings.err()
}

// brokenOff shows how far the device came, unless a person broke the story off.
func (p *play) brokenOff(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return err
	}
	return errors.Join(err, p.showStatus(context.WithoutCancel(ctx), nil))
}

// showStatus prints what `ztp status --verbose` says.
func (p *play) showStatus(ctx context.Context, check func(code int, output string)) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	output, code, err := p.device.Ztp(ctx, "status", "--verbose")
	if err != nil {
		return fmt.Errorf("ztp status: %w", err)
	}
	p.mu.Lock()
	fmt.Fprintf(p.Out, "\n$ ztp status --verbose\n%s(exit code %d)\n\n", output, code)
	p.mu.Unlock()
	if check != nil {
		check(code, output)
	}
	return nil
}

func (p *play) close() {
	if p.lab != nil {
		p.lab.Close()
	}
}

// say prints a line of the story.
func (p *play) say(who, format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.Out, "%7.2f s  %-10s %s\n", time.Since(p.start).Seconds(), who, fmt.Sprintf(format, args...))
}

// tell prints an event as it happens.
func (p *play) tell(e event.Event) {
	switch {
	case e.Kind == event.DNS && e.Attrs["answers"] == "0":
		// Every name is asked for in both families.
	case e.Kind != event.DeviceLog:
		p.say(e.Who, "%s", e.Text)
	case p.Verbose || worthTelling(e.Text):
		p.say("ztp", "%s", plain(e.Text))
	}
}

// findings collects what was not as expected.
type findings []string

func (f *findings) add(format string, args ...any) { *f = append(*f, fmt.Sprintf(format, args...)) }

func (f findings) err() error {
	if len(f) == 0 {
		return nil
	}
	return errors.New("the story did not end as expected:\n  " + strings.Join(f, "\n  "))
}

func (p *play) read(file string) string {
	content, err := os.ReadFile(p.device.Path(file))
	if err != nil {
		return ""
	}
	return string(content)
}
