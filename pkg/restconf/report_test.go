package restconf_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/restconf"
)

func TestReportProgress(t *testing.T) {
	keys := []progress.SSHHostKey{{Algorithm: "ssh-ed25519", KeyData: []byte("blob")}}
	certs := [][]byte{[]byte("cms")}
	tests := []struct {
		name   string
		report progress.Report
		want   string
	}{
		{"plain", progress.Report{Type: progress.BootstrapInitiated}, `{"progress-type":"bootstrap-initiated"}`},
		{"message", progress.Report{Type: progress.ParsingError, Message: "voucher serial-number differs"},
			`{"progress-type":"parsing-error","message":"voucher serial-number differs"}`},
		{"control characters", progress.Report{Type: progress.PreScriptWarning, Message: "a\x00\x1b[1mb\n\tc\u0085\ufffe\xff"},
			`{"progress-type":"pre-script-warning","message":"a[1mb\n\tc` + "\ufffd" + `"}`},
		{"complete", progress.Report{Type: progress.BootstrapComplete, Message: "done", SSHHostKeys: keys, TrustAnchorCerts: certs},
			`{"progress-type":"bootstrap-complete","message":"done","ssh-host-keys":{"ssh-host-key":[{"algorithm":"ssh-ed25519","key-data":"YmxvYg=="}]},` +
				`"trust-anchor-certs":{"trust-anchor-cert":["Y21z"]}}`},
		{"complete without keys", progress.Report{Type: progress.BootstrapComplete}, `{"progress-type":"bootstrap-complete"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t, good)
			if err := connect(t, l.authenticated()).ReportProgress(t.Context(), tt.report); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{`{"ietf-sztp-bootstrap-server:input":` + tt.want + `}`}, l.bodies(pathRP)); diff != "" {
				t.Error(diff)
			}
			if got := l.requests[1].Header.Get("Content-Type"); got != "application/yang-data+json" {
				t.Errorf("Content-Type %q", got)
			}
		})
	}
	// R7-10
	t.Run("keys and certificates with every other type", func(t *testing.T) {
		l := newLab(t, good)
		s := connect(t, l.authenticated())
		for _, kind := range progress.All {
			if err := s.ReportProgress(t.Context(), progress.Report{Type: kind, SSHHostKeys: keys, TrustAnchorCerts: certs}); err != nil {
				t.Fatal(err)
			}
		}
		for i, body := range l.bodies(pathRP) {
			if sent := strings.Contains(body, "ssh-host-keys") || strings.Contains(body, "trust-anchor-certs"); sent != (progress.All[i] == progress.BootstrapComplete) {
				t.Errorf("%s: %s", progress.All[i], body)
			}
		}
	})
	t.Run("no progress type", func(t *testing.T) {
		l := newLab(t, good)
		wantCode(t, connect(t, l.authenticated()).ReportProgress(t.Context(), progress.Report{Type: "bootstrap-finished"}), reason.Internal)
		if len(l.paths()) > 0 {
			t.Errorf("requests %v", l.paths())
		}
	})
}

// R7-13
func TestReportMessageIsCapped(t *testing.T) {
	l := newLab(t, good)
	long := strings.Repeat("ä", 100_000)
	if err := connect(t, l.authenticated()).ReportProgress(t.Context(), progress.Report{Type: progress.ConfigError, Message: long}); err != nil {
		t.Fatal(err)
	}
	var sent map[string]struct{ Message string }
	if err := json.Unmarshal([]byte(l.bodies(pathRP)[0]), &sent); err != nil {
		t.Fatal(err)
	}
	message := sent["ietf-sztp-bootstrap-server:input"].Message
	if len(message) > 16<<10 || len(message) < 16<<10-8 || !utf8.ValidString(message) || !strings.HasSuffix(message, "ä…") {
		t.Errorf("sent %d bytes ending in %q", len(message), message[max(0, len(message)-8):])
	}
}

// A provisional server gets no report (R5.6-04), not even a packet.
func TestNoReportToProvisionalServer(t *testing.T) {
	l := newLab(t, good)
	s := connect(t, l.options)
	for _, kind := range progress.All {
		wantCode(t, s.ReportProgress(t.Context(), progress.Report{Type: kind}), restconf.CodeNotAuthenticated)
	}
	if len(l.paths()) > 0 {
		t.Errorf("requests %v", l.paths())
	}
}

// Only 204 acknowledges a report (R5.6-05, R7-09).
func TestReportAcknowledgement(t *testing.T) {
	tests := []struct {
		status          int
		strict, lenient reason.Code
	}{
		{204, "", ""},
		{200, restconf.CodeReportRefused, ""},
		{201, restconf.CodeReportRefused, restconf.CodeReportRefused},
		{307, restconf.CodeReportRefused, restconf.CodeReportRefused},
		{401, restconf.CodeReportRefused, restconf.CodeReportRefused},
		{404, restconf.CodeReportRefused, restconf.CodeReportRefused},
		{500, restconf.CodeReportRefused, restconf.CodeReportRefused},
		{503, restconf.CodeReportRefused, restconf.CodeReportRefused},
	}
	for _, tt := range tests {
		t.Run(http.StatusText(tt.status), func(t *testing.T) {
			l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Retry-After", "7")
				w.WriteHeader(tt.status)
			})
			o := l.authenticated()
			for _, want := range []reason.Code{tt.strict, tt.lenient} {
				err := connect(t, o).ReportProgress(t.Context(), progress.Report{Type: progress.BootstrapInitiated})
				wantCode(t, err, want)
				wait := 7 * time.Second
				if tt.status < 400 {
					wait = 0 // nothing was refused for now that could be asked for later
				}
				if e, ok := err.(*restconf.Error); ok && (e.Status != tt.status || e.RetryAfter != wait) {
					t.Errorf("%#v", e)
				}
				o.Lenient = true
			}
		})
	}
}
