// Package tpm gives a device its identity: the IDevID key that lives in a TPM 2.0 and never leaves it, the certificate
// chain the factory stored beside it, and the serial number in that certificate. It opens a kernel TPM or a software TPM
// behind a unix socket, finds key and certificate wherever the maker put them, refuses a pair that does not match, and
// offers the key as crypto.Signer. For machines without a TPM a key in a file can stand in, which it reports loudly.
package tpm

import (
	"context"
	"crypto"
	"crypto/x509"
	"io"
	"regexp"
)

// Options says where the identity is. All paths are used as they are.
type Options struct {
	TPM         string // "/dev/tpmrm0", "unix:PATH", or "" when Key is a plain PEM private key file
	Key         string // persistent handle such as "0x81020000", or a file: TSS2 key, or (without a TPM) PKCS#8/PKCS#1/SEC1 PEM
	Certificate string // NV index such as "0x01C90000", a PEM or DER file, or "auto"
	// SerialPattern extracts the serial number from the subject's serialNumber attribute (2.5.4.5) with its first
	// capture group; nil takes the attribute whole, or the SN part of the form "PID:X SN:Y".
	SerialPattern *regexp.Regexp
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

	signer crypto.Signer
	closer io.Closer
}

// Open finds the identity o describes, checks that key and certificate belong together, and returns it. ctx bounds the
// time spent talking to the TPM. Errors are *Error.
func Open(ctx context.Context, o Options) (*Identity, error) { panic("seam") }

// Signer returns the private key. It supports ECDSA, RSA PKCS#1 v1.5 and, where the TPM can, RSA PSS.
func (id *Identity) Signer() crypto.Signer { return id.signer }

// Signatures returns how many signatures the private key has made since Open.
func (id *Identity) Signatures() int64 { panic("seam") }

// Close releases the TPM.
func (id *Identity) Close() error { panic("seam") }
