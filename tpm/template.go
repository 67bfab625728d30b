package tpm

import (
	"bytes"
	"encoding/hex"
	"errors"

	"github.com/google/go-tpm/tpm2"
)

// Template names a kind of IDevID key: the TCG's templates for device identities, by their names there.
type Template string

// The templates of IDevID keys.
const (
	RSA2048 Template = "H-1" // RSA 2048, SHA-256
	P256    Template = "H-2" // NIST P-256, SHA-256
	P384    Template = "H-3" // NIST P-384, SHA-384
	P521    Template = "H-4" // NIST P-521, SHA-512
	RSA3072 Template = "H-6" // RSA 3072, SHA-384
)

// Policies of IDevID keys, which let the owner of the endorsement hierarchy administer them.
const (
	policySHA256 = "ad6b3a2284fd698a0710bf5cc1b9bdf15e2532e3f601fa4b93a6a8fa8de579ea"
	policySHA384 = "4db1aa836d0b5615df6ee53a40ef70c61c217f4303d44695925972bc927006cfa5cbdf6dc18c4dbe329b2f1542c3dd33"
	policySHA512 = "7dd7500fd6c1b94f97a6af910da147301ef28f662fee06f225a4ccadda3b4e6b" +
		"38e66b2f3ad5dee1a0503cd2daedb1e68cfe4f84b03a8cd22bb6a976f071a72f"
)

// templates are all of them.
func templates() []Template { return []Template{RSA2048, P256, P384, P521, RSA3072} }

// area returns the template's public area (TPM 2.0 Keys for Device Identity and Attestation, 7.3).
func (t Template) area() (tpm2.TPMTPublic, error) {
	area := tpm2.TPMTPublic{
		NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true,
			UserWithAuth: true, AdminWithPolicy: true, SignEncrypt: true,
		},
	}
	policy := policySHA256
	switch t {
	case P384, RSA3072:
		area.NameAlg, policy = tpm2.TPMAlgSHA384, policySHA384
	case P521:
		area.NameAlg, policy = tpm2.TPMAlgSHA512, policySHA512
	}
	digest, err := hex.DecodeString(policy)
	if err != nil {
		return area, err
	}
	area.AuthPolicy.Buffer = digest

	unique := []byte("IDEVID")
	ecc := func(curve tpm2.TPMECCCurve) {
		area.Type = tpm2.TPMAlgECC
		area.Parameters = tpm2.NewTPMUPublicParms(area.Type, &tpm2.TPMSECCParms{CurveID: curve})
		area.Unique = tpm2.NewTPMUPublicID(area.Type, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: unique}, Y: tpm2.TPM2BECCParameter{Buffer: unique}})
	}
	rsa := func(bits tpm2.TPMKeyBits) {
		area.Type = tpm2.TPMAlgRSA
		area.Parameters = tpm2.NewTPMUPublicParms(area.Type, &tpm2.TPMSRSAParms{KeyBits: bits})
		area.Unique = tpm2.NewTPMUPublicID(area.Type, &tpm2.TPM2BPublicKeyRSA{Buffer: unique})
	}
	switch t {
	case RSA2048:
		rsa(2048)
	case RSA3072:
		rsa(3072)
	case P256:
		ecc(tpm2.TPMECCNistP256)
	case P384:
		ecc(tpm2.TPMECCNistP384)
	case P521:
		ecc(tpm2.TPMECCNistP521)
	default:
		return area, &Error{Code: CodeFailure, Msg: "there is no key template " + quote(string(t)),
			Fix: "use H-1, H-2, H-3, H-4 or H-6"}
	}
	return area, nil
}

// judge explains with which errors a TPM refuses a template that it does not know.
func (t Template) judge(err error) error {
	for _, unsupported := range []tpm2.TPMRC{tpm2.TPMRCCurve, tpm2.TPMRCHash, tpm2.TPMRCKeySize, tpm2.TPMRCValue} {
		if errors.Is(err, unsupported) {
			return &Error{Code: CodeUnsupported, Msg: "this TPM makes no keys of template " + string(t), Err: err,
				Fix: "use another template; every TPM has H-1 and H-2"}
		}
	}
	return err
}

// recognise returns the template that a key was made from, "" when it is none of them.
func recognise(area *tpm2.TPMTPublic) Template {
	for _, t := range templates() {
		want, err := t.area()
		if err != nil || want.Type != area.Type {
			continue
		}
		want.Unique = area.Unique // that is what makes the key this device's
		if bytes.Equal(tpm2.Marshal(want), tpm2.Marshal(*area)) {
			return t
		}
	}
	return ""
}
