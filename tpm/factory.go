package tpm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// Template names a kind of IDevID key: the TCG's templates for device identities, by their names there.
type Template string

// The templates of IDevID keys.
const (
	RSA2048 Template = "H-1" // RSA 2048, SHA-256
	P256    Template = "H-2" // NIST P-256, SHA-256
	P384    Template = "H-3" // NIST P-384, SHA-384
	RSA3072 Template = "H-6" // RSA 3072, SHA-384
)

// Where the TCG places a device's identity.
const (
	IDevIDHandle      uint32 = 0x81020000    // persistent handle of the key
	IDevIDCertificate uint32 = identityFirst // NV index of the certificate
	IDevIDChain       uint32 = chainFirst    // NV index of the certificates above it, continued in those after it
)

// Policies of IDevID keys, which let the owner of the endorsement hierarchy administer them.
const (
	policySHA256 = "ad6b3a2284fd698a0710bf5cc1b9bdf15e2532e3f601fa4b93a6a8fa8de579ea"
	policySHA384 = "4db1aa836d0b5615df6ee53a40ef70c61c217f4303d44695925972bc927006cfa5cbdf6dc18c4dbe329b2f1542c3dd33"
)

// Factory provisions a TPM with a device identity: what a maker does once, and a lab for each device. The owner and
// endorsement hierarchies must have empty passwords.
type Factory struct {
	TPM       string // as in Options
	Overwrite bool   // replace keys and NV indices that exist instead of refusing with code tpm-occupied
}

// CreateIDevID creates an IDevID key in the endorsement hierarchy, keeps it at a persistent handle (IDevIDHandle for the
// usual place) and returns its public key. The same TPM makes the same key again until its endorsement seed changes.
func (f Factory) CreateIDevID(ctx context.Context, template Template, handle uint32) (public crypto.PublicKey, err error) {
	area, err := template.area()
	if err != nil {
		return nil, err
	}
	if handle < persistentFirst || handle > persistentLast {
		return nil, &Error{Code: CodeFailure, Msg: fmt.Sprintf("%#08x is not a persistent handle", handle),
			Fix: "use 0x81020000"}
	}
	err = f.run(ctx, "creating the IDevID key", func(s *session) error {
		occupied, err := f.vacant(s, handle)
		if err != nil {
			return err
		}
		rsp, err := tpm2.CreatePrimary{
			PrimaryHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)},
			InPublic:      tpm2.New2B(area),
		}.Execute(s)
		if err != nil {
			return err
		}
		defer s.flush(rsp.ObjectHandle)
		if occupied != nil {
			if err := evict(s, *occupied, occupied.Handle); err != nil {
				return err
			}
		}
		created := tpm2.NamedHandle{Handle: rsp.ObjectHandle, Name: rsp.Name}
		if err := evict(s, created, tpm2.TPMHandle(handle)); err != nil {
			return err
		}
		actual, err := rsp.OutPublic.Contents()
		if err != nil {
			return err
		}
		public, err = publicKey(actual)
		return err
	})
	return public, err
}

// vacant returns what is at a persistent handle, nil for nothing, and an error when it must stay.
func (f Factory) vacant(s *session, handle uint32) (*tpm2.NamedHandle, error) {
	_, name, err := readPublic(s, tpm2.TPMHandle(handle))
	switch {
	case errors.Is(err, tpm2.TPMRCHandle):
		return nil, nil
	case err != nil:
		return nil, err
	case !f.Overwrite:
		return nil, &Error{Code: CodeOccupied, Msg: fmt.Sprintf("there is a key at %#08x already", handle),
			Fix: "leave it, or ask for it to be overwritten"}
	}
	return &tpm2.NamedHandle{Handle: tpm2.TPMHandle(handle), Name: name}, nil
}

func evict(s *session, object tpm2.NamedHandle, persistent tpm2.TPMHandle) error {
	_, err := tpm2.EvictControl{Auth: owner(), ObjectHandle: object, PersistentHandle: persistent}.Execute(s)
	return err
}

// WriteCertificate stores one DER certificate in an NV index (IDevIDCertificate for the usual place) that everybody can
// read and the owner can write.
func (f Factory) WriteCertificate(ctx context.Context, index uint32, der []byte) error {
	if _, err := x509.ParseCertificate(der); err != nil {
		return &Error{Code: CodeFailure, Msg: "this is not a certificate", Err: err, Fix: "give one DER certificate"}
	}
	return f.run(ctx, "storing a certificate", func(s *session) error {
		limit, err := property(s, tpm2.TPMPTNVIndexMax)
		if err != nil {
			return err
		}
		if limit > 0 && len(der) > int(limit) {
			return &Error{Code: CodeFailure,
				Msg: fmt.Sprintf("the certificate has %d bytes but an NV index of this TPM only holds %d", len(der), limit),
				Fix: "keep the certificate in a file, or make it smaller"}
		}
		return f.writeIndex(s, tpm2.TPMHandle(index), der)
	})
}

// WriteChain stores the certificates above the device's, each the issuer of the one before, in NV index IDevIDChain and
// as many after it as they need.
func (f Factory) WriteChain(ctx context.Context, ders ...[]byte) error {
	content := bytes.Join(ders, nil)
	if certs, err := parseCertificates(content); err != nil || len(certs) != len(ders) {
		return &Error{Code: CodeFailure, Msg: "these are not certificates", Err: err, Fix: "give DER certificates"}
	}
	return f.run(ctx, "storing the certificate chain", func(s *session) error {
		limit, err := property(s, tpm2.TPMPTNVIndexMax)
		if err != nil {
			return err
		}
		if limit == 0 {
			limit = maxNVRead
		}
		// What an earlier, longer chain left behind would be read as part of this one.
		occupied, err := handles(s, chainFirst, chainLast, chainLast-chainFirst+1)
		if err != nil {
			return err
		}
		for _, h := range occupied {
			if err := f.clearIndex(s, h); err != nil {
				return err
			}
		}
		for index := tpm2.TPMHandle(chainFirst); len(content) > 0; index++ {
			if index > chainLast {
				return &Error{Code: CodeFailure, Msg: "the certificate chain is too long", Fix: "leave out certificates"}
			}
			n := min(len(content), int(limit))
			if err := f.writeIndex(s, index, content[:n]); err != nil {
				return err
			}
			content = content[n:]
		}
		return nil
	})
}

// clearIndex removes an NV index if there is one and it may be overwritten.
func (f Factory) clearIndex(s *session, handle tpm2.TPMHandle) error {
	old, err := describe(s, handle)
	switch {
	case errors.Is(err, tpm2.TPMRCHandle):
		return nil
	case err != nil:
		return err
	case !f.Overwrite:
		return &Error{Code: CodeOccupied, Msg: fmt.Sprintf("NV index 0x%08X exists already", uint32(handle)),
			Fix: "leave it, or ask for it to be overwritten"}
	}
	_, err = tpm2.NVUndefineSpace{
		AuthHandle: owner(), NVIndex: tpm2.NamedHandle{Handle: handle, Name: old.name}}.Execute(s)
	return err
}

func (f Factory) writeIndex(s *session, handle tpm2.TPMHandle, content []byte) error {
	if err := f.clearIndex(s, handle); err != nil {
		return err
	}
	_, err := tpm2.NVDefineSpace{
		AuthHandle: owner(),
		PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
			NVIndex: handle,
			NameAlg: tpm2.TPMAlgSHA256,
			Attributes: tpm2.TPMANV{
				OwnerWrite: true, OwnerRead: true, AuthRead: true, PPRead: true, NoDA: true, NT: tpm2.TPMNTOrdinary,
			},
			DataSize: uint16(len(content)),
		}),
	}.Execute(s)
	if err != nil {
		return err
	}
	chunk, err := property(s, tpm2.TPMPTNVBufferMax)
	if err != nil {
		return err
	}
	if chunk == 0 {
		chunk = defaultNVRead
	}
	for offset := 0; offset < len(content); {
		// The first write changes the index's name, because it sets the attribute Written.
		index, err := describe(s, handle)
		if err != nil {
			return err
		}
		n := min(len(content)-offset, int(chunk))
		_, err = tpm2.NVWrite{
			AuthHandle: owner(),
			NVIndex:    tpm2.NamedHandle{Handle: handle, Name: index.name},
			Data:       tpm2.TPM2BMaxNVBuffer{Buffer: content[offset : offset+n]},
			Offset:     uint16(offset),
		}.Execute(s)
		if err != nil {
			return err
		}
		offset += n
	}
	return nil
}

func (f Factory) run(ctx context.Context, doing string, operation func(*session) error) error {
	c, err := connect(f.TPM)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.do(ctx, keygenTimeout, doing, operation)
}

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
	if t == P384 || t == RSA3072 {
		area.NameAlg, policy = tpm2.TPMAlgSHA384, policySHA384
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
	default:
		return area, &Error{Code: CodeFailure, Msg: "there is no key template " + quote(string(t)),
			Fix: "use H-1, H-2, H-3 or H-6"}
	}
	return area, nil
}
