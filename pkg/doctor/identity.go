package doctor

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"slices"
	"strconv"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/tpm"
)

// IdentityFacts are what opening the identity, and one signature, came to.
type IdentityFacts struct {
	Found    *tpm.Examination
	Err      error         // of opening it
	Notes    []string      // of the identity that was opened
	Took     time.Duration // until it was opened
	Unproven error         // why the signature failed
	Signing  time.Duration // until it was made
	Clock    artifacts.Clock
	InUse    bool // the agent has the TPM, which serves one program at a time; then nothing else is known
}

// What a TPM may take before servers and people run out of patience.
const (
	slowOpening = 20 * time.Second
	slowSigning = 5 * time.Second // servers end handshakes after ten or so
)

const askIdentity = "look at what `ztp identity show` says"

// Identity judges the TPM and what is in it, down to the first thing that is missing: what comes after that is not known.
func (l Lines) Identity(f *IdentityFacts) {
	if f.InUse {
		l.say("", pass+TPM, "the agent has it, which serves one program at a time; `ztp status` has what it found")
		return
	}
	if !l.tpm(f) {
		return
	}
	x := f.Found
	code, _ := reason.Of(f.Err)
	switch {
	case x.Key == nil, f.Err != nil && !x.Key.Sign:
		l.because(IdentityKey, f.Err, askIdentity)
		return
	case len(x.Certificates) == 0:
		l.because(IdentityCertificate, f.Err, askIdentity)
		return
	}
	l.key(f)
	l.certificate(f)
	l.chain(x.Certificates)
	if code := tpm.Code(code); x.SerialNumber == "" || code == tpm.CodeSerialMismatch {
		l.because(SerialNumber, f.Err, askIdentity)
		return
	}
	l.say("", pass+SerialNumber, "#1", x.SerialNumber)
	switch {
	case f.Err != nil:
		l.because(DecryptKey, f.Err, askIdentity)
	case x.DecryptKey == nil:
		l.say("", pass+DecryptKey, "there is none: the device reads what is not encrypted, as most is")
	default:
		l.say("", pass+DecryptKey, "#1 in #2", x.DecryptKey.Algorithm, x.DecryptKey.Where)
	}
}

// tpm judges the TPM, as far as opening an identity tells, and reports whether anything else can be judged.
func (l Lines) tpm(f *IdentityFacts) bool {
	code, _ := reason.Of(f.Err)
	switch tpm.Code(code) {
	case tpm.CodeUnreachable, tpm.CodeTimeout, tpm.CodeFailure, tpm.CodeLockout, tpm.CodePassword, tpm.CodeCancelled:
		l.because(TPM, f.Err, "look at the kernel log for the TPM, and at identity.tpm in the configuration")
		return false
	}
	x := f.Found
	kind, text := pass+TPM, "answers at #1, the identity was read in #2"
	switch {
	case x.Kind == tpm.KindFile:
		kind, text = warn+TPM+" "+NoTPM, "none is used: the identity key is a file, which everybody can copy who is root"+do+
			"set identity.tpm where the device has a TPM"
	case x.Locked:
		kind, text = fail+TPM+" "+string(tpm.CodeLockout), "the TPM at #1 is locked because of too many wrong passwords, and does not sign"+do+
			"wait for the lockout to expire, or clear it with tpm2_dictionarylockout -c"
	case f.Took > slowOpening:
		kind, text = warn+TPM+" "+TPMSlow, "the TPM at #1 answers, but took #2 until the identity was found"+do+
			"name identity.certificate instead of \"auto\", and see what else uses the TPM"
	}
	l.say("", kind, text, x.TPM, f.Took.Round(time.Millisecond).String())
	return !x.Locked
}

func (l Lines) key(f *IdentityFacts) {
	x := f.Found.Key
	template := ""
	if x.Template != "" {
		template = ", template " + string(x.Template)
	}
	kind, text := pass+IdentityKey, "#1#2, in #3: signs for #4, in #5"
	switch {
	case f.Unproven != nil:
		l.because(IdentityKey, f.Unproven, askIdentity)
		return
	case f.Err != nil:
		text = "#1#2, in #3"
	case x.TLS != tls.VersionName(tls.VersionTLS13):
		kind, text = warn+IdentityKey+" "+OldTLS, "#1#2, in #3: it signs, but only for #4; servers that insist on TLS 1.3 refuse the device"+do+
			"in the factory, make the key from a template of the TCG, such as H-2 (`ztp identity csr`)"
	case f.Signing > slowSigning:
		kind, text = warn+IdentityKey+" "+TPMSlow, "#1#2, in #3: it takes #5 to sign, longer than some servers wait"+do+
			"see what else uses the TPM, and give handshakes more time on the server"
	}
	l.say("", kind, text, x.Algorithm, template, x.Where, x.TLS, f.Signing.Round(time.Millisecond).String())
}

// certificate judges what servers look at.
func (l Lines) certificate(f *IdentityFacts) {
	leaf := f.Found.Certificates[0]
	good := true
	doubt := func(code, text, subject, day string) {
		good = false
		l.say("", warn+IdentityCertificate+" "+code, text, subject, day)
	}
	for _, cert := range f.Found.Certificates {
		if f.Clock.Now.After(cert.NotAfter) && f.Clock.Confidence != artifacts.ClockNone {
			doubt(IdentityExpired, "the certificate of #1 has expired on #2; servers that check will refuse the device"+do+
				"have the maker issue one that does not expire (IEEE 802.1AR), or the servers accept it", cert.Subject.String(), day(cert.NotAfter))
		}
		if f.Clock.Now.Before(cert.NotBefore) {
			doubt(IdentityExpired, "by this device's clock the certificate of #1 is not valid before #2"+do+"set the clock",
				cert.Subject.String(), day(cert.NotBefore))
		}
	}
	if leaf.IsCA {
		doubt(IdentityDoubtful, "the certificate is one of a certification authority, not of a device"+do+"have the maker issue a certificate for the device", "", "")
	}
	if leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		doubt(IdentityDoubtful, "the certificate's key usage does not allow signatures, which TLS needs"+do+
			"have the maker issue one with the key usage digitalSignature", "", "")
	}
	if u := leaf.ExtKeyUsage; len(u) > 0 && !slices.Contains(u, x509.ExtKeyUsageClientAuth) && !slices.Contains(u, x509.ExtKeyUsageAny) {
		doubt(IdentityDoubtful, "the certificate's extended key usage does not name TLS clients; many servers will refuse it"+do+
			"have the maker issue one without extended key usage, or with clientAuth", "", "")
	}
	for _, note := range f.Notes {
		if f.Found.Kind != tpm.KindFile { // which has been told
			doubt(IdentityDoubtful, "#1"+do+askIdentity, note, "")
		}
	}
	if !good {
		return
	}
	text := "#1, for the key, in #2, valid until #3"
	if leaf.NotAfter.Year() == 9999 { // RFC 5280 §4.1.2.5
		text = "#1, for the key, in #2, valid without an end"
	}
	l.say("", pass+IdentityCertificate, text, leaf.Subject.String(), f.Found.Certificate, day(leaf.NotAfter))
}

// chain tells how far up the certificates go.
func (l Lines) chain(chain []*x509.Certificate) {
	last := chain[len(chain)-1]
	kind, text := pass+IdentityChain, "#2 certificates; servers have to know #1 above them"
	switch own := bytes.Equal(last.RawIssuer, last.RawSubject); {
	case own && len(chain) == 1:
		kind, text = warn+IdentityChain+" "+ChainMissing, "the device has signed its certificate itself: servers have to know each device"+do+
			"have the maker's authority issue the certificate"
	case own:
		text = "complete up to #1"
	case len(chain) == 1:
		kind, text = warn+IdentityChain+" "+ChainMissing, "nothing above the device's certificate is there: servers have to know #1 themselves"+do+
			"unless that is the maker's root, install the chain too (`ztp identity install device.pem issuer.pem`)"
	}
	l.say("", kind, text, last.Issuer.String(), strconv.Itoa(len(chain)))
}

// ClockFacts are what the device's time is, and whether it is believed.
type ClockFacts struct {
	Policy    string // trust.clock
	Clock     artifacts.Clock
	Plausible bool // it is later than what the device was made with
}

// Clock judges the clock.
func (l Lines) Clock(f *ClockFacts) {
	kind, text := pass+Clock, "#1 UTC, believed (#2)"
	switch believed := f.Clock.Confidence != artifacts.ClockNone; {
	case believed && !f.Plausible:
		kind, text = fail+Clock+" "+ClockImplausible, "it is #1 UTC, before the device's software or certificates were made, and trust.clock = \"#3\" has it believed: "+
			"everything is refused as not valid yet"+do+"set the clock, or set trust.clock to \"auto\""
	case believed:
	case f.Plausible:
		kind, text = warn+Clock+" "+ClockNotBelieved, "it is #1 UTC, and not believed: vouchers and certificates do not expire, and only a nonce makes vouchers fresh"+do+
			"set trust.clock to \"auto\" where the device has a clock with a battery, or gets its time before the agent runs"
	default:
		kind, text = warn+Clock+" "+ClockNotBelieved, "it is #1 UTC, which cannot be, and is not believed: vouchers and certificates do not expire, and only a nonce "+
			"makes vouchers fresh"+do+"set the clock, or have the device get its time before the agent runs"
	}
	l.say("", kind, text, f.Clock.Now.UTC().Format(time.DateTime), string(f.Clock.Confidence), f.Policy)
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }
