package artifacts_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/xpu-sztp/ztp/artifacts"
)

// interop is what other SZTP tools make, in the shapes that google/open-sztp and tools around the openssl command line give
// it. strict is the refusal without leniency, "" for none, at a step and in words that name what the producer did; told is
// what is said where it is tolerated. Whatever is tolerated, trust is not.
type interop struct {
	name   string
	change func(*signedCase)
	strict artifacts.Code
	step   artifacts.Step
	names  string
	told   string
}

func onboardingWith(members object) []byte {
	return encode(object{"ietf-sztp-conveyed-info:onboarding-information": members})
}

func interops(w world) []interop {
	const sha = "ietf-sztp-conveyed-info:sha-256"
	image := func(verification any) []byte {
		return onboardingWith(object{"boot-image": object{"os-name": "VendorOS", "os-version": "1", "download-uri": []string{"http://192.0.2.9/os"},
			"image-verification": verification}})
	}
	return []interop{
		{name: "open-sztp/id-data", change: func(c *signedCase) { c.ciType, c.ovType = typeData, typeData }},
		{name: "open-sztp/certificates-inside", change: func(c *signedCase) {
			c.bundle = func(b *artifacts.Bundle) { b.ConveyedInformation = w.Sign(w.owner, onboardingDocument) }
		}},
		{name: "open-sztp/signed-owner-certificate", strict: artifacts.CodeOwnerMalformed, step: artifacts.StepOwner,
			names: "signed, over empty content", told: "owner certificate artifact is signed",
			change: func(c *signedCase) {
				c.bundle = func(b *artifacts.Bundle) {
					b.OwnerCertificate = w.Sign(w.owner, nil, "-certfile", w.PEM(w.ownerCA))
				}
			}},
		{name: "open-sztp/signed-trust-anchor", strict: artifacts.CodeAnchorMalformed, step: artifacts.StepTrustAnchor,
			names: "signed, over empty content", told: "trust anchor is signed",
			change: func(c *signedCase) {
				c.document = encode(object{"ietf-sztp-conveyed-info:redirect-information": object{"bootstrap-server": []object{
					{"address": "192.0.2.5", "port": 8443, "trust-anchor": b64(w.Sign(w.tlsRoot, nil))}}}})
			}},
		{name: "open-sztp/voucher-xmlname", told: "unknown member XMLName",
			change: func(c *signedCase) { c.voucher = object{"XMLName": object{"Space": "", "Local": ""}} }},
		{name: "open-sztp/voucher-empty-assertion", strict: artifacts.CodeVoucherMalformed, step: artifacts.StepVoucherContents,
			names: "assertion: missing", told: "assertion: missing", change: func(c *signedCase) { c.voucher = object{"assertion": ""} }},
		{name: "open-sztp/empty-scripts", told: "an empty script is ignored", change: func(c *signedCase) {
			c.document = onboardingWith(object{"pre-configuration-script": "", "post-configuration-script": ""})
		}},
		{name: "open-sztp/empty-configuration", strict: artifacts.CodeConveyedInvalid, step: artifacts.StepContents,
			names: "neither merge nor replace", told: "an empty configuration",
			change: func(c *signedCase) {
				c.document = onboardingWith(object{"configuration": "", "configuration-handling": ""})
			}},
		{name: "open-sztp/short-hash", strict: artifacts.CodeConveyedInvalid, step: artifacts.StepContents,
			names: "not 32 bytes", told: "not a SHA-256 value", change: func(c *signedCase) {
				c.document = image([]object{{"hash-algorithm": sha, "hash-value": "01:23:45:67:89:ab:cd:ef"}})
			}},
		{name: "open-sztp/null-list", strict: artifacts.CodeConveyedInvalid, step: artifacts.StepContents,
			names: "an array is expected, not null", told: "null is read as an empty list",
			change: func(c *signedCase) { c.document = []byte(strings.Replace(string(image("?")), `"?"`, "null", 1)) }},
		{name: "arista/openssl-defaults", change: func(c *signedCase) {
			c.bundle = func(b *artifacts.Bundle) {
				b.ConveyedInformation = w.Run("cms", "-sign", "-nodetach", "-binary", "-in", w.Write(onboardingDocument),
					"-signer", w.owner.CertFile, "-inkey", w.owner.KeyFile, "-outform", "DER")
			}
		}},
		{name: "arista/folded-base64", strict: artifacts.CodeConveyedInvalid, step: artifacts.StepContents,
			names: "`base64 -w0` writes none", told: "base64 with white space",
			change: func(c *signedCase) {
				c.document = onboardingWith(object{"pre-configuration-script": "IyEvYmluL3NoCmV4\naXQgMAo=\n"})
			}},
		{name: "arista/crl2pkcs7", change: func(c *signedCase) {
			c.bundle = func(b *artifacts.Bundle) {
				crl := w.CRL(w.ownerCA, w.now().Add(-1), w.now().Add(1<<40))
				b.OwnerCertificate = w.Run("crl2pkcs7", "-in", crl, "-certfile", w.PEM(w.owner, w.ownerCA, w.ownerRoot), "-outform", "DER")
			}
		}},
	}
}

// TestInterop wants each deviation refused without leniency, in words that name it, and tolerated with a warning.
func TestInterop(t *testing.T) {
	w := shared()
	for _, tt := range interops(w) {
		for _, lenient := range []bool{false, true} {
			t.Run(tt.name+map[bool]string{false: "/strict", true: "/lenient"}[lenient], func(t *testing.T) {
				c := signedCase{w: w, policy: func(p *artifacts.Policy) { p.Lenient = lenient }}
				tt.change(&c)
				b, d, p := c.build()
				conveyed, _, err := artifacts.Validate(b, nil, d, p)
				if tt.strict != "" && !lenient {
					refused(t, err, tt.strict, tt.step)
					var e *artifacts.Error
					if !errors.As(err, &e) || !strings.Contains(e.Error(), tt.names) || e.Fix == "" {
						t.Errorf("%v does not name %q", err, tt.names)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if told := strings.Join(conveyed.Warnings, "\n"); !strings.Contains(told, tt.told) || tt.told == "" && told != "" {
					t.Errorf("%q does not say %q", told, tt.told)
				}
			})
		}
	}
}

// TestInteropTrust: what is tolerated lets nobody else in, and nothing be anybody's.
func TestInteropTrust(t *testing.T) {
	w := shared()
	lenient := func(p *artifacts.Policy) { p.Lenient = true }
	t.Run("owner-certificate-of-a-stranger", func(t *testing.T) {
		signedCase{w: w, policy: lenient, ciSigner: w.stray, bundle: func(b *artifacts.Bundle) {
			b.OwnerCertificate = w.Sign(w.stray, nil, "-certfile", w.PEM(w.strayRoot))
		}}.check(t, artifacts.CodeOwnerUntrusted, artifacts.StepOwnerPath)
	})
	t.Run("empty-assertion-against-policy", func(t *testing.T) {
		signedCase{w: w, voucher: object{"assertion": ""}, policy: func(p *artifacts.Policy) {
			p.Lenient, p.Assertions = true, []artifacts.Assertion{artifacts.Verified}
		}}.check(t, artifacts.CodeVoucherAssertion, artifacts.StepVoucherAssertion)
	})
	t.Run("signature-of-another", func(t *testing.T) {
		signedCase{w: w, policy: lenient, ciType: typeData, ciSigner: w.ownerCA}.check(t, artifacts.CodeSignedByOther, artifacts.StepOwnerSignature)
	})
}
