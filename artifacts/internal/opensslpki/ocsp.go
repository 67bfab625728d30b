package opensslpki

import (
	"encoding/pem"
	"fmt"
	"os"
	"strings"
)

// OCSP describes an OCSP response.
type OCSP struct {
	Issuer   *Entity
	Signer   *Entity // default Issuer
	Subjects []*Entity
	Revoked  []*Entity
	Strange  []*Entity // that the responder does not know
	Args     []string  // of openssl ocsp; those about certificate identifiers go before the subjects
}

// Respond has OpenSSL make a response about all subjects, revoked and strange, as of now, and returns its PEM file.
func (w *Workspace) Respond(o OCSP) string {
	if o.Signer == nil {
		o.Signer = o.Issuer
	}
	database := w.Write([]byte(index(o.Subjects, o.Revoked)))
	out := w.temp(".ocsp")
	args := append([]string{"ocsp", "-index", database, "-CA", o.Issuer.CertFile, "-rsigner", o.Signer.CertFile,
		"-rkey", o.Signer.KeyFile, "-noverify", "-respout", out}, o.Args...)
	args = append(args, "-issuer", o.Issuer.CertFile)
	for _, list := range [][]*Entity{o.Subjects, o.Revoked, o.Strange} {
		for _, e := range list {
			args = append(args, "-cert", e.CertFile)
		}
	}
	w.Run(args...)
	der, err := os.ReadFile(out)
	must(err)
	return w.WriteOCSP(der)
}

// WriteOCSP puts a response in DER into a PEM file, for Certificates and AddCRLs.
func (w *Workspace) WriteOCSP(der []byte) string {
	return w.Write(pem.EncodeToMemory(&pem.Block{Type: typeOCSP, Bytes: der}))
}

// Contents returns the DER in a PEM file that this package wrote.
func Contents(file string) []byte { return readPEM(file).Bytes }

const typeOCSP = "OCSP RESPONSE"

// index is the database of `openssl ca` with certificates that are valid and others that were revoked.
func index(valid, revoked []*Entity) string {
	const format = "060102150405Z"
	var text strings.Builder
	line := func(e *Entity, kind, at string) {
		serial := strings.ToUpper(e.Certificate.SerialNumber.Text(16))
		if len(serial)%2 == 1 {
			serial = "0" + serial
		}
		fmt.Fprintf(&text, "%s\t%s\t%s\t%[4]s\tunknown\t/CN=%[4]s\n", kind, e.Certificate.NotAfter.UTC().Format(format), at, serial)
	}
	for _, e := range valid {
		line(e, "V", "")
	}
	for _, e := range revoked {
		line(e, "R", e.Certificate.NotBefore.UTC().Format(format))
	}
	return text.String()
}
