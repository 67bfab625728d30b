package doctor

// Reason codes of this package; see reason.Code. Those of the parts that are checked appear as well.
const (
	NotRoot          = "not-root"               // some checks need privileges
	Disabled         = "device-disabled"        // provisioning is turned off
	Failed           = "last-session-failed"    // for a reason that has no code
	UnitMissing      = "unit-missing"           // nothing starts the agent
	UnitMasked       = "unit-masked"            // somebody has forbidden it
	UnitDisabled     = "unit-disabled"          // it is not started at boot
	UnitIncomplete   = "unit-incomplete"        // it needs another one, which is missing or masked
	UnitAtRest       = "unit-at-rest"           // its conditions say that there is nothing to do, which is not so
	UserDenied       = "user-denied"            // the user whom the agent runs as may not use what it needs
	FolderReadOnly   = "folder-not-writable"    // it cannot be written to
	FolderVolatile   = "folder-not-durable"     // it is lost at the next boot
	FolderOverlay    = "folder-on-overlay"      // it may be
	FolderFull       = "folder-full"            // there is hardly any room
	ProgramMissing   = "program-missing"        // one that the configuration names
	NoTPM            = "no-tpm"                 // the key is a plain file
	TPMSlow          = "tpm-slow"               // handshakes may take too long
	IdentityDoubtful = "identity-doubtful"      // something about it that servers may dislike
	IdentityExpired  = "identity-expired"       // or not valid yet
	OldTLS           = "tls-1.2-only"           // the key cannot sign for TLS 1.3
	ChainMissing     = "identity-chain-missing" // nothing above the device's certificate is there
	NotChecked       = "not-checked"            // what it takes is not known, or would disturb
	ClockImplausible = "clock-implausible"      // it is believed, and cannot be right
	ClockNotBelieved = "clock-not-believed"     // nothing expires
	NoVoucherAnchor  = "no-voucher-anchor"      // nothing that an owner signed can be believed
	AnchorExpired    = "trust-anchor-expired"   // one that would not be used
	NoInstaller      = "no-installer"           // images are refused
	SlotOnTrial      = "slot-on-trial"          // no image can be installed before a reboot
	SlotSmall        = "slot-smaller"           // than the one that runs
	NoHandler        = "no-handler"             // configurations are refused
	OptionDeviates   = "option-deviates"        // from RFC 8572, and is tolerated
)
