// Package progress is the vocabulary of progress reports: the 27 progress types of RFC 8572 §7.3, which of them end an
// attempt, and which of them each reporting level asks for. It sends nothing; pkg/restconf does.
package progress

// Type is one value of the progress-type enumeration of RFC 8572 §7.3.
type Type string

// The 27 progress types, in the order of the YANG module.
const (
	BootstrapInitiated          Type = "bootstrap-initiated"
	ParsingInitiated            Type = "parsing-initiated"
	ParsingWarning              Type = "parsing-warning"
	ParsingError                Type = "parsing-error"
	ParsingComplete             Type = "parsing-complete"
	BootImageInitiated          Type = "boot-image-initiated"
	BootImageWarning            Type = "boot-image-warning"
	BootImageError              Type = "boot-image-error"
	BootImageMismatch           Type = "boot-image-mismatch"
	BootImageInstalledRebooting Type = "boot-image-installed-rebooting"
	BootImageComplete           Type = "boot-image-complete"
	PreScriptInitiated          Type = "pre-script-initiated"
	PreScriptWarning            Type = "pre-script-warning"
	PreScriptError              Type = "pre-script-error"
	PreScriptComplete           Type = "pre-script-complete"
	ConfigInitiated             Type = "config-initiated"
	ConfigWarning               Type = "config-warning"
	ConfigError                 Type = "config-error"
	ConfigComplete              Type = "config-complete"
	PostScriptInitiated         Type = "post-script-initiated"
	PostScriptWarning           Type = "post-script-warning"
	PostScriptError             Type = "post-script-error"
	PostScriptComplete          Type = "post-script-complete"
	BootstrapWarning            Type = "bootstrap-warning"
	BootstrapError              Type = "bootstrap-error"
	BootstrapComplete           Type = "bootstrap-complete"
	Informational               Type = "informational"
)

// All lists every progress type once.
var All = []Type{
	BootstrapInitiated, ParsingInitiated, ParsingWarning, ParsingError, ParsingComplete,
	BootImageInitiated, BootImageWarning, BootImageError, BootImageMismatch, BootImageInstalledRebooting, BootImageComplete,
	PreScriptInitiated, PreScriptWarning, PreScriptError, PreScriptComplete,
	ConfigInitiated, ConfigWarning, ConfigError, ConfigComplete,
	PostScriptInitiated, PostScriptWarning, PostScriptError, PostScriptComplete,
	BootstrapWarning, BootstrapError, BootstrapComplete, Informational,
}

// Level is the reporting-level a bootstrap server asks for (RFC 8572 §7.3). The zero value is the default, minimal.
type Level int

// The two reporting levels.
const (
	Minimal Level = iota
	Verbose
)

// String returns the YANG enum value.
func (l Level) String() string {
	if l == Verbose {
		return "verbose"
	}
	return "minimal"
}

// Error reports whether t ends the attempt as failed.
func (t Type) Error() bool {
	switch t {
	case ParsingError, BootImageError, PreScriptError, ConfigError, PostScriptError, BootstrapError:
		return true
	}
	return false
}

// Terminal reports whether t is the last report of an attempt, as a success or as an error.
func (t Type) Terminal() bool {
	return t.Error() || t == BootImageInstalledRebooting || t == BootstrapComplete
}

// WantedAt reports whether a report of type t is sent at level l: everything at Verbose; at Minimal what RFC 8572 §5.6
// always demands, which is the opening report, the terminal one, and the warning that the bootstrapping flag is still on.
func (t Type) WantedAt(l Level) bool {
	return l == Verbose || t == BootstrapInitiated || t == BootstrapWarning || t.Terminal()
}

// Report is the input of the report-progress RPC (RFC 8572 §7.3).
type Report struct {
	Type    Type
	Message string // UTF-8, capped by the sender; may be empty
	// SSHHostKeys and TrustAnchorCerts are only ever sent with BootstrapComplete.
	SSHHostKeys      []SSHHostKey
	TrustAnchorCerts [][]byte // each a DER degenerate CMS SignedData
}

// SSHHostKey is one SSH host key of the device: the algorithm name, and the public key blob of RFC 4253 §6.6.
type SSHHostKey struct {
	Algorithm string
	KeyData   []byte
}
