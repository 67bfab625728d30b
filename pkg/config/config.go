// Package config reads the agent's configuration: TOML files of the vendor, the administrator and drop-ins, layered in
// that order, checked strictly. An unknown key, a bad value or an unreadable trust anchor is an error that names file,
// line and key; a device never runs on half a configuration. Every path is relocated below one root folder, so that tests,
// demos and image builds touch nothing else.
package config

import (
	"time"

	"github.com/xpu-sztp/ztp/pkg/image/signature"
)

// Config is the merged configuration with every default filled in.
type Config struct {
	Device        Device        `toml:"device"`
	Identity      Identity      `toml:"identity"`
	Discovery     Discovery     `toml:"discovery"`
	Trust         Trust         `toml:"trust"`
	Image         Image         `toml:"image"`
	EFI           EFI           `toml:"efi"`
	GRUB          GRUB          `toml:"grub"`
	Command       Command       `toml:"command"`
	Configuration Configuration `toml:"configuration"`
	Scripts       Scripts       `toml:"scripts"`
	Report        Report        `toml:"report"`
	Reboot        Reboot        `toml:"reboot"`
	Retry         Retry         `toml:"retry"`
	Reprovision   Reprovision   `toml:"reprovision"`

	Paths   Paths             `toml:"-"` // where the agent's own files are; no file can change it
	Anchors Anchors           `toml:"-"` // the certificates behind Trust.BootstrapServers and Trust.Vouchers
	Signers signature.Signers `toml:"-"` // the keys and certificates behind Image.Signers
	Files   []string          `toml:"-"` // the files that were read, weakest first
}

// Device is what the device says of itself. Empty values come from DMI, os-release and the IDevID certificate.
type Device struct {
	HWModel       string `toml:"hw-model"`
	OSName        string `toml:"os-name"`
	OSVersion     string `toml:"os-version"`
	SerialNumber  string `toml:"serial-number"`
	SerialPattern string `toml:"serial-pattern"` // of subject serialNumber; see tpm.SerialPattern
}

// Identity says where the IDevID is; see tpm.Options.
type Identity struct {
	TPM         string `toml:"tpm"`         // "/dev/tpmrm0", "unix:PATH", or "none" for a key in a file
	Key         string `toml:"key"`         // "0x81020000" or a file
	Certificate string `toml:"certificate"` // "auto", an NV index or a file
	// DecryptKey is a second key, only for what was encrypted for this device: "" for none, else like Key.
	DecryptKey         string `toml:"decrypt-key"`
	DecryptCertificate string `toml:"decrypt-certificate"` // like Certificate
}

// Discovery says where to look for bootstrap servers.
type Discovery struct {
	Sources   []string `toml:"sources"`    // in order: "removable-storage", "dhcp", "dns", "well-known"
	Include   []string `toml:"include"`    // interface globs; a name in full admits also what is skipped for its kind
	Exclude   []string `toml:"exclude"`    // interface globs, stronger than include
	WellKnown []string `toml:"well-known"` // "https://host[:port]"
	Timeout   Duration `toml:"timeout"`    // for an address on one interface
	// VendorClass is DHCPv4 option 60, by which servers tell devices apart; "" sends none.
	VendorClass string `toml:"vendor-class"`
	// Static is the addresses of interfaces on networks without DHCP, by name or glob.
	Static map[string]Static `toml:"static"`
}

// Trust holds the trust anchors and the policy of validation.
type Trust struct {
	BootstrapServers []string `toml:"bootstrap-servers"` // folders or PEM files
	Vouchers         []string `toml:"vouchers"`          // folders or PEM files
	Assertions       []string `toml:"assertions"`        // acceptable voucher assertions
	Clock            string   `toml:"clock"`             // "auto", "none", "rtc", "authenticated"
	Lenient          bool     `toml:"lenient"`           // tolerate encoding mistakes of peers seen in the field
	// RequireNonce refuses vouchers that do not repeat the nonce of this very request.
	RequireNonce bool `toml:"require-nonce"`
	// RequireSigned executes nothing that the owner did not sign, not even from an authenticated server.
	RequireSigned bool `toml:"require-signed"`
	// LongLived accepts vouchers that neither repeat the nonce nor expire (RFC 8366 §5.3).
	LongLived bool `toml:"long-lived-vouchers"`
	// Revocation says where the revocation status that a voucher demands may come from: "fetch" (from where certificates say,
	// when it did not come along), or "carried" (in the artifacts only).
	Revocation string `toml:"revocation"`
	// UncheckedRevocation accepts, without an accurate clock, revocation lists of unknown age (RFC 8572 §9.1).
	UncheckedRevocation bool `toml:"unchecked-revocation"`
}

// Image says where images go.
type Image struct {
	Installer string          `toml:"installer"` // slot back end: "file", "efi", "grub", "command", or "none" when this device cannot install images
	Slots     string          `toml:"slots"`     // folder of the records of what slots hold, and of the "file" back end's images
	Slot      map[string]Slot `toml:"slot"`      // the two slots, by name
	Cache     string          `toml:"cache"`     // folder of partial downloads
	MaxSize   Size            `toml:"max-size"`  // bytes, or with a suffix such as "4GiB"; as downloaded and as written
	// Decompress is "auto" (by how an image begins), "none", "gzip", "xz" or "zstd".
	Decompress string   `toml:"decompress"`
	Spool      bool     `toml:"spool"`    // keep what is downloaded of a compressed image in Paths.Cache until it is written
	Discard    bool     `toml:"discard"`  // the blocks of a device before it is written
	Timeout    Duration `toml:"timeout"`  // for one download
	MinRate    Size     `toml:"min-rate"` // bytes per second, over Stall
	Stall      Duration `toml:"stall"`    // also the longest wait for the header of a reply
	// CrossOrigin follows redirects from https to https on another server.
	CrossOrigin bool `toml:"cross-origin"`
	// VerifyServers has https mirrors authenticated by Anchors; otherwise the digest alone decides (RFC 8572 §5.6).
	VerifyServers bool     `toml:"verify-servers"`
	Anchors       []string `toml:"anchors"`       // folders or PEM files
	Attempts      int      `toml:"attempts"`      // installs of the same image before it is refused
	TrialTimeout  Duration `toml:"trial-timeout"` // for which an image runs unless the device is provisioned by it; 0 is for ever

	Signature string   `toml:"signature"` // "none", or "required" beside the hash
	Signers   []string `toml:"signers"`   // who may sign: "owner", or files
	// SignatureNamespace is what OpenSSH signatures must be made for.
	SignatureNamespace string `toml:"signature-namespace"`
}

// Configuration says who commits the initial configuration.
type Configuration struct {
	Handler string `toml:"handler"` // "file", "exec", "cloud-init", or "none"
	Path    string `toml:"path"`    // file: the configuration file
	Seed    string `toml:"seed"`    // cloud-init: the folder that its data source NoCloud reads
	// Command is an argument vector. exec: gets "merge", "replace" or "undo" appended, the data on stdin; cloud-init: run after
	// the seed was changed or put back, may be empty.
	Command []string `toml:"command"`
	Timeout Duration `toml:"timeout"`
}

// Scripts bounds the scripts of onboarding information.
type Scripts struct {
	Timeout     Duration `toml:"timeout"`
	OutputLimit Size     `toml:"output-limit"`
	WarningExit int      `toml:"warning-exit"` // the exit code that means "warning"; 0 is success, all else an error
}

// Report says what bootstrap-complete carries.
type Report struct {
	SSHHostKeys []string `toml:"ssh-host-keys"` // globs of .pub files
}

// Reboot is how the device is rebooted after an image was installed.
type Reboot struct {
	Command []string `toml:"command"`
}

// Retry bounds the back-off between rounds over all sources.
type Retry struct {
	Initial Duration `toml:"initial"`
	Max     Duration `toml:"max"`
}

// Reprovision says whether a provisioned device may begin a session by itself.
type Reprovision struct {
	Policy         string   `toml:"policy"`           // "never", or "on-network-change"
	After          Duration `toml:"after"`            // how long the network must have been another one
	SessionsPerDay int      `toml:"sessions-per-day"` // at most
}

// Duration is a time.Duration written as "30s".
type Duration time.Duration

// Size is a number of bytes, written plainly or as "4GiB".
type Size int64
