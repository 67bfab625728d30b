package doctor_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/doctor"
	"github.com/xpu-sztp/ztp/pkg/link"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/slot"
	"github.com/xpu-sztp/ztp/pkg/source"
	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/tpm"
)

var (
	now     = time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	clock   = artifacts.Clock{Now: now, Confidence: artifacts.ClockRTC}
	none    = artifacts.Clock{Now: now, Confidence: artifacts.ClockNone}
	refused = &reason.Error{Code: "some-code", Msg: "it was refused", Fix: "allow it"}
)

// said is what a judgement says, a line a line, as "VERDICT CHECK [SUBJECT] [CODE]: FINDING -> FIX".
func said(judge func(doctor.Lines)) string {
	var all strings.Builder
	judge(func(r *doctor.Result) {
		words := strings.Fields(fmt.Sprint(r.Verdict, " ", r.Check, " ", r.Subject, " ", r.Code))
		all.WriteString(strings.Join(words, " ") + ": " + r.Finding)
		if r.Fix != "" {
			all.WriteString(" -> " + r.Fix)
		}
		all.WriteString("\n")
	})
	return all.String()
}

// judgements are situations, and what is said of them up to "…", which stands for any text.
type judgement struct {
	name  string
	judge func(doctor.Lines)
	want  []string
}

func check(t *testing.T, list []judgement) {
	t.Helper()
	for _, tt := range list {
		t.Run(tt.name, func(t *testing.T) {
			got := strings.Split(strings.TrimSuffix(said(tt.judge), "\n"), "\n")
			if len(got) == 1 && got[0] == "" {
				got = nil
			}
			if len(got) != len(tt.want) {
				t.Fatalf("-want +got:\n%s", cmp.Diff(tt.want, got))
			}
			for i, want := range tt.want {
				if !matches(want, got[i]) {
					t.Errorf("got  %s\nwant %s", got[i], want)
				}
				failed := strings.HasPrefix(got[i], "pass") == strings.Contains(got[i], " -> ")
				if failed {
					t.Errorf("whoever does not pass is told what to do, and nobody else: %s", got[i])
				}
			}
		})
	}
}

// matches reports whether text is like pattern, in which "…" is any text.
func matches(pattern, text string) bool {
	parts := strings.Split(pattern, "…")
	text, begins := strings.CutPrefix(text, parts[0])
	for _, part := range parts[1:] {
		_, after, found := strings.Cut(text, part)
		if begins = begins && found; part != "" {
			text = after
		}
	}
	return begins && (text == "" || parts[len(parts)-1] == "")
}

func TestDevice(t *testing.T) {
	unprovisioned := state.Status{Enabled: true, Phase: state.PhaseNotStarted}
	with := func(change func(*state.Status)) func(doctor.Lines) {
		s := unprovisioned
		change(&s)
		return func(l doctor.Lines) { l.Device(&s, nil) }
	}
	why := &state.Reason{Code: "no-link", Message: "no cable", Hint: "plug it in"}
	check(t, []judgement{
		{"root", func(l doctor.Lines) { l.Privileges(true) }, nil},
		{"user", func(l doctor.Lines) { l.Privileges(false) }, []string{"warn privileges not-root: not run as root…"}},
		{"no configuration", func(l doctor.Lines) { l.Configuration(nil, nil) }, []string{"pass configuration: there is no configuration file…"}},
		{"configuration", func(l doctor.Lines) { l.Configuration([]string{"/a", "/b"}, nil) }, []string{"pass configuration: valid: /a, /b"}},
		{"wrong configuration", func(l doctor.Lines) { l.Configuration([]string{"/a"}, refused) },
			[]string{"fail configuration some-code: it was refused -> allow it"}},
		{"fresh", with(func(*state.Status) {}), []string{"pass device: enabled, not provisioned yet"}},
		{"running", with(func(s *state.Status) { s.PID, s.Phase = 7, state.PhaseBackingOff }), []string{"pass device: the agent runs (process 7, backing off)…"}},
		{"provisioned", with(func(s *state.Status) { s.Phase, s.Outcome = state.PhaseDone, state.OutcomeProvisioned }), []string{"pass device: provisioned…"}},
		{"disabled", with(func(s *state.Status) { s.Enabled = false }), []string{"warn device device-disabled: provisioning is disabled on this device -> turn it on…"}},
		{"corrupt", with(func(s *state.Status) { s.Enabled, s.Reason = false, why }), []string{"warn device device-disabled: …no cable -> plug it in"}},
		{"failed", with(func(s *state.Status) { s.Phase, s.Outcome = state.PhaseDone, state.OutcomeFailed }),
			[]string{"warn device last-session-failed: …it is not known why -> `ztp status…"}},
		{"interrupted", with(func(s *state.Status) { s.Reason = why }), []string{"warn device no-link: …no cable -> plug it in"}},
		{"unknown", func(l doctor.Lines) { l.Device(nil, refused) }, []string{"fail device some-code: it was refused -> allow it"}},
	})
}

func TestInstallation(t *testing.T) {
	unit := func(f doctor.UnitFacts) func(doctor.Lines) { return func(l doctor.Lines) { l.Unit(&f) } }
	folder := func(durable bool, change func(*doctor.FolderFacts)) func(doctor.Lines) {
		f := doctor.FolderFacts{Path: "/var/lib/ztp", Existing: "/var/lib", Free: 3 << 30}
		change(&f)
		return func(l doctor.Lines) { l.Folder(doctor.StateFolder, &f, durable) }
	}
	scripts := func(missing ...string) func(doctor.Lines) { return func(l doctor.Lines) { l.Scripts(missing) } }
	check(t, []judgement{
		{"unit", unit(doctor.UnitFacts{Systemd: true, File: "/u", Enabled: true, Needed: true}), []string{"pass unit: /u is started at boot"}},
		{"unit not enabled", unit(doctor.UnitFacts{File: "/u", Needed: true}), []string{"warn unit unit-disabled: …"}},
		{"unit not needed", unit(doctor.UnitFacts{File: "/u"}), []string{"pass unit: /u is not started at boot, and need not be"}},
		{"masked", unit(doctor.UnitFacts{File: "/u", Masked: true, Needed: true}), []string{"fail unit unit-masked: … -> systemctl unmask ztp.service"}},
		{"masked on purpose", unit(doctor.UnitFacts{File: "/u", Masked: true}), []string{"warn unit unit-masked: …"}},
		{"no unit", unit(doctor.UnitFacts{Systemd: true, Needed: true}), []string{"fail unit unit-missing: …"}},
		{"no systemd", unit(doctor.UnitFacts{Needed: true}), []string{"warn unit unit-missing: …"}},
		{"no socket", unit(doctor.UnitFacts{File: "/u", Enabled: true, Needed: true, Lacks: "x.socket"}),
			[]string{"fail unit unit-incomplete: …x.socket…masked -> …unmask x.socket"}},
		{"wrongly at rest", unit(doctor.UnitFacts{File: "/u", Enabled: true, Needed: true, AtRest: "/at-rest"}),
			[]string{"fail unit unit-at-rest: …/at-rest says… -> `ztp enable`…"}},
		{"at rest", unit(doctor.UnitFacts{File: "/u", Enabled: true, AtRest: "/at-rest"}), []string{"pass unit: …"}},
		{"user", func(l doctor.Lines) { l.User("ztp", nil) }, []string{"pass user: …as ztp, who may…"}},
		{"user without a key", func(l doctor.Lines) { l.User("ztp", []string{"/key", "/tpm"}) }, []string{"fail user user-denied: …/key, /tpm… -> …"}},
		{"folder", folder(true, func(*doctor.FolderFacts) {}), []string{"pass state-folder: /var/lib/ztp can be written to, 3072 MiB free"}},
		{"read-only", folder(false, func(f *doctor.FolderFacts) { f.Err = errors.New("read-only file system") }),
			[]string{"fail state-folder folder-not-writable: /var/lib/ztp cannot be written to: read-only file system -> …"}},
		{"in memory", folder(true, func(f *doctor.FolderFacts) { f.FileSystem = doctor.InMemory }), []string{"fail state-folder folder-not-durable: …"}},
		{"may be in memory", folder(false, func(f *doctor.FolderFacts) { f.FileSystem = doctor.InMemory }), []string{"pass state-folder: …"}},
		{"overlay", folder(true, func(f *doctor.FolderFacts) { f.FileSystem = doctor.Overlay }), []string{"warn state-folder folder-on-overlay: …"}},
		{"full", folder(true, func(f *doctor.FolderFacts) { f.Free = 5 << 20 }), []string{"warn state-folder folder-full: /var/lib/ztp has only 5120 KiB free -> …"}},
		{"scripts", scripts(), []string{"pass scripts: …"}},
		{"no reboot", scripts("systemctl"), []string{"warn scripts program-missing: …systemctl -> …"}},
	})
}

func certificate(change func(*x509.Certificate)) *x509.Certificate {
	c := &x509.Certificate{Subject: pkix.Name{CommonName: "device"}, Issuer: pkix.Name{CommonName: "maker"}, RawSubject: []byte("device"), RawIssuer: []byte("maker"),
		NotBefore: now.AddDate(-1, 0, 0), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)}
	change(c)
	return c
}

func TestIdentity(t *testing.T) {
	issuer := certificate(func(c *x509.Certificate) { c.Subject, c.RawSubject = c.Issuer, c.RawIssuer })
	leaf := certificate(func(*x509.Certificate) {})
	good := func() doctor.IdentityFacts {
		return doctor.IdentityFacts{Clock: clock, Took: time.Second, Signing: 100 * time.Millisecond, Found: &tpm.Examination{
			TPM: "/dev/tpmrm0", Kind: tpm.KindTPM, SerialNumber: "SN-1", Certificate: "NV index 0x01C90000", Certificates: []*x509.Certificate{leaf, issuer},
			Key: &tpm.KeyFacts{Where: "TPM handle 0x81020000", Algorithm: "ECDSA P-256", Template: tpm.P256, Sign: true, TLS: "TLS 1.3"},
		}}
	}
	with := func(change func(*doctor.IdentityFacts)) func(doctor.Lines) {
		f := good()
		change(&f)
		return func(l doctor.Lines) { l.Identity(&f) }
	}
	tpmError := func(code tpm.Code) error { return &tpm.Error{Code: code, Msg: "it is so", Fix: "mend it"} }
	all := []string{"pass tpm: answers at /dev/tpmrm0, the identity was read in 1s",
		"pass identity-key: ECDSA P-256, template H-2, in TPM handle 0x81020000: signs for TLS 1.3, in 100ms",
		"pass identity-certificate: CN=device, for the key, in NV index 0x01C90000, valid without an end",
		"pass identity-chain: complete up to CN=maker", "pass serial-number: SN-1", "pass decrypt-key: there is none…"}
	but := func(i int, line ...string) []string {
		return append(append(append([]string{}, all[:i]...), line...), all[i+1:]...)
	}
	leafWith := func(change func(*x509.Certificate)) func(*doctor.IdentityFacts) {
		return func(f *doctor.IdentityFacts) { f.Found.Certificates = []*x509.Certificate{certificate(change), issuer} }
	}
	check(t, []judgement{
		{"good", with(func(*doctor.IdentityFacts) {}), all},
		{"decrypts", with(func(f *doctor.IdentityFacts) {
			f.Found.DecryptKey = &tpm.KeyFacts{Where: "a file", Algorithm: "RSA 2048"}
		}),
			but(5, "pass decrypt-key: RSA 2048 in a file")},
		{"in use", with(func(f *doctor.IdentityFacts) { f.InUse, f.Found = true, nil }), []string{"pass tpm: the agent has it…"}},
		{"no TPM", with(func(f *doctor.IdentityFacts) {
			f.Err, f.Found = tpmError(tpm.CodeUnreachable), &tpm.Examination{Kind: tpm.KindTPM}
		}),
			[]string{"fail tpm tpm-unreachable: it is so -> mend it"}},
		{"failure mode", with(func(f *doctor.IdentityFacts) { f.Err, f.Found.Key = tpmError(tpm.CodeFailure), nil }), []string{"fail tpm tpm-failure: it is so -> mend it"}},
		{"silent", with(func(f *doctor.IdentityFacts) { f.Err, f.Found.Key = tpmError(tpm.CodeTimeout), nil }), []string{"fail tpm tpm-timeout: it is so -> mend it"}},
		{"locked", with(func(f *doctor.IdentityFacts) { f.Found.Locked = true }), []string{"fail tpm tpm-lockout: …"}},
		{"slow", with(func(f *doctor.IdentityFacts) { f.Took = time.Minute }), but(0, "warn tpm tpm-slow: …took 1m0s until…")},
		{"file", with(func(f *doctor.IdentityFacts) { f.Found.Kind, f.Notes = tpm.KindFile, []string{"the key is a file"} }), but(0, "warn tpm no-tpm: …")},
		{"no key", with(func(f *doctor.IdentityFacts) { f.Err, f.Found.Key = tpmError(tpm.CodeKeyMissing), nil }),
			[]string{all[0], "fail identity-key identity-key-missing: it is so -> mend it"}},
		{"useless key", with(func(f *doctor.IdentityFacts) { f.Err, f.Found.Key.Sign = tpmError(tpm.CodeKeyUnusable), false }),
			[]string{all[0], "fail identity-key identity-key-unusable: it is so -> mend it"}},
		{"wrong signature", with(func(f *doctor.IdentityFacts) { f.Unproven = tpmError(tpm.CodeMismatch) }), but(1, "fail identity-key identity-mismatch: it is so -> mend it")},
		{"old TLS", with(func(f *doctor.IdentityFacts) { f.Found.Key.TLS = tls.VersionName(tls.VersionTLS12) }), but(1, "warn identity-key tls-1.2-only: …only for TLS 1.2…")},
		{"slow signature", with(func(f *doctor.IdentityFacts) { f.Signing = 8 * time.Second }), but(1, "warn identity-key tpm-slow: …it takes 8s to sign…")},
		{"other certificate", with(func(f *doctor.IdentityFacts) { f.Err, f.Found.Certificates = tpmError(tpm.CodeMismatch), nil }),
			[]string{all[0], "fail identity-certificate identity-mismatch: it is so -> mend it"}},
		{"expired", with(leafWith(func(c *x509.Certificate) { c.NotAfter = now.AddDate(0, 0, -1) })),
			but(2, "warn identity-certificate identity-expired: the certificate of CN=device has expired on 2027-02-28; … -> …")},
		{"expired, no clock", with(func(f *doctor.IdentityFacts) {
			leafWith(func(c *x509.Certificate) { c.NotAfter = now.AddDate(0, 0, -1) })(f)
			f.Clock = none
		}), but(2, "pass identity-certificate: …valid until 2027-02-28")},
		{"not yet", with(leafWith(func(c *x509.Certificate) { c.NotBefore = now.AddDate(0, 0, 1) })),
			but(2, "warn identity-certificate identity-expired: …not valid before 2027-03-02 -> set the clock")},
		{"authority", with(leafWith(func(c *x509.Certificate) { c.IsCA = true })), but(2, "warn identity-certificate identity-doubtful: …certification authority…")},
		{"key usage", with(leafWith(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment })), but(2, "warn identity-certificate identity-doubtful: …")},
		{"server only", with(leafWith(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })),
			but(2, "warn identity-certificate identity-doubtful: …extended key usage…")},
		{"damaged chain", with(func(f *doctor.IdentityFacts) { f.Notes = []string{"the chain is damaged"} }),
			but(2, "warn identity-certificate identity-doubtful: the chain is damaged -> …")},
		{"no chain", with(func(f *doctor.IdentityFacts) { f.Found.Certificates = f.Found.Certificates[:1] }),
			but(3, "warn identity-chain identity-chain-missing: …CN=maker themselves -> …")},
		{"self-signed", with(func(f *doctor.IdentityFacts) {
			f.Found.Certificates = []*x509.Certificate{certificate(func(c *x509.Certificate) { c.RawIssuer = c.RawSubject })}
		}),
			but(3, "warn identity-chain identity-chain-missing: the device has signed…")},
		{"no root", with(func(f *doctor.IdentityFacts) { f.Found.Certificates = []*x509.Certificate{leaf, leaf} }), but(3, "pass identity-chain: 2 certificates; servers have to know CN=maker above them")},
		{"no serial number", with(func(f *doctor.IdentityFacts) { f.Err, f.Found.SerialNumber = tpmError(tpm.CodeNoSerial), "" }),
			[]string{all[0], "pass identity-key: ECDSA P-256, template H-2, in TPM handle 0x81020000", all[2], all[3], "fail serial-number identity-no-serial: it is so -> mend it"}},
		{"other serial number", with(func(f *doctor.IdentityFacts) { f.Err = tpmError(tpm.CodeSerialMismatch) }),
			[]string{all[0], "pass identity-key: …0x81020000", all[2], all[3], "fail serial-number identity-serial-mismatch: it is so -> mend it"}},
		{"no decrypt key", with(func(f *doctor.IdentityFacts) { f.Err = tpmError(tpm.CodeKeyMissing) }),
			[]string{all[0], "pass identity-key: …0x81020000", all[2], all[3], all[4], "fail decrypt-key identity-key-missing: it is so -> mend it"}},
	})
}

func TestTrust(t *testing.T) {
	anchor := func(until time.Time) config.Anchor {
		return config.Anchor{File: "/trust/a.pem", Certificate: certificate(func(c *x509.Certificate) { c.NotAfter = until })}
	}
	good, old := anchor(now.AddDate(1, 0, 0)), anchor(now.AddDate(0, 0, -1))
	at := func(policy string, c artifacts.Confidence, plausible bool) func(doctor.Lines) {
		return func(l doctor.Lines) {
			l.Clock(&doctor.ClockFacts{Policy: policy, Clock: artifacts.Clock{Now: now, Confidence: c}, Plausible: plausible})
		}
	}
	vouchers := func(c artifacts.Clock, others bool, list ...config.Anchor) func(doctor.Lines) {
		return func(l doctor.Lines) { l.VoucherAnchors(list, c, []string{"/usr/a", "/etc/b"}, others) }
	}
	servers := func(needed bool, list ...config.Anchor) func(doctor.Lines) {
		return func(l doctor.Lines) { l.ServerAnchors(list, clock, needed) }
	}
	check(t, []judgement{
		{"clock", at("auto", artifacts.ClockRTC, true), []string{"pass clock: 2027-03-01 12:00:00 UTC, believed (rtc)"}},
		{"clock of 1970", at("auto", artifacts.ClockNone, false), []string{"warn clock clock-not-believed: …cannot be… -> set the clock…"}},
		{"clock of 1970, believed", at("rtc", artifacts.ClockRTC, false), []string{"fail clock clock-implausible: …"}},
		{"no clock", at("none", artifacts.ClockNone, true), []string{"warn clock clock-not-believed: … -> set trust.clock…"}},
		{"vouchers", vouchers(clock, false, good, good), []string{"pass voucher-anchors: 2 of 2 certificates can be used"}},
		{"none", vouchers(clock, false), []string{"fail voucher-anchors no-voucher-anchor: … -> …into /usr/a or /etc/b"}},
		{"none, but well-known servers", vouchers(clock, true), []string{"warn voucher-anchors no-voucher-anchor: …"}},
		{"one expired", vouchers(clock, false, old, good), []string{"pass voucher-anchors: 1 of 2 certificates can be used",
			"warn voucher-anchors CN=device trust-anchor-expired: it has expired on 2027-02-28: … -> …/trust/a.pem"}},
		{"all expired", vouchers(clock, false, old), []string{"fail voucher-anchors CN=device trust-anchor-expired: …"}},
		{"all expired, no clock", vouchers(none, false, old), []string{"pass voucher-anchors: 1 of 1 certificates can be used"}},
		{"no server anchors", servers(false), []string{"pass server-anchors: there is none…"}},
		{"unused server anchors", servers(false, old), []string{"pass server-anchors: there are some (1), but no well-known server…"}},
		{"server anchors", servers(true, good), []string{"pass server-anchors: 1 of 1…"}},
		{"expired server anchors", servers(true, old), []string{"fail server-anchors CN=device trust-anchor-expired: …"}},
		{"expired image anchors", func(l doctor.Lines) { l.ImageAnchors([]config.Anchor{old}, clock) }, []string{"fail image-anchors CN=device trust-anchor-expired: …"}},
	})
}

func TestExecution(t *testing.T) {
	images := func(change func(*doctor.ImageFacts)) func(doctor.Lines) {
		f := doctor.ImageFacts{Installer: "efi", Slots: slot.Description{Running: "a", Good: "a", Target: "b"}, Outlook: slot.Outlook{Room: 2 << 30, Running: 2 << 30}}
		change(&f)
		return func(l doctor.Lines) { l.Images(&f) }
	}
	handler := func(f doctor.HandlerFacts) func(doctor.Lines) { return func(l doctor.Lines) { l.Handler(&f) } }
	check(t, []judgement{
		{"slots", images(func(*doctor.ImageFacts) {}), []string{"pass images: slot a runs and is good, the next image goes to slot b, which takes 2048 MiB"}},
		{"tool", images(func(f *doctor.ImageFacts) { f.Outlook = slot.Outlook{} }), []string{"pass images: …which takes what fits"}},
		{"none", images(func(f *doctor.ImageFacts) { f.Installer = "none" }), []string{"warn images no-installer: …"}},
		{"in use", images(func(f *doctor.ImageFacts) { f.InUse = true }), []string{"pass images: the agent has the slots: a runs, a is good"}},
		{"in use, unknown", images(func(f *doctor.ImageFacts) { f.InUse, f.Slots = true, slot.Description{} }), []string{"pass images: the agent has the slots, and they…"}},
		{"no tool", images(func(f *doctor.ImageFacts) { f.Missing = []string{"rauc"} }), []string{"fail images program-missing: not found: rauc -> …"}},
		{"on trial", images(func(f *doctor.ImageFacts) { f.Slots.Running, f.Err = "b", refused }), []string{"warn images slot-on-trial: slot b is on trial… -> …returns to slot a"}},
		{"mounted", images(func(f *doctor.ImageFacts) { f.Err = refused }), []string{"fail images some-code: it was refused -> allow it"}},
		{"small", images(func(f *doctor.ImageFacts) { f.Outlook.Room = 1 << 20 }), []string{"warn images slot-smaller: slot b, for the next image, takes 1024 KiB, while slot a has 2048 MiB… -> …"}},
		{"cache", func(l doctor.Lines) { l.ImageCache(&doctor.FolderFacts{Path: "/c", Free: 600 << 20}, 16<<30) }, []string{"pass image-cache: …"}},
		{"full cache", func(l doctor.Lines) { l.ImageCache(&doctor.FolderFacts{Path: "/c", Free: 100 << 20}, 16<<30) }, []string{"warn image-cache folder-full: /c has only 100 MiB free… -> …"}},
		{"small images", func(l doctor.Lines) { l.ImageCache(&doctor.FolderFacts{Path: "/c", Free: 100 << 20}, 64<<20) }, []string{"pass image-cache: …"}},
		{"read-only cache", func(l doctor.Lines) { l.ImageCache(&doctor.FolderFacts{Path: "/c", Err: refused}, 1) }, []string{"fail image-cache folder-not-writable: …"}},
		{"no handler", handler(doctor.HandlerFacts{Handler: "none"}), []string{"warn configuration-handler no-handler: …"}},
		{"program", handler(doctor.HandlerFacts{Handler: "exec", Program: "/bin/c"}), []string{"pass configuration-handler: exec runs /bin/c"}},
		{"no program", handler(doctor.HandlerFacts{Handler: "exec", Program: "/bin/c", Missing: refused}), []string{"fail configuration-handler program-missing: … -> …"}},
		{"file", handler(doctor.HandlerFacts{Handler: "file", Folder: &doctor.FolderFacts{Path: "/etc", Free: 1 << 30}}), []string{"pass configuration-handler: /etc can be written to…"}},
		{"read-only file", handler(doctor.HandlerFacts{Handler: "file", Folder: &doctor.FolderFacts{Path: "/etc", Err: refused}}),
			[]string{"fail configuration-handler folder-not-writable: …"}},
	})
}

func TestLinks(t *testing.T) {
	up := link.Link{Name: "eth0", Kind: "ethernet", Up: true, Carrier: true}
	with := func(l link.Link, change func(*link.Link)) link.Link { change(&l); return l }
	links := func(list ...link.Link) func(doctor.Lines) { return func(l doctor.Lines) { l.Links(list, nil) } }
	skipped := with(up, func(l *link.Link) { l.Name, l.Skip = "eth9", "excluded by configuration" })
	dark := with(up, func(l *link.Link) { l.Name, l.Carrier = "eth1", false })
	check(t, []judgement{
		{"one", links(up, with(up, func(l *link.Link) { l.Name, l.Skip = "lo", "loopback" })), []string{"pass links eth0: ethernet, has a carrier, and nobody else configures it"}},
		{"managed", links(with(up, func(l *link.Link) { l.Managed = "NetworkManager" })), []string{"pass links eth0: ethernet, has a carrier, managed by NetworkManager: …"}},
		{"by hand", links(with(up, func(l *link.Link) { l.Managed = link.ByHand })), []string{"pass links eth0: …somebody gave it…"}},
		{"others", links(up, dark, skipped), []string{"pass links eth0: …", "pass links: no carrier: eth1; left alone: eth9 (excluded by configuration)"}},
		{"dark", links(dark), []string{"fail links no-link: …no carrier: eth1 -> plug a cable in…"}},
		{"down", links(with(dark, func(l *link.Link) { l.Up = false })), []string{"fail links no-link: …down: eth1 -> bring one up (`ip link set eth1 up`)…"}},
		{"left alone", links(skipped), []string{"fail links no-link: …left alone: eth9…"}},
		{"none", links(), []string{"fail links no-link: no interface that the agent may use has a carrier -> …"}},
		{"unknown", func(l doctor.Lines) { l.Links(nil, refused) }, []string{"fail links some-code: it was refused -> allow it"}},
	})
}

func TestDiscovery(t *testing.T) {
	on := func(change func(*state.Interface)) state.Interface {
		e := state.Interface{Name: "eth0", Family: "ipv4", State: "unbound"}
		change(&e)
		return e
	}
	offered := on(func(e *state.Interface) { e.Server, e.Options = "192.0.2.1", []string{"https://b.example"} })
	silent := on(func(e *state.Interface) {
		e.Family, e.Detail, e.Reason = "ipv6", "no DHCPv6 server answered in time", "no-dhcp-answer"
	})
	lead := doctor.Lead{Source: "dhcp4", Interface: "eth0", Servers: []string{"https://b.example"}}
	facts := func(f doctor.DiscoveryFacts) func(doctor.Lines) { return func(l doctor.Lines) { l.Discovery(&f) } }
	one := func(e state.Interface) func(doctor.Lines) {
		return facts(doctor.DiscoveryFacts{Interfaces: []state.Interface{e}, Err: refused})
	}
	const nothing = "fail discovery some-code: it was refused, nothing names a bootstrap server -> allow it"
	check(t, []judgement{
		{"found", facts(doctor.DiscoveryFacts{Interfaces: []state.Interface{offered, silent}, Leads: []doctor.Lead{lead}}), []string{
			"pass dhcp eth0 ipv4: the DHCP server 192.0.2.1 sent option 143: https://b.example",
			"pass dhcp eth0 ipv6: no DHCPv6 server answered in time; others name servers", "pass discovery: found https://b.example by dhcp4 on eth0"}},
		{"deviating", facts(doctor.DiscoveryFacts{Leads: []doctor.Lead{lead}, Interfaces: []state.Interface{on(func(e *state.Interface) {
			e.Options, e.Warnings = []string{"https://b.example"}, []string{"a path was dropped"}
		})}}), []string{"pass dhcp eth0 ipv4: the DHCP server sent…", "warn dhcp eth0 ipv4 option-deviates: option 143: a path was dropped -> …", "pass discovery: …"}},
		{"silence", one(silent), []string{"warn dhcp eth0 ipv6 no-dhcp-answer: no DHCPv6 server answered in time -> …", nothing}},
		{"nothing said", one(on(func(*state.Interface) {})), []string{"warn dhcp eth0 ipv4 no-dhcp-answer: no DHCP server answered -> …", nothing}},
		{"no option", one(on(func(e *state.Interface) { e.Server = "192.0.2.1" })), []string{"warn dhcp eth0 ipv4 no-bootstrap-server-option: …without option 143 -> …", nothing}},
		{"malformed", one(on(func(e *state.Interface) { e.Family, e.Server, e.OptionError = "ipv6", "fe80::1", "too short" })),
			[]string{"fail dhcp eth0 ipv6 bad-bootstrap-server-option: the DHCP server fe80::1 sent option 136, and it cannot be used: too short -> …", nothing}},
		{"static", one(on(func(e *state.Interface) { e.Method = "static" })), []string{"pass dhcp eth0 ipv4: not asked…", nothing}},
		{"acquiring", one(on(func(e *state.Interface) { e.State = "acquiring" })), []string{"pass dhcp eth0 ipv4: the agent is asking", nothing}},
		{"without a family", one(on(func(e *state.Interface) { e.Family = "" })), []string{nothing}},
		{"records", facts(doctor.DiscoveryFacts{Leads: []doctor.Lead{{Source: "mdns", Interface: "eth0", Data: true}}}),
			[]string{"pass dns: data for this device by mdns on eth0", "pass discovery: found data for this device by mdns on eth0"}},
		{"no record", facts(doctor.DiscoveryFacts{DNS: &state.Source{Result: "no-dns-record", Detail: "none"}, Err: refused}),
			[]string{"warn dns no-dns-record: none -> …", nothing}},
		{"no record needed", facts(doctor.DiscoveryFacts{DNS: &state.Source{Result: "no-dns-record", Detail: "none"}, Leads: []doctor.Lead{lead}}),
			[]string{"pass dns: none; others name servers", "pass discovery: …"}},
		{"bad record", facts(doctor.DiscoveryFacts{DNS: &state.Source{Result: string(source.BadRecord), Detail: "no key ci"}, Leads: []doctor.Lead{lead}}),
			[]string{"fail dns bad-dns-record: no key ci -> …", "pass discovery: …"}},
		{"without a hint", facts(doctor.DiscoveryFacts{Err: errors.New("it is so")}), []string{"fail discovery internal: it is so, nothing names… -> look at…"}},
		{"nothing", facts(doctor.DiscoveryFacts{}), []string{"fail discovery no-server: … -> configure…"}},
		{"a stick perhaps", facts(doctor.DiscoveryFacts{Looked: []string{"removable-storage", "dhcp"}, Err: refused}), []string{"fail discovery some-code: …; removable storage… -> allow it"}},
		{"sticks only", facts(doctor.DiscoveryFacts{Looked: []string{"removable-storage"}}), []string{"pass discovery: …"}},
		{"command line", facts(doctor.DiscoveryFacts{Named: true, Err: refused}), []string{"pass discovery: nothing names…"}},
		{"not asked", func(l doctor.Lines) { l.Unasked(refused) }, []string{"warn discovery not-checked: …it was refused -> …"}},
	})
}

func TestServer(t *testing.T) {
	presented := certificate(func(*x509.Certificate) {})
	good := doctor.Attempt{Address: "192.0.2.1:443", Version: tls.VersionTLS13, Presented: presented, Authentic: refused}
	trusted := doctor.Attempt{Address: "192.0.2.1:443", Version: tls.VersionTLS13, Presented: presented}
	down := doctor.Attempt{Address: "192.0.2.2:443", Err: &reason.Error{Code: "connect-failed", Msg: "no connection to 192.0.2.2:443", Fix: "start it"}}
	server := func(f doctor.ServerFacts, attempts ...doctor.Attempt) func(doctor.Lines) {
		f.URL, f.Attempts = "https://b.example", attempts
		return func(l doctor.Lines) { l.Server(&f) }
	}
	const at = " https://b.example"
	check(t, []judgement{
		{"provisional", server(doctor.ServerFacts{Source: "dhcp4"}, good),
			[]string{"pass server" + at + ": 192.0.2.1:443 speaks TLS 1.3, certificate of CN=device by CN=maker: provisional, named by dhcp4; only what the owner signed is believed"}},
		{"down", server(doctor.ServerFacts{Source: "dhcp4"}, down), []string{"fail server" + at + " connect-failed: no connection to 192.0.2.2:443 -> start it"}},
		{"one address down", server(doctor.ServerFacts{Source: "dhcp4"}, down, good), []string{"pass server" + at + ": …", "warn server" + at + " connect-failed: not at every address: … -> start it"}},
		{"no time", server(doctor.ServerFacts{Source: "dhcp4"}, doctor.Attempt{Err: context.DeadlineExceeded}), []string{"fail server" + at + " timed-out: … -> …--timeout"}},
		{"unknown name", server(doctor.ServerFacts{Lookup: refused}), []string{"fail server" + at + " some-code: it was refused -> allow it"}},
		{"well-known", server(doctor.ServerFacts{Source: "well-known", Trusted: true, Anchors: 1}, trusted), []string{"pass server" + at + ": …: authenticated by the trust anchors"}},
		{"well-known, wrong certificate", server(doctor.ServerFacts{Source: "well-known", Trusted: true, Anchors: 1}, good), []string{"fail server" + at + " some-code: …: it was refused -> allow it"}},
		{"named, fits", server(doctor.ServerFacts{Source: "url", Anchors: 1}, trusted), []string{"pass server" + at + ": …fits the trust anchors…"}},
		{"named, does not fit", server(doctor.ServerFacts{Source: "url", Anchors: 1}, good), []string{"warn server" + at + " some-code: …it was refused -> allow it"}},
		{"named, no anchors", server(doctor.ServerFacts{Source: "url"}, good), []string{"pass server" + at + ": …provisional…"}},
		{"no identity", server(doctor.ServerFacts{Source: "url"}, doctor.Attempt{Address: "192.0.2.1:443"}), []string{"warn server" + at + " not-checked: … -> …"}},
	})
}

// What the network says cannot make lines, nor move the cursor, nor fill the screen.
func TestText(t *testing.T) {
	hostile := "x\nfail  tpm  forged\x1b[2J\u202e\r" + strings.Repeat("é", 5000)
	r := doctor.Result{Check: "dhcp", Subject: hostile, Verdict: doctor.Warn, Code: "some-code", Finding: hostile, Fix: hostile}
	text := r.Text()
	if strings.Count(text, "\n") != 2 || strings.ContainsAny(text, "\x1b\r\u202e") || len(text) > 7000 || !strings.Contains(text, "\n      to do: x; fail") {
		t.Errorf("%.300q, %d bytes", text, len(text))
	}
	short := doctor.Result{Check: "tpm", Verdict: doctor.Pass, Finding: "it answers"}
	if got, want := short.Text(), "pass  tpm                     it answers\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWorst(t *testing.T) {
	for want, verdicts := range map[doctor.Verdict][]doctor.Verdict{
		doctor.Pass: {doctor.Pass, doctor.Pass}, doctor.Warn: {doctor.Pass, doctor.Warn, doctor.Pass}, doctor.Fail: {doctor.Warn, doctor.Fail, doctor.Warn, doctor.Pass},
	} {
		var report doctor.Report
		for _, v := range verdicts {
			report.Add(&doctor.Result{Verdict: v})
		}
		if report.Result != want || len(report.Checks) != len(verdicts) {
			t.Errorf("%v make %s", verdicts, report.Result)
		}
	}
}

// Lines come in the order of sections, as soon as they are known; who is late is left behind, and what others know is not lost.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		quick := func(name string, after time.Duration) doctor.Section {
			return doctor.Section{Check: name, Run: func(_ context.Context, l doctor.Lines) {
				time.Sleep(after)
				l(&doctor.Result{Check: doctor.Check(name), Verdict: doctor.Pass})
			}}
		}
		hung := make(chan struct{})
		stuck := doctor.Section{Check: "tpm", Run: func(context.Context, doctor.Lines) { <-hung }}
		defer close(hung)
		var got []string
		doctor.Run(ctx, []doctor.Section{quick("a", 2*time.Second), quick("b", time.Second), stuck, quick("c", 0)}, 3*time.Second, func(r *doctor.Result) {
			got = append(got, fmt.Sprintf("%s %s %v %s", r.Verdict, r.Check, time.Since(began), r.Code))
		})
		want := []string{"pass a 2s ", "pass b 2s ", "fail tpm 1m3s timed-out", "pass c 1m3s "}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

// Every code and every check that a line can have is declared, and every one that is declared is used.
func TestDeclared(t *testing.T) {
	set := token.NewFileSet()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	declared, used := map[string]bool{}, map[string]bool{}
	for _, name := range names {
		file, err := parser.ParseFile(set, name, nil, 0)
		if err != nil || strings.HasSuffix(name, "_test.go") {
			continue
		}
		for _, d := range file.Decls {
			general, ok := d.(*ast.GenDecl)
			if !ok || general.Tok != token.CONST || name != "codes.go" {
				continue
			}
			for _, s := range general.Specs {
				declared[s.(*ast.ValueSpec).Names[0].Name] = true
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok && name != "codes.go" {
				used[id.Name] = true
			}
			if lit, ok := n.(*ast.BasicLit); ok && strings.HasPrefix(lit.Value, `"fail `) && lit.Value != `"fail "` {
				t.Errorf("%v: a kind of line that is not made of constants", set.Position(lit.Pos()))
			}
			return true
		})
	}
	if len(declared) < 20 {
		t.Fatalf("only %d codes are declared", len(declared))
	}
	for name := range declared {
		if !used[name] {
			t.Errorf("%s is declared and not used", name)
		}
	}
}
