package artifacts

import (
	"crypto/x509"
	"slices"
)

// Onboarding is onboarding information (RFC 8572 §6.2) that the device may execute. Its fields are unexported so that
// only Validate, holding evidence of trust, can make one; Valid tells a real one from a zero value.
type Onboarding struct {
	trusted bool
	image   *BootImage
	pre     []byte
	config  *Configuration
	post    []byte
	owner   *x509.Certificate
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

// BootImage returns a copy of the demanded image, or nil.
func (o *Onboarding) BootImage() *BootImage {
	if o.image == nil {
		return nil
	}
	image := *o.image
	image.URIs, image.SHA256 = slices.Clone(image.URIs), slices.Clone(image.SHA256)
	return &image
}

// PreScript returns a copy of the pre-configuration script, or nil.
func (o *Onboarding) PreScript() []byte { return slices.Clone(o.pre) }

// Configuration returns a copy of the initial configuration, or nil.
func (o *Onboarding) Configuration() *Configuration {
	if o.config == nil {
		return nil
	}
	return &Configuration{Handling: o.config.Handling, Data: slices.Clone(o.config.Data)}
}

// Owner returns the owner certificate that signed the information, verified to be what the voucher says (RFC 8572 §5.4). It
// is nil when nobody signed it, and it is trusted for the server that it came from.
func (o *Onboarding) Owner() *x509.Certificate {
	if o.owner == nil {
		return nil
	}
	owner := *o.owner
	return &owner
}

// PostScript returns a copy of the post-configuration script, or nil.
func (o *Onboarding) PostScript() []byte { return slices.Clone(o.post) }
