package story

import (
	"net/http"
	"slices"
	"strings"

	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/slot"
	"github.com/xpu-sztp/ztp/test/lab/event"
)

// wantReports is the course of a verbose bootstrap with a new image, in order; other reports may be in between.
var wantReports = []progress.Type{
	progress.BootstrapInitiated, progress.BootImageInitiated, progress.BootImageInstalledRebooting,
	progress.BootstrapInitiated, progress.BootImageInitiated, progress.BootImageComplete,
	progress.PreScriptInitiated, progress.PreScriptComplete, progress.ConfigInitiated, progress.ConfigComplete,
	progress.PostScriptInitiated, progress.PostScriptComplete, progress.BootstrapComplete,
}

func (p *play) checkServers(f *findings) {
	for _, v := range append(p.lab.Bootstrap.Violations(), p.lab.Redirect.Violations()...) {
		f.add("the device broke RFC 8572: %s", v)
	}
	if n := len(p.lab.Redirect.Reports()); n > 0 {
		f.add("the redirect server, which nobody trusts, got %d reports", n)
	}
	var got []string
	for _, r := range p.lab.Bootstrap.Reports() {
		got = append(got, r.Type)
		if r.Status != http.StatusNoContent {
			f.add("the report %s was answered with %d", r.Type, r.Status)
		}
		if progress.Type(r.Type).Error() {
			f.add("the device reported %s: %s", r.Type, r.Message)
		}
	}
	missing := slices.Clone(wantReports)
	for _, t := range got {
		if len(missing) > 0 && string(missing[0]) == t {
			missing = missing[1:]
		}
	}
	if len(missing) > 0 || got[len(got)-1] != string(progress.BootstrapComplete) {
		f.add("the reports were %s; in its place was missing: %v", strings.Join(got, ", "), missing)
	}
	p.checkTrust(f)
	if n := len(p.lab.Log.Find(event.Is(event.Reboot))); n != 1 {
		f.add("the device rebooted %d times, want once", n)
	}
	if len(p.lab.Log.Find(event.Is(event.Download, "status", "200"))) == 0 {
		f.add("the image was never downloaded")
	}
}

// checkTrust checks that the device asked the owner's server as a stranger and then as a friend, in both boots.
func (p *play) checkTrust(f *findings) {
	var asked []string
	for _, r := range p.lab.Bootstrap.Requests() {
		if r.Input.SignedDataPreferred {
			asked = append(asked, "untrusted")
			continue
		}
		asked = append(asked, "trusted "+r.Input.OSVersion)
	}
	want := []string{"untrusted", "trusted " + p.device.Factory.OSVersion, "untrusted", "trusted " + newVersion}
	if !slices.Equal(asked, want) {
		f.add("the owner's bootstrap server was asked as %q, want %q", asked, want)
	}
	if n := len(p.lab.Redirect.Requests()); n != 2 {
		f.add("the redirect server was asked %d times, want once per boot", n)
	}
}

func (p *play) checkDevice(f *findings) {
	want := "pre-configuration script on IMAGE_VERSION=\"" + newVersion + "\"\npost-configuration script sees: hostname dpu-7\n"
	if got := p.read(provisioningLog); got != want {
		f.add("the scripts left %q, want %q", got, want)
	}
	if got := p.read(deviceConfig); got != configuration {
		f.add("the configuration is %q, want %q", got, configuration)
	}
	running, image, err := slot.Boot(p.device.Slots())
	if err != nil {
		f.add("the next boot fails: %v", err)
		return
	}
	if running != "b" {
		f.add("the next boot would start slot %s (%s), want b: the new image was not marked good", running, image)
	}
}
