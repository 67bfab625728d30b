package cms

import (
	"encoding/asn1"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var (
	oidContentType   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	oidSigningTime   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 5}
)

// attribute is RFC 5652 §5.3. What is known has one value (§11.1 to §11.3); others may have several.
type attribute struct {
	kind   asn1.ObjectIdentifier
	values cryptobyte.String
}

func readAttributes(in cryptobyte.String) ([]attribute, error) {
	elements, err := elements(in, maxAttributes, "attributes")
	if err != nil {
		return nil, err
	}
	list := make([]attribute, len(elements))
	for i, der := range elements {
		var body cryptobyte.String
		if !der.ReadASN1(&body, casn1.SEQUENCE) || !body.ReadASN1ObjectIdentifier(&list[i].kind) ||
			!body.ReadASN1(&list[i].values, casn1.SET) || !body.Empty() {
			return nil, malformed("attribute")
		}
	}
	return list, nil
}

// unique refuses attributes that are there twice, as RFC 5652 §5.3 does for those that are signed or authenticated.
func unique(list []attribute) error {
	for i, a := range list {
		if slices.ContainsFunc(list[:i], func(other attribute) bool { return other.kind.Equal(a.kind) }) {
			return malformed("attribute %v appears twice", a.kind)
		}
	}
	return nil
}

// contentType returns the value of a content-type attribute.
func (a attribute) contentType() (kind asn1.ObjectIdentifier, err error) {
	if !a.values.ReadASN1ObjectIdentifier(&kind) || !a.values.Empty() {
		return nil, malformed("content-type attribute")
	}
	return kind, nil
}

// parseSignedAttributes takes the content type and the message digest from the signed attributes.
func (s *Signer) parseSignedAttributes(in cryptobyte.String) error {
	list, err := readAttributes(in)
	if err == nil {
		err = unique(list)
	}
	for i := 0; i < len(list) && err == nil; i++ {
		a := list[i]
		var value cryptobyte.String
		var tag casn1.Tag
		switch {
		case a.kind.Equal(oidContentType):
			s.contentType, err = a.contentType()
		case a.kind.Equal(oidMessageDigest):
			if !a.values.ReadASN1(&value, casn1.OCTET_STRING) || !a.values.Empty() {
				err = malformed("message-digest attribute")
			}
			s.messageDigest = value
		case a.kind.Equal(oidSigningTime):
			if !a.values.ReadAnyASN1(&value, &tag) || !a.values.Empty() || tag != casn1.UTCTime && tag != casn1.GeneralizedTime {
				err = malformed("signing-time attribute")
			}
		}
	}
	return err
}

// checkUnsignedAttributes makes sure that nothing unsigned looks as if it were signed.
func checkUnsignedAttributes(in cryptobyte.String) error {
	list, err := readAttributes(in)
	if err != nil {
		return err
	}
	for _, a := range list {
		if a.kind.Equal(oidContentType) || a.kind.Equal(oidMessageDigest) || a.kind.Equal(oidSigningTime) {
			return malformed("attribute %v is not signed", a.kind)
		}
	}
	return nil
}
