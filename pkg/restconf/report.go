package restconf

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

// maxMessage bounds the message of a report, in bytes; what is longer is cut at its end.
const maxMessage = 16 << 10

// reportInput is the input of report-progress (RFC 8572 §7.3).
type reportInput struct {
	Type        progress.Type     `json:"progress-type"`
	Message     string            `json:"message,omitempty"`
	SSHHostKeys *sshHostKeys      `json:"ssh-host-keys,omitempty"`
	TrustCerts  *trustAnchorCerts `json:"trust-anchor-certs,omitempty"`
}

type sshHostKeys struct {
	Keys []sshHostKey `json:"ssh-host-key"`
}

type sshHostKey struct {
	Algorithm string `json:"algorithm"`
	KeyData   []byte `json:"key-data"`
}

type trustAnchorCerts struct {
	Certs [][]byte `json:"trust-anchor-cert"`
}

// ReportProgress sends a progress report and returns nil only when the server acknowledged it with 204 (R5.6-05); in
// lenient mode 200 will do. On a provisional session it fails without touching the network (R5.6-04). SSH host keys and
// trust anchors are sent with bootstrap-complete and left out of all other reports. Errors are as those of
// GetBootstrappingData; Timeouts.Report bounds the whole call.
func (s *Session) ReportProgress(ctx context.Context, r progress.Report) error {
	if !s.Evidence().Valid() {
		return fail(CodeNotAuthenticated, "no report is sent to a server that was not authenticated", "", nil)
	}
	if !slices.Contains(progress.All, r.Type) {
		return fail(reason.Internal, fmt.Sprintf("%q is no progress type", r.Type), "", nil)
	}
	body, err := reportBody(r)
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeoutCause(ctx, s.options.Timeouts.Report, fail(CodeServerTimeout,
		fmt.Sprintf("the server did not take the report within %v", s.options.Timeouts.Report), "check that the server answers other clients", nil))
	defer cancel()
	rep, _, err := s.call(limited, "report-progress", body)
	switch {
	case err != nil:
		return err
	case rep.status == 204:
		return nil
	case rep.status == 200 && s.options.Lenient:
		s.log.WarnContext(ctx, "the server acknowledged a report with 200 instead of 204", "type", r.Type)
		return nil
	}
	return refusal(rep, CodeReportRefused, "its answer was not 204 No Content",
		"look at the bootstrap server's log")
}

func reportBody(r progress.Report) ([]byte, error) {
	in := reportInput{Type: r.Type, Message: cleanMessage(r.Message)}
	if r.Type != progress.BootstrapComplete {
		return rpcInput(in)
	}
	if len(r.SSHHostKeys) > 0 {
		in.SSHHostKeys = new(sshHostKeys)
		for _, k := range r.SSHHostKeys {
			in.SSHHostKeys.Keys = append(in.SSHHostKeys.Keys, sshHostKey(k))
		}
	}
	if len(r.TrustAnchorCerts) > 0 {
		in.TrustCerts = &trustAnchorCerts{r.TrustAnchorCerts}
	}
	return rpcInput(in)
}

// cleanMessage makes text fit for a YANG string (RFC 7950 §9.4): valid UTF-8 without control characters other than tab
// and line ends, and without noncharacters.
func cleanMessage(message string) string {
	message = strings.Map(func(r rune) rune {
		switch {
		case r < ' ' && r != '\t' && r != '\n' && r != '\r', r >= 0x7f && r < 0xa0, r >= 0xfdd0 && r <= 0xfdef, r&0xfffe == 0xfffe:
			return -1
		}
		return r
	}, strings.ToValidUTF8(message, "\ufffd"))
	if len(message) <= maxMessage {
		return message
	}
	end := maxMessage - len("…")
	for !utf8.RuneStart(message[end]) {
		end--
	}
	return message[:end] + "…"
}
