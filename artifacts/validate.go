package artifacts

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/artifacts/strictjson"
)

// validation is one run of Validate.
type validation struct {
	device   Device
	policy   Policy
	trail    Trail
	warnings []string
}

// space is what JSON and XML allow before a document.
const space = " \t\r\n"

// document is conveyed information out of its container.
type document struct {
	kind asn1.ObjectIdentifier
	data []byte
}

// validate decides about trust before it reads the document (RFC 8572 §5.3): nothing in it is looked at when a signature
// that is there does not hold, whoever sent it.
func (v *validation) validate(b Bundle, serverTrusted bool) (*Conveyed, error) {
	message, err := v.readConveyed(b.ConveyedInformation)
	if err != nil {
		return nil, err
	}
	doc := document{message.Type, message.Data}
	signed := message.Signed != nil
	var owner *x509.Certificate
	switch {
	case signed:
		if owner, err = v.ownerSigned(b, message.Signed); err != nil {
			return nil, err
		}
		doc = document{message.Signed.ContentType, message.Signed.Content}
	case len(b.OwnerCertificate) > 0 || len(b.OwnershipVoucher) > 0:
		v.warn("the owner certificate and ownership voucher are ignored: the conveyed information is not signed")
	}
	var contents *contents
	err = v.step(StepContents, func() (string, error) {
		contents, err = v.decodeConveyed(doc)
		if err != nil {
			return "", err
		}
		return contents.summary(), nil
	})
	if err != nil {
		return nil, err
	}
	if contents.onboarding != nil {
		contents.onboarding.owner = owner
	}
	return v.conclude(contents, signed, serverTrusted)
}

// conclude gives the contents the trust that they have earned, and no more.
func (v *validation) conclude(c *contents, signed, serverTrusted bool) (*Conveyed, error) {
	conveyed := &Conveyed{Signed: signed, Trusted: signed || serverTrusted}
	var why string
	switch {
	case signed:
		why = "the owner signed the data"
	case serverTrusted:
		why = "the server was authenticated"
	default:
		why = "neither signed nor from an authenticated server"
	}
	if c.onboarding != nil && !conveyed.Trusted {
		return nil, v.step(StepTrust, func() (string, error) {
			return "", refuse(CodeUnsigned, "onboarding information is "+why,
				"have the server send data signed by the owner, or let the device authenticate the server", nil)
		})
	}
	if c.onboarding != nil && !signed && v.policy.RequireSigned {
		return nil, v.step(StepTrust, func() (string, error) {
			return "", refuse(CodeNotSigned, "the server was authenticated, but this device executes only what its owner signed",
				"have the server send data signed by the owner, or turn [trust] require-signed off", nil)
		})
	}
	if c.onboarding != nil {
		v.pass(StepTrust, why)
		conveyed.Onboarding = c.onboarding
		conveyed.Onboarding.trusted = true
		return conveyed, nil
	}
	v.pass(StepTrust, redirectTrust(c, conveyed.Trusted, why))
	var err error
	conveyed.Redirect, err = v.redirect(c.servers, conveyed.Trusted)
	return conveyed, err
}

func redirectTrust(c *contents, trusted bool, why string) string {
	if trusted {
		return why
	}
	for _, s := range c.servers {
		if s.anchor != nil {
			return why + ": trust anchors removed"
		}
	}
	return why
}

// readConveyed reads the container, and decrypts it when it is encrypted (RFC 8572 §3.1).
func (v *validation) readConveyed(der []byte) (message *cms.Message, err error) {
	err = v.step(StepConveyed, func() (string, error) {
		if len(der) == 0 {
			return "", refuse(CodeConveyedMissing, "there is no conveyed information",
				"check what the bootstrap server sends", nil)
		}
		var encrypted string
		if message, encrypted, err = v.open(der, CodeConveyedMalformed, conveys); err != nil {
			return "", err
		}
		kind := message.Type
		form := "unsigned"
		if message.Signed != nil {
			kind, form = message.Signed.ContentType, "signed"
			if message.Signed.Content == nil || len(message.Signed.Signers) == 0 {
				return "", refuse(CodeConveyedMalformed, "signed conveyed information has no content or no signature",
					"sign it with the owner certificate's key", nil)
			}
		}
		if !kind.Equal(cms.TypeData) && !kind.Equal(cms.TypeConveyedJSON) && !kind.Equal(cms.TypeConveyedXML) {
			return "", refuse(CodeConveyedMalformed, fmt.Sprintf("content type %v is not conveyed information", kind),
				"use content type id-ct-sztpConveyedInfoJSON or id-ct-sztpConveyedInfoXML", nil)
		}
		return fmt.Sprintf("%s%s, %d bytes", encrypted, form, len(der)), nil
	})
	return message, err
}

// conveys reports whether m could hold conveyed information.
func conveys(m *cms.Message) bool {
	first := bytes.TrimLeft(m.Data, space)
	return m.Signed != nil || bytes.HasPrefix(first, []byte("{")) || bytes.HasPrefix(first, []byte("<"))
}

// certifies reports whether m could hold an owner certificate or a voucher.
func certifies(m *cms.Message) bool { return m.Signed != nil }

// open reads a container and decrypts it when it is encrypted. What decrypts to something that is not plausible is
// refused as if it had not decrypted, since a sender of guesses could learn from the difference. encrypted is a word for
// the trail.
func (v *validation) open(der []byte, malformed Code, plausible func(*cms.Message) bool) (
	m *cms.Message, encrypted string, err error) {
	if m, err = cms.Parse(der); err != nil {
		return nil, "", container(malformed, err)
	}
	if m.Enveloped == nil {
		if v.outdated(m) {
			return nil, "", refuse(malformed, "signed as PKCS #7 did before CMS: the content is no OCTET STRING",
				"make it with a CMS tool such as `openssl cms`, or let the device decode leniently", nil)
		}
	} else {
		encrypted = "encrypted, "
		m, err = v.device.open(m.Enveloped, malformed)
		if err == nil && (!plausible(m) || v.outdated(m)) {
			err = unreadable()
		}
		if err != nil {
			return nil, "", err
		}
	}
	if m.Signed != nil {
		if refusal := untangled(m.Signed.Certificates); refusal != nil {
			return nil, "", refusal
		}
	}
	return m, encrypted, nil
}

// Open decrypts e with a key of the device. Nothing about what is inside was verified. Errors are *Error; whether the key, the
// padding or the plaintext was wrong is not told.
func (d Device) Open(e *cms.EnvelopedData) (*cms.Message, error) { return d.open(e, CodeUnreadable) }

func (d Device) open(e *cms.EnvelopedData, malformed Code) (*cms.Message, error) {
	m, err := e.Open(cms.Recipient{Certificate: d.Certificate, Decrypter: d.Decrypter, KeyAgreement: d.KeyAgreement})
	switch {
	case errors.Is(err, cms.ErrNotRecipient):
		return nil, refuse(CodeNotForDevice, "encrypted, but not for a key of this device",
			"encrypt for the identity certificate that this device presents, or for that of its decrypt key where it has one", nil)
	case errors.Is(err, cms.ErrNoKey):
		return nil, refuse(CodeCannotDecrypt, "encrypted for this device, whose identity key can only sign",
			"send it unencrypted, or give the device a second key that decrypts; keys made to the TCG's templates for an IDevID do not", nil)
	case errors.Is(err, cms.ErrKeyFailed):
		return nil, refuse(CodeKeyFailed, "encrypted for this device, whose key failed while decrypting it",
			"see what is wrong with the key or its TPM; `ztp identity show` tells", err)
	case errors.Is(err, cms.ErrDecrypt):
		return nil, unreadable()
	case err != nil:
		return nil, container(malformed, err)
	}
	return m, nil
}

func unreadable() *Error {
	return refuse(CodeUnreadable, "encrypted for this device, but it does not decrypt to an artifact",
		"encrypt anew for the identity certificate that this device presents", nil)
}

// outdated reports whether m has the form that preceded CMS, of which lenient decoding only warns.
func (v *validation) outdated(m *cms.Message) bool {
	if m.Signed == nil || !m.Signed.PKCS7 {
		return false
	}
	v.warn("signed as PKCS #7 did before CMS: the content is no OCTET STRING")
	return !v.policy.Lenient
}

// container turns an error of package cms into a refusal.
func container(malformed Code, err error) *Error {
	switch {
	case errors.Is(err, cms.ErrLimit):
		return refuse(CodeTooLarge, "larger than the device reads", "leave out what the artifact does not need", err)
	case errors.Is(err, cms.ErrUnsupported):
		return refuse(CodeAlgorithmRefused, "made in a way the device does not accept",
			"use SHA-256 or better with ECDSA, Ed25519 or RSA of 2048 bits or more, and AES for encryption", err)
	}
	return refuse(malformed, "not a DER CMS artifact", "check how the artifact was made; `openssl cms -cmsout -print -inform DER` shows one", err)
}

// decodeConveyed tells the encoding and reads the document.
func (v *validation) decodeConveyed(doc document) (*contents, error) {
	first := bytes.TrimLeft(doc.data, space)
	sniffed := doc.kind.Equal(cms.TypeData)
	d := decoder{lenient: v.policy.Lenient}
	parse := strictjson.Parse
	switch {
	case doc.kind.Equal(cms.TypeConveyedXML), sniffed && bytes.HasPrefix(first, []byte("<")):
		parse = d.parseXML
	case sniffed && !bytes.HasPrefix(first, []byte("{")):
		return nil, refuse(CodeConveyedInvalid, "the conveyed information is neither JSON nor XML",
			"encode it in one of the two", nil)
	}
	c := d.conveyed(doc.data, parse)
	v.warnings = append(v.warnings, d.warnings...)
	if d.err != nil {
		return nil, refuse(CodeConveyedInvalid, "the conveyed information breaks the rules of RFC 8572 §6.3",
			"correct the document that the server signs or sends", d.err)
	}
	return c, nil
}

// step runs f as the step named s, records it, and completes the error.
func (v *validation) step(s Step, f func() (detail string, err error)) error {
	detail, err := f()
	if err == nil {
		v.pass(s, detail)
		return nil
	}
	var e *Error
	if !errors.As(err, &e) {
		e = refuse("internal", "unforeseen", "", err)
	}
	if e.Step == "" {
		e.Step = s
	}
	v.trail.Steps = append(v.trail.Steps, Verdict{Step: s, Detail: e.Error()})
	return e
}

func (v *validation) pass(s Step, detail string) {
	v.trail.Steps = append(v.trail.Steps, Verdict{Step: s, OK: true, Detail: detail})
}

func (v *validation) warn(format string, args ...any) {
	v.warnings = append(v.warnings, fmt.Sprintf(format, args...))
}

// refuse makes an Error; the step is filled in where it is known.
func refuse(code Code, msg, fix string, err error) *Error {
	return &Error{Code: code, Msg: msg, Fix: fix, Err: err}
}
