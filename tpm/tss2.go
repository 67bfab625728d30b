package tpm

import (
	"bytes"
	encoding_asn1 "encoding/asn1"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// tss2Type is the PEM type of a key that only its TPM can unwrap.
const tss2Type = "TSS2 PRIVATE KEY"

// tss2Key is the content of a TSS2 PRIVATE KEY file (ASN.1 Specification for TPM 2.0 Key Files, section 3.1).
type tss2Key struct {
	rsaParent bool           // under a permanent parent: the RSA storage key instead of the ECC one
	parent    tpm2.TPMHandle // a hierarchy or a persistent handle
	area      *tpm2.TPMTPublic
	private   []byte // content of TPM2B_PRIVATE
}

// parseTSS2 reads the DER of a loadable key that needs no password, or where trying the empty one does no harm.
func parseTSS2(der []byte) (*tss2Key, error) {
	var (
		loadable   = encoding_asn1.ObjectIdentifier{2, 23, 133, 10, 1, 3}
		importable = encoding_asn1.ObjectIdentifier{2, 23, 133, 10, 1, 4}
		sealed     = encoding_asn1.ObjectIdentifier{2, 23, 133, 10, 1, 5}

		input                  = cryptobyte.String(der)
		seq, public, private   cryptobyte.String
		oid                    encoding_asn1.ObjectIdentifier
		emptyAuth, hasPolicies bool
		parent                 uint64
		k                      tss2Key
	)
	if !input.ReadASN1(&seq, asn1.SEQUENCE) || !input.Empty() || !seq.ReadASN1ObjectIdentifier(&oid) {
		return nil, errors.New("not a TPMKey sequence")
	}
	switch {
	case oid.Equal(importable):
		return nil, errors.New("the key is importable; only loadable keys are supported")
	case oid.Equal(sealed):
		return nil, errors.New("this is sealed data, not a key")
	case !oid.Equal(loadable):
		return nil, fmt.Errorf("unknown key type %v", oid)
	}
	if !readExplicitBool(&seq, 0, &emptyAuth) ||
		!skipExplicit(&seq, 1, asn1.SEQUENCE, &hasPolicies) || // policy
		!skipExplicit(&seq, 2, asn1.OCTET_STRING, nil) || // secret, of importable keys
		!skipExplicit(&seq, 3, asn1.SEQUENCE, nil) || // authPolicy
		!skipExplicit(&seq, 4, asn1.UTF8String, nil) || // description
		!readExplicitBool(&seq, 5, &k.rsaParent) ||
		!seq.ReadASN1Integer(&parent) || parent > 0xFFFFFFFF ||
		!seq.ReadASN1(&public, asn1.OCTET_STRING) ||
		!seq.ReadASN1(&private, asn1.OCTET_STRING) || !seq.Empty() {
		return nil, errors.New("malformed TPMKey sequence")
	}
	k.parent = tpm2.TPMHandle(parent)

	area, ok := sized(public)
	if !ok {
		return nil, errors.New("malformed TPM2B_PUBLIC")
	}
	if k.private, ok = sized(private); !ok || len(k.private) == 0 {
		return nil, errors.New("malformed TPM2B_PRIVATE")
	}
	var err error
	if k.area, err = parsePublicArea(area); err != nil {
		return nil, err
	}
	switch {
	case !emptyAuth && !k.area.ObjectAttributes.NoDA:
		// Trying the empty password nevertheless would bring the TPM closer to its lockout, were it wrong.
		return nil, errors.New("the file says that the key has a password")
	case hasPolicies && !k.area.ObjectAttributes.UserWithAuth:
		return nil, errors.New("the key can be used only by satisfying a policy")
	}
	return &k, nil
}

func parsePublicArea(b []byte) (*tpm2.TPMTPublic, error) {
	area, err := tpm2.Unmarshal[tpm2.TPMTPublic](b)
	if err != nil {
		return nil, fmt.Errorf("malformed TPMT_PUBLIC: %w", err)
	}
	// Only then is the name we compute, over the encoding, the name the TPM computes.
	if !bytes.Equal(tpm2.Marshal(area), b) {
		return nil, errors.New("malformed TPMT_PUBLIC: not in canonical form")
	}
	return area, nil
}

// sized returns the content of a TPM2B that fills b.
func sized(b cryptobyte.String) ([]byte, bool) {
	var content cryptobyte.String
	ok := b.ReadUint16LengthPrefixed(&content) && b.Empty()
	return content, ok
}

func explicitTag(n uint8) asn1.Tag { return asn1.Tag(n).ContextSpecific().Constructed() }

// readExplicitBool reads an optional BOOLEAN. DER writes TRUE as 0xFF, tpm2_encodeobject 5.4 as 1.
func readExplicitBool(s *cryptobyte.String, tag uint8, out *bool) bool {
	var inner, value cryptobyte.String
	var present bool
	if !s.ReadOptionalASN1(&inner, &present, explicitTag(tag)) {
		return false
	}
	if !present {
		return true
	}
	if !inner.ReadASN1(&value, asn1.BOOLEAN) || !inner.Empty() || len(value) != 1 {
		return false
	}
	*out = value[0] != 0
	return true
}

func skipExplicit(s *cryptobyte.String, tag uint8, content asn1.Tag, present *bool) bool {
	var inner cryptobyte.String
	var there bool
	if !s.ReadOptionalASN1(&inner, &there, explicitTag(tag)) {
		return false
	}
	if present != nil {
		*present = there
	}
	return !there || inner.SkipASN1(content) && inner.Empty()
}
