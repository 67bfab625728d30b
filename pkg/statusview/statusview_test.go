package statusview_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/pkg/statusview"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func at(seconds int) time.Time { return now.Add(time.Duration(seconds) * time.Second) }

func examples() map[string]*state.Status {
	exit := 10
	device := state.Device{HWModel: "DPU-1", OSName: "dpuos", OSVersion: "2.1", SerialNumber: "SN-1234"}
	identity := &state.Identity{
		Kind: "tpm", Key: "0x81020000", Certificate: "NV index 0x01c90000", Subject: "CN=SN-1234", Issuer: "CN=Maker CA",
		NotAfter: time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC), Algorithm: "ECDSA P-256",
	}
	eth0 := state.Interface{
		Name: "eth0", Index: 2, Kind: "ethernet", MAC: "02:00:00:00:00:01", MTU: 1500, State: "bound", Family: "ipv4", Method: "lease",
		Addresses: []string{"192.0.2.5/24"}, Server: "192.0.2.1",
		LeaseObtained: at(-600), LeaseRenew: at(1200), LeaseRebind: at(2550), LeaseEnds: at(3000),
		Options: []string{"https://boot.example"}, Warnings: []string{"\"ftp://x\" does not begin with https://; ignored"},
		DNS: []string{"192.0.2.1"}, Domains: []string{"site.example"}, RoutesAdded: []string{"default via 192.0.2.1"},
	}
	eth1 := state.Interface{
		Name: "eth1", Index: 3, Kind: "vlan", MAC: "02:00:00:00:00:01", MTU: 1280, State: "unbound", Family: "ipv6", Method: "inform",
		Managed: "systemd-networkd", Detail: "no route", Router: &state.Router{Heard: true, Other: true}, Server: "fe80::1",
		OptionError: "the bootstrap server option (3 bytes) holds no usable server: the list ends in the middle of a length",
	}
	redirect := state.Server{
		URL: "https://boot.example:443", Address: "192.0.2.9:443", Source: "dhcp4", Interface: "eth0", Trust: "provisional",
		Certificate: "CN=boot.example, issued by CN=Site CA", Presented: "CN=SN-1234", Visited: at(-30), Result: "redirect",
	}
	refused := &state.Reason{
		Code: "http-unauthorized", Message: "https://boot.example:443: the server does not let this device in (HTTP 401) (and 1 more failure)",
		Hint: "check that the device's serial number is registered at the server", At: at(-30),
	}
	forever := *identity
	forever.DecryptKey = "TPM handle 0x81020002"
	forever.NotAfter = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	fell := &state.Reason{Code: "image-fell-back", Message: "slot b was started with it, and the boot loader returned to slot a", At: at(-5)}
	return map[string]*state.Status{
		"fresh": {Schema: 1, Enabled: true, Phase: state.PhaseNotStarted},
		"waiting": {
			Schema: 1, Version: "1.0", PID: 77, Enabled: true, Phase: state.PhaseBackingOff, Started: at(-100), Attempts: 3,
			NextAttempt: at(42), Updated: at(-1), Device: device, Identity: identity,
			Reason: &state.Reason{
				Code: "voucher-serial-mismatch", Message: "the voucher is for serial number \"SN-9\", this device is \"SN-1234\"",
				Hint: "ask the manufacturer for a voucher for SN-1234", At: at(-2),
			},
			Interfaces: []state.Interface{eth0, eth1, {Name: "eth2", State: "no-carrier"}, {Name: "eth3", State: "skipped", Detail: "excluded"}},
			Sources: []state.Source{{Name: "dhcp", Tried: at(-40), Result: "voucher-serial-mismatch", Detail: "one lead"},
				{Name: "removable-storage", Tried: at(-41), Result: "storage-no-data", Detail: "sda1 has no folder sztp"}},
			Servers: []state.Server{redirect, {
				URL: "https://owner.example:443", Address: "[2001:db8::1]:443", Source: "redirect", Trust: "provisional", Visited: at(-20),
				Result: "voucher-serial-mismatch",
				StatusFetches: []state.StatusFetch{
					{URL: "http://ocsp.example/", Detail: "OCSP response for CN=Owner from http://ocsp.example/: the server answered with HTTP 503"},
					{URL: "http://crl.example/a.crl", OK: true, Detail: "revocation list for CN=Owner from http://crl.example/a.crl, 412 bytes"},
				},
				Verdicts: []state.Verdict{
					{Step: "voucher-signature", OK: true, Detail: "by CN=MASA"},
					{Step: "voucher-serial-number", Detail: "\"SN-9\" is not \"SN-1234\""},
				},
			}},
		},
		"provisioned": {
			Schema: 1, Version: "1.0", Enabled: true, Phase: state.PhaseDone, Outcome: state.OutcomeProvisioned, Started: at(-600),
			Ended: at(-300), Attempts: 1, Reboots: 1, Updated: at(-300), Device: device, Identity: &forever,
			Interfaces: []state.Interface{eth0}, Servers: []state.Server{redirect},
			Downloads: []state.Download{{
				URI: "https://files.example/os.img", Server: "192.0.2.9:443", Protocol: "https", Bytes: 3 << 29, Total: 3 << 29,
				Rate: 100 << 20, Started: at(-500), Ended: at(-480), Result: "complete",
			}},
			Image: &state.Image{OSName: "dpuos", OSVersion: "2.1", SHA256: strings.Repeat("ab", 32), Slot: "b", State: "satisfied", Attempts: 1,
				Signer: "release@example.com, ssh-ed25519 key SHA256:abc"},
			Steps: []state.Step{
				{Name: "pre-script", Result: "warning", Exit: &exit, Started: at(-350), Ended: at(-349)},
				{Name: "configuration", Result: "complete", Detail: "merged into /etc/dpu.conf", Started: at(-349), Ended: at(-349)},
			},
			Reports:  []state.Report{{Type: "bootstrap-initiated", At: at(-400), Accepted: true}, {Type: "bootstrap-complete", At: at(-300)}},
			Warnings: []state.Warning{{Text: "the DHCP server sent option 143 as raw text", At: at(-590)}},
		},
		"downloading": {
			Schema: 1, Version: "1.0", PID: 77, Enabled: true, Phase: state.PhaseOnboarding, Started: at(-100), Attempts: 1, Updated: at(-1),
			Downloads: []state.Download{
				{URI: "https://mirror.example/os.img", Server: "192.0.2.8:443", Protocol: "https", Bytes: 1 << 29, Total: 3 << 30,
					Rate: 90 << 20, Started: at(-50), Ended: at(-40), Requests: 4, Resumed: 1 << 28, Result: "image-truncated",
					Detail: "the transfer broke off after 536870912 of 3221225472 bytes"},
				{URI: "https://files.example/os.img", Server: "192.0.2.9:443", Protocol: "https", Bytes: 3 << 29, Total: 3 << 30,
					Rate: 100 << 20, ETA: at(16), Requests: 1, Resumed: 1 << 29, Started: at(-40)},
			},
			Image: &state.Image{OSName: "dpuos", OSVersion: "2.1", SHA256: strings.Repeat("ab", 32), State: "fetching"},
		},
		"fallen-back": {
			Schema: 1, Version: "1.0", PID: 77, Enabled: true, Phase: state.PhaseBackingOff, Started: at(-100), Attempts: 1, Updated: at(-1),
			NextAttempt: at(9),
			Reason: &state.Reason{Code: "image-fell-back", At: at(-3), Hint: "see on the device's console why it does not start",
				Message: "the image with SHA-256 " + strings.Repeat("ab", 32) + " did not last: " + fell.Message + " (install 1 of 3)"},
			Image: &state.Image{OSName: "dpuos", OSVersion: "2.1", SHA256: strings.Repeat("ab", 32), Slot: "b", State: "fell-back", Attempts: 1,
				Allowed: 3, Reason: fell},
			Slots: &state.Slots{Running: "a", Good: "a"},
			Images: []state.PastImage{
				{SHA256: strings.Repeat("ab", 32), ImageRecord: state.ImageRecord{OSName: "dpuos", OSVersion: "2.1", Slot: "b",
					State: state.ImageFellBack, Attempts: 1, Reboots: 1, Reason: fell, Updated: at(-5)}},
				{SHA256: strings.Repeat("cd", 32), Until: at(7200), ImageRecord: state.ImageRecord{OSVersion: "9", Updated: at(7200 - 86400),
					State: state.ImageRefused, Attempts: 3, Reboots: 3,
					Reason: &state.Reason{Code: "image-refused", Message: "installed 3 times, and the device never came up with it"}}},
				{SHA256: strings.Repeat("ef", 32), ImageRecord: state.ImageRecord{State: state.ImageGood, Updated: at(-9e6)}},
			},
		},
		"on-trial": {
			Schema: 1, Version: "1.0", PID: 77, Enabled: true, Phase: state.PhaseOnboarding, Started: at(-100), Attempts: 1, Updated: at(-1),
			Image: &state.Image{OSVersion: "2.1", SHA256: strings.Repeat("ab", 32), State: "satisfied"},
			Slots: &state.Slots{Running: "b", Good: "a", Tries: 2}, TrialEnds: at(1800),
			Steps: []state.Step{
				{Name: "pre-script", Result: "interrupted", Undo: "done", Started: at(-900)},
				{Name: "pre-script", Result: "script-failed", Undo: "failed", Exit: &exit, Detail: "pre-script failed with exit code 1", Started: at(-50), Ended: at(-40)},
				{Name: "pre-script", Result: "undone", Undo: "done", Started: at(-30), Ended: at(-20)},
			},
		},
		"rebooting": {
			Schema: 1, Version: "1.0", Enabled: true, Phase: state.PhaseRebooting, Started: at(-100), Attempts: 1, Updated: at(-1),
			Slots: &state.Slots{Running: "a", Good: "a", Next: "b", Tries: 3},
		},
		// The next attempt is under way; what failed is of the one before.
		"retrying": {
			Schema: 1, Version: "1.0", PID: 77, Enabled: true, Phase: state.PhaseDiscovering, Started: at(-100), Attempts: 2,
			Updated: at(-1), Reason: refused, Interfaces: []state.Interface{{Name: "eth0", Family: "ipv6", State: "acquiring"},
				{Name: "eth1", Family: "ipv4", State: "unbound", Detail: "no DHCPv4 server answered", Managed: "manual", Addresses: []string{"192.0.2.7/24"}}},
			Servers: []state.Server{{URL: "https://boot.example:443", Trust: "provisional", Visited: at(-35), Result: refused.Code,
				Detail: "the server does not let this device in (HTTP 401)"}},
		},
		// `ztp disable` undoes a session, which may take a while.
		"stopping": {
			Schema: 1, Version: "1.0", PID: 77, Phase: state.PhaseOnboarding, Started: at(-100), Attempts: 1, Updated: at(-1),
			Steps: []state.Step{{Name: "pre-script", Result: "cancelled", Detail: "it was stopped", Started: at(-30), Ended: at(-2)}},
		},
		"stopped": {
			Schema: 1, Version: "1.0", Enabled: true, Phase: state.PhaseNotStarted, Started: at(-100), Updated: at(-1),
			Reason: &state.Reason{Code: "cancelled", Message: "the session was stopped", Hint: "`ztp run` starts a new one", At: at(-1)},
			Steps: []state.Step{{Name: "pre-script", Result: "script-failed", Exit: &exit, Started: at(-30), Ended: at(-20),
				Detail: "pre-script failed with exit code 10"}},
		},
		// A device without a battery begins in 1970 and learns the time on the way.
		"clock-set": {
			Schema: 1, Version: "1.0", Enabled: true, Phase: state.PhaseDone, Outcome: state.OutcomeProvisioned, Started: time.Unix(40, 0),
			Ended: at(-300), Attempts: 1, Updated: at(-300),
			Steps: []state.Step{{Name: "pre-script", Result: "complete", Started: time.Unix(60, 0), Ended: at(-310)}},
		},
		"asked-to-wait": {
			Schema: 1, Version: "1.0", PID: 77, Enabled: true, Phase: state.PhaseBackingOff, Started: at(-100), Attempts: 3,
			NextAttempt: at(73), NextBecause: "https://boot.example:443 asked to be left alone for 1m0s", Updated: at(-1),
			Reason: &state.Reason{
				Code: "server-error", Message: "https://boot.example:443: the server failed (HTTP 503, come back in 1m0s)",
				Hint: "look at the bootstrap server's log", At: at(-2),
			},
		},
		"moved": {
			Schema: 1, Version: "1.0", PID: 77, Enabled: true, Phase: state.PhaseDone, Outcome: state.OutcomeProvisioned,
			Started: at(-90000), Ended: at(-89000), Attempts: 1, Updated: at(-1),
			Watch: &state.Watch{
				Network: "router 192.0.2.1 02:00:00:00:00:01, domain lab.example", Other: "router 198.51.100.1, domain dc.example",
				Since: at(-100), Begins: at(200),
				Failure: &state.Reason{Code: "no-option", Message: "DHCP names no bootstrap server", At: at(-30000)},
			},
		},
		"disabled": {Schema: 1, Version: "1.0", Phase: state.PhaseNotStarted},
		"starting": {
			Schema: 1, Version: "1.0", PID: 9, Enabled: true, Phase: state.PhaseStarting, NextAttempt: at(4), Started: at(-3),
			Reason: &state.Reason{Code: "tpm-unreachable", Message: "cannot open /dev/tpmrm0", Hint: "enable the TPM", At: at(-1)},
		},
	}
}

func TestGolden(t *testing.T) {
	for name, s := range examples() {
		for form, text := range map[string]string{"short": statusview.Short(s, now), "verbose": statusview.Verbose(s, now)} {
			t.Run(name+"/"+form, func(t *testing.T) {
				file := filepath.Join("testdata", name+"."+form+".txt")
				if *update {
					if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(string(want), text); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
			})
		}
	}
}

// TestShortFitsAScreen holds however much the status has to tell.
func TestShortFitsAScreen(t *testing.T) {
	s := examples()["waiting"]
	for range 100 {
		s.Interfaces = append(s.Interfaces, s.Interfaces[0])
		s.Servers = append(s.Servers, s.Servers[1])
		s.Warnings = append(s.Warnings, state.Warning{Text: "w"})
		s.Steps = append(s.Steps, state.Step{Name: "pre-script", Result: "complete"})
	}
	if lines := strings.Count(statusview.Short(s, now), "\n"); lines > 30 {
		t.Errorf("%d lines", lines)
	}
}

// TestShortShowsWhatTells has a machine with many ports of which one is of use.
func TestShortShowsWhatTells(t *testing.T) {
	s := examples()["waiting"]
	for _, i := range []string{"skipped", "no-carrier", "unbound"} {
		for range 8 {
			s.Interfaces = append(s.Interfaces, state.Interface{Name: "port", State: i})
		}
	}
	if text := statusview.Short(s, now); !strings.Contains(text, "eth0 ipv4 bound") || strings.Contains(text, "skipped") {
		t.Error(text)
	}
}

// TestNothingObeysTheNetwork: no text in a status can add a line or reach the terminal as a control character.
func TestNothingObeysTheNetwork(t *testing.T) {
	lines := func(evil string) (string, int) {
		s := examples()["waiting"]
		s.Reason.Message, s.Reason.Hint = "x"+evil, "x"+evil
		s.Servers[1].URL, s.Servers[1].Verdicts[1].Detail, s.Servers[0].Certificate = "x"+evil, "x"+evil, "x"+evil
		s.Interfaces[0].Options[0] = "x" + evil
		s.Warnings = []state.Warning{{Text: "x" + evil}}
		text := statusview.Short(s, now) + statusview.Verbose(s, now)
		return text, strings.Count(text, "\n")
	}
	_, want := lines("")
	rapid.Check(t, func(t *rapid.T) {
		text, got := lines(rapid.String().Draw(t, "evil") + "\x1b[2J\r\n\u202e\u2028")
		if got != want {
			t.Fatalf("%d lines instead of %d", got, want)
		}
		if i := strings.IndexFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); i >= 0 {
			t.Fatalf("unprintable character in %q", text[i:])
		}
	})
}

func TestMomentsFarAway(t *testing.T) {
	now := time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)
	for want, at := range map[string]time.Time{
		"9999-12-31 23:59:59 UTC, because":             time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		"1970-01-03 00:00:00 UTC (in 2 days), because": now.Add(48 * time.Hour),
	} {
		s := state.Status{Enabled: true, Phase: state.PhaseBackingOff, NextAttempt: at, NextBecause: "why"}
		if got := statusview.Short(&s, now); !strings.Contains(got, want) {
			t.Errorf("%q does not have %q", got, want)
		}
	}
}
