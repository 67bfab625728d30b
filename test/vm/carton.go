package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/test/lab/event"
	"github.com/xpu-sztp/ztp/test/vm/machine"
)

// fromCarton is the whole way of a device: out of the carton, a new image, service, and a second power-on that changes nothing.
func fromCarton(ctx context.Context, r *rig) error {
	image, err := r.newImage(ctx, "2.0.0", nil)
	if err != nil {
		return err
	}
	r.upgrade(image)
	if err := r.toService(ctx, "2.0.0"); err != nil {
		return err
	}
	if err := r.checkStory("2.0.0"); err != nil {
		return err
	}
	return r.stays(ctx, "2.0.0")
}

// toService powers the device on with the image of the factory, and follows it until it is provisioned with another one.
func (r *rig) toService(ctx context.Context, version string) error {
	if err := r.powerOn(ctx); err != nil {
		return err
	}
	if err := r.runs(ctx, "a", "1.0.0"); err != nil {
		return err
	}
	if err := r.ends(ctx, machine.Reset); err != nil {
		return err
	}
	if err := r.powerOn(ctx); err != nil {
		return err
	}
	return r.completes(ctx, "b", version)
}

// completes follows a system that has just been started until the device is provisioned, and has a look at it.
func (r *rig) completes(ctx context.Context, slot, version string) error {
	if err := r.runs(ctx, slot, version); err != nil {
		return err
	}
	if err := r.reported(ctx, string(progress.BootstrapComplete)); err != nil {
		return err
	}
	s, err := r.done(ctx)
	if err != nil {
		return err
	}
	if s.Outcome != state.OutcomeProvisioned || s.ExitCode() != state.ExitProvisioned {
		return fmt.Errorf("ztp status --json: outcome %q, reason %+v", s.Outcome, s.Reason)
	}
	if s.Slots == nil || s.Slots.Running != slot || s.Slots.Good != slot {
		return fmt.Errorf("ztp status --json: slots %+v, want %s to run and to be good", s.Slots, slot)
	}
	if s.Device.SerialNumber != serial || s.Identity == nil {
		return fmt.Errorf("ztp status --json: device %+v, identity %+v", s.Device, s.Identity)
	}
	if err := r.good(ctx, slot); err != nil {
		return err
	}
	configuration, err := r.sh(ctx, "cat /var/lib/ztp/configuration")
	if err == nil && configuration != "hostname dpu-7" {
		err = fmt.Errorf("the configuration is %q", configuration)
	}
	return err
}

// stays powers a provisioned device off and on, and wants it to start from the same slot, without an agent and without a packet
// to any server.
func (r *rig) stays(ctx context.Context, version string) error {
	if err := r.powerOff(ctx); err != nil {
		return err
	}
	before := len(r.lab.Bootstrap.Requests()) + len(r.lab.Redirect.Requests())
	if err := r.powerOn(ctx); err != nil {
		return err
	}
	if err := r.runs(ctx, "b", version); err != nil {
		return err
	}
	started, err := r.sh(ctx, "systemctl is-system-running --wait; systemctl show -P ExecMainStartTimestampMonotonic ztp.service ztp-onboard.service")
	if err != nil {
		return err
	}
	if strings.Trim(started, "0\n") != "running" {
		return fmt.Errorf("on a provisioned device the agent was started, or something has failed: %q", started)
	}
	s, err := r.status(ctx)
	if err != nil {
		return err
	}
	if s.Outcome != state.OutcomeProvisioned {
		return fmt.Errorf("after the second power-on the status is %q", s.Outcome)
	}
	if err := r.powerOff(ctx); err != nil {
		return err
	}
	if after := len(r.lab.Bootstrap.Requests()) + len(r.lab.Redirect.Requests()); after != before {
		return fmt.Errorf("a provisioned device asked servers %d times", after-before)
	}
	if found := r.log.Find(r.since(leased)); len(found) > 0 {
		return fmt.Errorf("a provisioned device asked for a lease: %s", found[0].Text)
	}
	return nil
}

// leased matches leases that Kea has granted.
func leased(e event.Event) bool { return e.Kind == server && strings.Contains(e.Text, "_LEASE_ALLOC") }

// course is that of the reports of a device that installs an image; others may be in between.
var course = []progress.Type{
	progress.BootstrapInitiated, progress.BootImageInitiated, progress.BootImageInstalledRebooting,
	progress.BootstrapInitiated, progress.BootImageInitiated, progress.BootImageComplete,
	progress.PreScriptInitiated, progress.PreScriptComplete, progress.ConfigInitiated, progress.ConfigComplete,
	progress.PostScriptInitiated, progress.PostScriptComplete, progress.BootstrapComplete,
}

// checkStory looks at what servers and console have seen of a device that went from the carton to service without a hitch.
func (r *rig) checkStory(version string) error {
	if err := r.checkReports(course); err != nil {
		return err
	}
	for _, report := range r.lab.Bootstrap.Reports() {
		if progress.Type(report.Type).Error() {
			return fmt.Errorf("the device reported %s: %s", report.Type, report.Message)
		}
	}
	var asked []string
	for _, request := range r.lab.Bootstrap.Requests() {
		if request.Input.SignedDataPreferred {
			asked = append(asked, "untrusted")
		} else {
			asked = append(asked, "trusted "+request.Input.OSName+" "+request.Input.OSVersion)
		}
	}
	if want := []string{"untrusted", "trusted labos 1.0.0", "untrusted", "trusted labos " + version}; !slices.Equal(asked, want) {
		return fmt.Errorf("the owner's server was asked as %q, want %q", asked, want)
	}
	if n := len(r.lab.Redirect.Requests()); n != 2 {
		return fmt.Errorf("the redirect server was asked %d times, want once in each boot", n)
	}
	for what, match := range map[string]func(event.Event) bool{
		"lease": leased, "voucher": event.Is(event.Voucher, "serial", serial),
		"download":   event.Is(event.Download, "path", "/"+imageName(version), "status", "200"),
		"pre-script": says(console, "lab-script  pre on "+version), "post-script": says(console, "lab-script  post with hostname dpu-7"),
		// Nothing is marked good before the server has acknowledged the end.
		"trial until the end": func(e event.Event) bool {
			return says(console, "lab-script  post with")(e) && strings.Contains(e.Text, r.goodSlot("a"))
		},
	} {
		if len(r.log.Find(match)) == 0 {
			return fmt.Errorf("there was no %s", what)
		}
	}
	return nil
}

// checkReports wants the given reports in their order, the last one as the last of all, and nothing that RFC 8572 forbids.
func (r *rig) checkReports(want []progress.Type) error {
	for _, v := range append(r.lab.Bootstrap.Violations(), r.lab.Redirect.Violations()...) {
		return fmt.Errorf("the device broke RFC 8572: %s", v)
	}
	if n := len(r.lab.Redirect.Reports()); n > 0 {
		return fmt.Errorf("the redirect server, which nobody trusts, got %d reports", n)
	}
	var got []string
	missing := want
	for _, report := range r.lab.Bootstrap.Reports() {
		got = append(got, report.Type)
		if report.Status != http.StatusNoContent {
			return fmt.Errorf("the report %s was answered with %d", report.Type, report.Status)
		}
		if len(missing) > 0 && string(missing[0]) == report.Type {
			missing = missing[1:]
		}
	}
	if len(missing) > 0 || len(got) == 0 || got[len(got)-1] != string(want[len(want)-1]) {
		return fmt.Errorf("the reports were %s; in its place was missing: %v", strings.Join(got, ", "), missing)
	}
	return nil
}
