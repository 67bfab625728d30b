package artifacts

// Every code a refusal of this package can carry.
const (
	CodeTooLarge           Code = "artifact-too-large"        // over a limit of size or count
	CodeAlgorithmRefused   Code = "algorithm-refused"         // signed or encrypted in a way that is not accepted
	CodeNotForDevice       Code = "encrypted-for-another"     // no recipient of an encrypted artifact is this device
	CodeCannotDecrypt      Code = "encrypted-no-key"          // an encrypted artifact is for this device, whose key only signs
	CodeKeyFailed          Code = "decrypt-key-failed"        // the device's key failed while an artifact was being decrypted
	CodeUnreadable         Code = "encrypted-unreadable"      // an encrypted artifact did not decrypt to anything
	CodeConveyedMissing    Code = "conveyed-information-none" // there is no conveyed information
	CodeConveyedMalformed  Code = "conveyed-information-malformed"
	CodeConveyedInvalid    Code = "conveyed-information-invalid" // JSON or XML that breaks the rules of RFC 8572 §6.3
	CodeVoucherMissing     Code = "voucher-missing"              // signed data came without a voucher
	CodeVoucherMalformed   Code = "voucher-malformed"
	CodeVoucherUnsigned    Code = "voucher-unsigned"
	CodeVoucherUntrusted   Code = "voucher-untrusted"         // its signer does not chain to a voucher trust anchor
	CodeVoucherSignature   Code = "voucher-signature-invalid" // its signature does not verify
	CodeVoucherNotYetValid Code = "voucher-not-yet-valid"
	CodeVoucherExpired     Code = "voucher-expired" // the voucher, or the certificate that signed it
	CodeVoucherAssertion   Code = "voucher-assertion-refused"
	CodeVoucherSerial      Code = "voucher-serial-mismatch"
	CodeVoucherIssuer      Code = "voucher-idevid-issuer-mismatch"
	CodeVoucherNonce       Code = "voucher-nonce-mismatch"
	CodeVoucherNoNonce     Code = "voucher-nonce-missing"
	CodeOwnerMissing       Code = "owner-certificate-missing" // signed data came without an owner certificate
	CodeOwnerMalformed     Code = "owner-certificate-malformed"
	CodeOwnerUntrusted     Code = "owner-certificate-untrusted" // no path to the pinned domain certificate
	CodeOwnerExpired       Code = "owner-certificate-expired"   // or not yet valid, or one above it
	CodeOwnerKeyUsage      Code = "owner-certificate-key-usage"
	CodeOwnerRevoked       Code = "owner-certificate-revoked"
	CodeRevocationUnknown  Code = "revocation-status-unavailable" // the voucher demands a status that did not come along
	CodeSignatureInvalid   Code = "signature-invalid"             // the conveyed information's signature
	CodeSignedByOther      Code = "signature-not-by-owner"        // signed, but not by the owner certificate
	CodeUnsigned           Code = "unsigned-onboarding"           // unsigned, from a source that is not trusted
	CodeNotSigned          Code = "signature-required"            // unsigned, from a trusted server, where only signed data counts
	CodeAnchorMalformed    Code = "trust-anchor-malformed"
	CodeServerUntrusted    Code = "tls-server-untrusted" // no path to the trust anchor
	CodeServerExpired      Code = "tls-server-expired"   // or not yet valid
	CodeServerName         Code = "tls-name-mismatch"
)

// The steps, in the order in which they run. Steps that do not apply to a bundle are not in its trail.
const (
	StepConveyed          Step = "conveyed information" // read the container, decrypt it
	StepVoucher           Step = "ownership voucher"    // read the container, decrypt it
	StepOwner             Step = "owner certificate"    // read the container, decrypt it
	StepVoucherSignature  Step = "voucher signature"
	StepVoucherContents   Step = "voucher contents"
	StepVoucherDates      Step = "voucher dates"
	StepVoucherAssertion  Step = "voucher assertion"
	StepVoucherSerial     Step = "voucher serial number"
	StepVoucherIssuer     Step = "voucher idevid-issuer"
	StepVoucherNonce      Step = "voucher nonce"
	StepOwnerPath         Step = "owner certificate path"
	StepOwnerRevocation   Step = "owner certificate revocation"
	StepOwnerSignature    Step = "owner's signature"
	StepContents          Step = "conveyed information contents"
	StepTrust             Step = "trust"
	StepTrustAnchor       Step = "trust anchor"
	StepServerCertificate Step = "server certificate"
	StepServerName        Step = "server name"
)

// The assertions of RFC 8366 §5.3 and, of its successor, agent-proximity.
const (
	Verified       Assertion = "verified"
	Logged         Assertion = "logged"
	Proximity      Assertion = "proximity"
	AgentProximity Assertion = "agent-proximity"
)
