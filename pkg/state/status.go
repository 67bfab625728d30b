package state

import "time"

// StatusSchema is the version of Status on disk and in `ztp status --json`. Fields are added without raising it; it is
// raised when one is removed or changes its meaning.
const StatusSchema = 1

// Phase is what the agent is doing right now.
type Phase string

// The phases, roughly in the order a device goes through them.
const (
	PhaseNotStarted     Phase = "not-started"
	PhaseStarting       Phase = "starting"         // configuration, identity, recovery of an interrupted session
	PhaseWaitingForLink Phase = "waiting-for-link" // no usable interface has a carrier
	PhaseDiscovering    Phase = "discovering"      // looking for a bootstrap server
	PhaseVisiting       Phase = "visiting"         // talking to one
	PhaseOnboarding     Phase = "onboarding"       // executing onboarding information
	PhaseRebooting      Phase = "rebooting"        // an image was installed; the reboot was asked for
	PhaseBackingOff     Phase = "backing-off"      // nothing worked; waiting for NextAttempt
	PhaseDone           Phase = "done"             // the daemon ended; see Outcome
)

// Outcome is how the last session ended.
type Outcome string

// The outcomes. The empty one means that no session has ended yet.
const (
	OutcomeNone        Outcome = ""
	OutcomeProvisioned Outcome = "provisioned"
	OutcomeFailed      Outcome = "failed"
)

// Status is everything `ztp status` can tell. The daemon alone writes it; nothing secret is ever in it. Times are UTC.
type Status struct {
	Schema      int         `json:"schema"`
	Version     string      `json:"version"`
	PID         int         `json:"pid,omitempty"`
	Updated     time.Time   `json:"updated"`
	Enabled     bool        `json:"enabled"`
	Phase       Phase       `json:"phase"`
	Outcome     Outcome     `json:"outcome,omitempty"`
	Reason      *Reason     `json:"reason,omitempty"` // why the last attempt failed, or why the device waits
	Started     time.Time   `json:"started,omitzero"`
	Ended       time.Time   `json:"ended,omitzero"`
	Attempts    int         `json:"attempts"` // rounds over all sources in this session
	NextAttempt time.Time   `json:"next_attempt,omitzero"`
	NextBecause string      `json:"next_because,omitempty"` // why NextAttempt is not the agent's own choice; empty when it is
	Reboots     int         `json:"reboots"`                // asked for by the agent since the session began
	Device      Device      `json:"device"`
	Identity    *Identity   `json:"identity,omitempty"`
	Interfaces  []Interface `json:"interfaces,omitempty"`
	Sources     []Source    `json:"sources,omitempty"`
	Servers     []Server    `json:"servers,omitempty"` // of the current round, in the order they were visited
	Downloads   []Download  `json:"downloads,omitempty"`
	Image       *Image      `json:"image,omitempty"`
	Slots       *Slots      `json:"slots,omitempty"`     // as the boot loader has them
	TrialEnds   time.Time   `json:"trial_ends,omitzero"` // when the device returns to the good slot, unless it is provisioned by then
	Images      []PastImage `json:"images,omitempty"`    // that were tried, the latest first
	Steps       []Step      `json:"steps,omitempty"`     // scripts and configuration
	Reports     []Report    `json:"reports,omitempty"`
	Warnings    []Warning   `json:"warnings,omitempty"`
	Watch       *Watch      `json:"watch,omitempty"` // of a provisioned device that looks for another network
}

// Watch is what a provisioned device sees of its network.
type Watch struct {
	Network string    `json:"network"`                // what it is known by; empty until it is
	Other   string    `json:"other,omitempty"`        // that of another one on which the device is
	Since   time.Time `json:"since,omitzero"`         // when that was seen first
	Begins  time.Time `json:"begins,omitzero"`        // when a session begins if it still is that one then
	Failure *Reason   `json:"last_failure,omitempty"` // of the last such session that came to nothing
}

// Reason is an explained error made plain.
type Reason struct {
	Code    string    `json:"code"`
	Message string    `json:"message"`
	Hint    string    `json:"hint,omitempty"`
	At      time.Time `json:"at"`
}

// Device is what the device says of itself to trusted servers.
type Device struct {
	HWModel      string `json:"hw_model,omitempty"`
	OSName       string `json:"os_name,omitempty"`
	OSVersion    string `json:"os_version,omitempty"`
	SerialNumber string `json:"serial_number,omitempty"`
}

// Identity describes the IDevID.
type Identity struct {
	Kind        string    `json:"kind"` // "tpm" or "file"
	Key         string    `json:"key"`
	Certificate string    `json:"certificate"` // where it was found
	Subject     string    `json:"subject"`
	Issuer      string    `json:"issuer"`
	NotAfter    time.Time `json:"not_after"`
	Algorithm   string    `json:"algorithm"` // such as "ECDSA P-256"
	// DecryptKey is the key that reads encrypted artifacts; "" when they cannot be read.
	DecryptKey string   `json:"decrypt_key,omitempty"`
	Warnings   []string `json:"warnings,omitempty"`
}

// Interface is one network interface, or one family on it, and what the agent did with it.
type Interface struct {
	Name    string `json:"name"`
	Index   int    `json:"index,omitempty"`   // stays when the interface is renamed
	Kind    string `json:"kind,omitempty"`    // "ethernet", or as `ip -d link` has it: "vlan", "bond", …
	MAC     string `json:"mac,omitempty"`     // hardware address
	MTU     int    `json:"mtu,omitempty"`     // octets
	State   string `json:"state"`             // "no-carrier", "acquiring", "bound", "unbound", "skipped"
	Detail  string `json:"detail,omitempty"`  // why it is skipped or unbound
	Reason  string `json:"reason,omitempty"`  // reason code of Detail, where it is a failure
	Managed string `json:"managed,omitempty"` // who configured it, when not the agent
	Family  string `json:"family,omitempty"`  // "ipv4" or "ipv6"
	// Method is how it got on the network: "lease", "inform" where DHCP told everything but addresses, "manager" where whoever
	// configured it told everything, "routers" where DHCP told nothing, "static".
	Method        string    `json:"method,omitempty"`
	Addresses     []string  `json:"addresses,omitempty"`
	Server        string    `json:"server,omitempty"` // the DHCP server that answered
	LeaseObtained time.Time `json:"lease_obtained,omitzero"`
	LeaseRenew    time.Time `json:"lease_renew,omitzero"`  // when the server will be asked for more time (T1)
	LeaseRebind   time.Time `json:"lease_rebind,omitzero"` // when any server will be (T2)
	LeaseEnds     time.Time `json:"lease_ends,omitzero"`
	Options       []string  `json:"options,omitempty"`      // bootstrap servers offered by option 143 or 136
	OptionError   string    `json:"option_error,omitempty"` // why that option, which was there, offers none
	Warnings      []string  `json:"warnings,omitempty"`     // deviations in what the server sent
	DNS           []string  `json:"dns,omitempty"`
	Domains       []string  `json:"domains,omitempty"`
	Router        *Router   `json:"router,omitempty"` // IPv6
	RoutesAdded   []string  `json:"routes_added,omitempty"`
	RoutesRemoved []string  `json:"routes_removed,omitempty"`
}

// Router is what IPv6 routers said on an interface (RFC 4861 §4.2).
type Router struct {
	Heard   bool `json:"heard"`
	Managed bool `json:"managed"` // addresses come by DHCPv6
	Other   bool `json:"other"`   // other configuration does
}

// Source is one attempt to find a lead.
type Source struct {
	Name   string    `json:"name"`
	Tried  time.Time `json:"tried"`
	Result string    `json:"result"` // "lead", or the reason code of the failure
	Detail string    `json:"detail,omitempty"`
}

// ShowSource adds an attempt, in the place of an earlier one of that name.
func (s *Status) ShowSource(e Source) {
	var list []Source // a new one: readers of the status as it was have the old one
	for _, old := range s.Sources {
		if old.Name != e.Name {
			list = append(list, old)
		}
	}
	s.Sources = append(list, e)
}

// Server is one visit to a bootstrap server, with the verdicts of both directions of trust, or to a place with data that no
// server sent.
type Server struct {
	URL         string    `json:"url"`               // or the place, such as "sda1: sztp/SN1"
	Address     string    `json:"address,omitempty"` // the IP address and port that answered
	Source      string    `json:"source"`            // "dhcp4", "redirect", …
	Interface   string    `json:"interface,omitempty"`
	Trust       string    `json:"trust"`                 // "authenticated" or "provisional"; empty until one or the other is known, and for places
	Certificate string    `json:"certificate,omitempty"` // the server's, subject and issuer
	Presented   string    `json:"presented,omitempty"`   // the identity the device presented
	Visited     time.Time `json:"visited"`
	Result      string    `json:"result"` // "redirect", "onboarding", or the reason code of the failure
	Detail      string    `json:"detail,omitempty"`
	Verdicts    []Verdict `json:"verdicts,omitempty"` // voucher, owner certificate, signature: each step

	StatusFetches []StatusFetch `json:"status_fetches,omitempty"` // when its voucher demanded revocation checks
}

// Verdict is one step of the validation of what a server sent.
type Verdict struct {
	Step   string `json:"step"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"`
}

// StatusFetch is one place that was asked for revocation status.
type StatusFetch struct {
	URL    string `json:"url"`
	OK     bool   `json:"ok"` // it answered; what the answer is worth, the verdicts tell
	Detail string `json:"detail"`
}

// Download is one transfer of an image.
type Download struct {
	URI      string    `json:"uri"`
	Server   string    `json:"server,omitempty"`
	Protocol string    `json:"protocol"`
	Bytes    int64     `json:"bytes"`
	Total    int64     `json:"total,omitempty"`    // 0 when the server did not say
	Rate     int64     `json:"rate,omitempty"`     // bytes per second, lately; over the whole transfer when it has ended
	ETA      time.Time `json:"eta,omitzero"`       // when the last byte is expected
	Requests int       `json:"requests,omitempty"` // that were sent to the server
	Resumed  int64     `json:"resumed,omitempty"`  // the byte at which the latest of them went on
	Started  time.Time `json:"started"`
	Ended    time.Time `json:"ended,omitzero"`
	Result   string    `json:"result,omitempty"` // "complete", or the reason code of the failure
	Detail   string    `json:"detail,omitempty"`
}

// Image is the demanded boot image and how far it got.
type Image struct {
	OSName    string `json:"os_name,omitempty"`
	OSVersion string `json:"os_version,omitempty"`
	SHA256    string `json:"sha256,omitempty"`
	Slot      string `json:"slot,omitempty"`
	// State is "satisfied" when it runs, "failed" when it could not be fetched, "verifying" while it is read back from the
	// storage, "installed" before the reboot into it; otherwise an ImageState.
	State    string  `json:"state"`
	Attempts int     `json:"attempts,omitempty"` // complete installs
	Allowed  int     `json:"allowed,omitempty"`  // of those, until it is refused
	Reason   *Reason `json:"reason,omitempty"`   // why it is refused, or what its last trial came to
	Signer   string  `json:"signer,omitempty"`   // who signed it; empty when no signature was asked for
}

// Slots is what the boot loader says of the places for images.
type Slots struct {
	Running string `json:"running"`
	Good    string `json:"good"`            // boots unless Next says otherwise; when it is not Running, that is on trial
	Next    string `json:"next,omitempty"`  // to be tried at the next boot
	Tries   int    `json:"tries,omitempty"` // how often Next, or Running on trial, may still be started; 0 where nobody knows
}

// Step is one script run or configuration commit.
type Step struct {
	Name    string    `json:"name"`           // "pre-script", "configuration", "post-script"
	Result  string    `json:"result"`         // "running", "complete", "warning", "undone", or the reason code of the failure
	Undo    string    `json:"undo,omitempty"` // "done", "failed", or "interrupted" for a step of an earlier session that was undone
	Exit    *int      `json:"exit,omitempty"`
	Detail  string    `json:"detail,omitempty"` // never the output of a script
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended,omitzero"`
}

// Report is one progress report that was sent, and whether the server took it.
type Report struct {
	Type     string    `json:"type"`
	At       time.Time `json:"at"`
	Accepted bool      `json:"accepted"`
	Detail   string    `json:"detail,omitempty"`
}

// Warning is something that did not stop the agent but that a person should know.
type Warning struct {
	Text string    `json:"text"`
	At   time.Time `json:"at"`
}

// Exit codes of `ztp status` and of a foreground `ztp run`.
const (
	ExitProvisioned = 0
	ExitFailed      = 1
	ExitInProgress  = 2
	ExitDisabled    = 3
	ExitNotStarted  = 4
)

// ExitCode maps a status to the exit code of `ztp status`. A provisioned device is provisioned whatever its flag says.
func (s *Status) ExitCode() int {
	switch {
	case s.Phase == PhaseDone && s.Outcome == OutcomeProvisioned:
		return ExitProvisioned
	case !s.Enabled:
		return ExitDisabled
	case s.Phase == PhaseDone && s.Outcome == OutcomeFailed:
		return ExitFailed
	case s.Phase == PhaseNotStarted || s.Phase == "":
		return ExitNotStarted
	}
	return ExitInProgress
}
