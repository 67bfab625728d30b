package artifacts

// Onboarding is onboarding information (RFC 8572 §6.2) that the device may execute. Its fields are unexported so that
// only Validate, holding evidence of trust, can make one; Valid tells a real one from a zero value.
type Onboarding struct {
	trusted bool
	image   *BootImage
	pre     []byte
	config  *Configuration
	post    []byte
}

// BootImage names the image the device must run (RFC 8572 §6.3).
type BootImage struct {
	OSName, OSVersion string   // either may be empty
	URIs              []string // mirrors of the same bytes, in order; empty when only a version is demanded
	SHA256            []byte   // 32 bytes, or nil when no usable fingerprint was given
}

// Handling is configuration-handling of RFC 8572 §6.3.
type Handling string

// How a configuration meets the one that is there.
const (
	Merge   Handling = "merge"
	Replace Handling = "replace"
)

// Configuration is the initial configuration, in a format that only the device's configuration handler knows.
type Configuration struct {
	Handling Handling
	Data     []byte
}

// Valid reports whether o came out of Validate.
func (o *Onboarding) Valid() bool { return o != nil && o.trusted }

// BootImage returns the demanded image, or nil.
func (o *Onboarding) BootImage() *BootImage { return o.image }

// PreScript returns the pre-configuration script, or nil.
func (o *Onboarding) PreScript() []byte { return o.pre }

// Configuration returns the initial configuration, or nil.
func (o *Onboarding) Configuration() *Configuration { return o.config }

// PostScript returns the post-configuration script, or nil.
func (o *Onboarding) PostScript() []byte { return o.post }
