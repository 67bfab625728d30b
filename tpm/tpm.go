// Package tpm gives a device its identity: the IDevID key that lives in a TPM 2.0 and never leaves it, the certificate
// chain the factory stored beside it, and the serial number in that certificate. It opens a kernel TPM or a software TPM
// behind a unix socket, finds key and certificate wherever the maker put them, refuses a pair that does not match, and
// offers the key as crypto.Signer. For machines without a TPM a key in a file can stand in, which it reports loudly.
package tpm

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/x509"
	"strings"
)

// Options says where the identity is. All paths are used as they are.
type Options struct {
	TPM         string // "/dev/tpmrm0", "unix:PATH", or "" (or "none") when Key is a plain PEM private key file
	Key         string // persistent handle such as "0x81020000" (the default with a TPM), or a file: TSS2 key, or (without a TPM) PKCS#8/PKCS#1/SEC1 PEM
	Certificate string // NV index such as "0x01C90000", a PEM or DER file, or "auto" (the default)
	// DecryptKey is a second key, only for what others encrypted for this device, because IDevID keys made to the TCG's
	// templates only sign: as Key, or a PEM private key file even beside a TPM. "" for none: the IDevID key decrypts if it
	// can. DecryptCertificate is where its certificate is, as Certificate.
	DecryptKey         string
	DecryptCertificate string
	// SerialPattern finds the serial number in the subject's serialNumber attribute (2.5.4.5); nil takes the attribute whole,
	// or the SN part of the form "PID:X SN:Y".
	SerialPattern *SerialPattern
	// SerialNumber, when not empty, must equal the serial number that was extracted.
	SerialNumber string
}

// Kind says how well the identity's private key is kept.
type Kind string

// The kinds of identity.
const (
	KindTPM  Kind = "tpm"  // the key is in the TPM or wrapped by it
	KindFile Kind = "file" // the key is a file that anybody with root can copy
)

// Identity is the device's IDevID: a private key that can sign, the certificate chain for it, and the serial number.
// It is safe for concurrent use; calls into the TPM are serialised.
type Identity struct {
	Kind         Kind
	Chain        []*x509.Certificate // leaf first, intermediates after it, root left out when the factory left it out
	SerialNumber string
	Key          string   // where the key was found, for people
	Certificate  string   // where the certificate was found, for people
	Warnings     []string // what an operator should know, such as "the private key is a plain file"

	// Recipient is the certificate that others encrypt for: that of the decrypt key, or Chain[0] when there is none.
	Recipient *x509.Certificate

	identity, decryption pair  // the same without a decrypt key
	conn                 *conn // nil without a TPM
}

// Open finds the identity o describes, checks that keys and certificates belong together, and returns it. ctx bounds the
// time spent talking to the TPM. Errors are *Error.
func Open(ctx context.Context, o Options) (*Identity, error) {
	id, err := open(ctx, o)
	if err != nil {
		_ = id.Close()
		return nil, err
	}
	return id, nil
}

// open does what Open does, and returns also on failure what was found until then.
func open(ctx context.Context, o Options) (id *Identity, err error) {
	if o.TPM == "none" {
		o.TPM = ""
	}
	id = &Identity{Kind: KindFile}
	if o.TPM != "" {
		id.Kind = KindTPM
		if id.conn, err = connect(o.TPM); err != nil {
			return id, err
		}
		if strings.HasPrefix(o.TPM, "/dev/tpm") && !strings.HasPrefix(o.TPM, "/dev/tpmrm") {
			id.Warnings = append(id.Warnings, o.TPM+" has no resource manager and shuts other programs out; use /dev/tpmrm0")
		}
	}
	id.identity = pair{conn: id.conn, use: forIdentity}
	err = id.identity.find(ctx, o.Key, o.Certificate)
	id.Key, id.Certificate, id.Chain = id.identity.where, id.identity.certificate, id.identity.chain
	id.Warnings = append(id.Warnings, id.identity.warnings...)
	if err != nil {
		return id, err
	}
	if err = id.identify(o); err != nil {
		return id, err
	}
	id.decryption = id.identity
	if o.DecryptKey != "" {
		id.decryption = pair{conn: id.conn, use: forDecryption}
		err = id.decryption.find(ctx, o.DecryptKey, o.DecryptCertificate)
		id.Warnings = append(id.Warnings, id.decryption.warnings...)
		if err != nil {
			return id, err
		}
	}
	id.Recipient = id.decryption.chain[0]
	return id, nil
}

// identify sets the serial number, which must be the configured one if there is one.
func (id *Identity) identify(o Options) (err error) {
	if id.SerialNumber, err = SerialNumber(id.Chain[0], o.SerialPattern); err != nil {
		return err
	}
	if o.SerialNumber != "" && o.SerialNumber != id.SerialNumber {
		return &Error{Code: CodeSerialMismatch,
			Msg: "the certificate in " + id.Certificate + " is for serial number " + quote(id.SerialNumber) +
				", but this device is configured to be " + quote(o.SerialNumber),
			Fix: "remove device.serial-number from the configuration, or install the certificate made for this device"}
	}
	return nil
}

// privateKey is what an Identity needs of its key, wherever it is kept.
type privateKey interface {
	crypto.Signer
	signatures() int64
	probes() int64
	capabilities(context.Context) (capabilities, error)
	decrypter() (crypto.Decrypter, error)
	ecdh(*ecdh.PublicKey) ([]byte, error)
	mayAgree() error
}

// Signer returns the private key. It supports ECDSA, RSA PKCS#1 v1.5 and, where the TPM can, RSA PSS.
func (id *Identity) Signer() crypto.Signer { return id.identity.key }

// Signatures returns how many signatures the private key has made since Open.
func (id *Identity) Signatures() int64 { return id.identity.key.signatures() }

// Probes returns how many signatures were made only to learn what the key can do: at most one, and only for an RSA key
// in a TPM, whose PSS salt length cannot be known in another way. They are not counted by Signatures.
func (id *Identity) Probes() int64 { return id.identity.key.probes() }

// Decrypter returns the key of Recipient for RSA decryption: RSAES-PKCS1-v1_5, and RSAES-OAEP with any hashes and label
// unless the key is bound to a scheme. IDevID keys made to the TCG's templates can only sign; for them the error says so,
// with code identity-key-unusable.
func (id *Identity) Decrypter() (crypto.Decrypter, error) { return id.decryption.key.decrypter() }

// ECDH returns the x-coordinate of the shared point of the key of Recipient and peer, whose curve must be the key's own
// (NIST SP 800-56A, 5.7.1.2). Keys that cannot give an *Error with code identity-key-unusable.
func (id *Identity) ECDH(peer *ecdh.PublicKey) ([]byte, error) { return id.decryption.key.ecdh(peer) }

// MayAgree returns nil when ECDH can be used, and otherwise the *Error with which it would refuse.
func (id *Identity) MayAgree() error { return id.decryption.key.mayAgree() }

// DecryptionKey says where the key is that opens what others encrypted for this device, or why there is none: an *Error
// with code identity-key-unusable.
func (id *Identity) DecryptionKey() (where string, err error) {
	if _, err = id.Decrypter(); err != nil && id.MayAgree() != nil {
		return "", err
	}
	return id.decryption.where, nil
}

// Close releases the TPM and interrupts a signature in progress. The identity cannot sign afterwards when its key is
// in the TPM.
func (id *Identity) Close() error {
	if id.conn == nil {
		return nil
	}
	return id.conn.Close()
}
