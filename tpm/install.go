package tpm

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"
)

// Install stores the certificate of the key o names, and the chain above it, in the TPM, and returns the identity as it is
// found afterwards, still open. files are PEM or DER, in any order. o.Certificate is the NV index for the certificate
// (IDevIDCertificate for the usual place); the chain goes to IDevIDChain. Before anything is written, the certificate must be
// for the key and carry a serial number, that of o if it has one, and the others must be the chain above it: nothing
// else is accepted, with code identity-chain-invalid. What is there already stays as it is when it is the same.
func (f Factory) Install(ctx context.Context, o Options, files ...string) (*Identity, error) {
	o.TPM, o.DecryptKey = f.TPM, ""
	index, ok := parseHandle(o.Certificate)
	if !ok || index < nvFirst || index > nvLast || index >= chainFirst && index <= chainLast || isPolicyIndex(index) {
		return nil, &Error{Code: CodeFailure, Msg: quote(o.Certificate) + " is not an NV index for a certificate",
			Fix: "use 0x01C90000"}
	}
	w, err := f.plan(ctx, o, index, files)
	if err != nil {
		return nil, err
	}
	err = f.run(ctx, "storing certificates", func(s *session) error {
		// The device's own certificate goes first and comes last: when it is there, so is everything above it.
		if w.issuers != nil && w.leaf != nil {
			if err := f.clearIndex(s, index); err != nil {
				return err
			}
		}
		if w.issuers != nil {
			if err := f.storeChain(s, w.issuers); err != nil {
				return err
			}
		}
		if w.leaf != nil {
			return f.storeCertificate(s, index, w.leaf)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return w.check(Open(ctx, o))
}

// writing is what has to be written: nil for what is there already.
type writing struct {
	leaf, issuers []byte
	chain         []*x509.Certificate // what must be read afterwards
}

// plan judges the certificates and compares them with what is in the TPM.
func (f Factory) plan(ctx context.Context, o Options, index tpm2.TPMHandle, files []string) (*writing, error) {
	c, err := f.connect()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	p := pair{conn: c, use: forIdentity}
	if err := p.findKey(ctx, o.Key); err != nil {
		return nil, err
	}
	chain, err := p.certify(files)
	if err != nil {
		return nil, err
	}
	id := Identity{Chain: chain, Certificate: "the files"}
	if err := id.identify(o); err != nil {
		return nil, err
	}
	w := &writing{chain: chain}
	if w.leaf, err = f.missing(ctx, c, index, index, chain[:1]); err != nil || len(chain) == 1 {
		return w, err
	}
	w.issuers, err = f.missing(ctx, c, chainFirst, chainLast, chain[1:])
	if w.issuers != nil && f.Overwrite {
		w.leaf = chain[0].Raw
	}
	return w, err
}

// certify returns the certificates in files as the chain of the key, and refuses any that does not belong to it.
func (p *pair) certify(files []string) ([]*x509.Certificate, error) {
	var given shelf
	for _, file := range files {
		content, err := readFile(file)
		if err != nil {
			return nil, &Error{Code: CodeCertificateMissing, Msg: "cannot read a certificate", Err: err,
				Fix: "name files with PEM or DER certificates"}
		}
		if certs, err := parseCertificates(content); err == nil && len(certs) == 0 {
			given.notes = append(given.notes, file+" holds no certificate")
		}
		given.add(file, content)
	}
	if len(given.notes) > 0 {
		return nil, &Error{Code: CodeCertificateMissing, Msg: "not everything is a certificate: " + given.notes[0],
			Fix: "name files with PEM or DER certificates and nothing else"}
	}
	leaf, err := given.match(p.key.Public(), "the files", p.where, true)
	if err != nil {
		return nil, err
	}
	chain := buildChain(leaf.Certificate, given.found)
	for _, l := range given.found {
		switch used := slices.ContainsFunc(chain, l.Equal); {
		case !used:
			return nil, &Error{Code: CodeChainInvalid,
				Msg: quote(l.Subject.String()) + " in " + l.where + " is not in the chain above " + quote(leaf.Subject.String()),
				Fix: "leave it out, or add the certificates in between"}
		case !l.IsCA && !l.Equal(leaf.Certificate):
			return nil, &Error{Code: CodeChainInvalid, Fix: "ask the certification authority for its certificates",
				Msg: quote(l.Subject.String()) + " in " + l.where + " issued a certificate but is not one of a certification authority"}
		}
	}
	return chain, nil
}

// missing returns the DER of certs when the NV indices between first and last do not hold just that, and an error when they
// hold something else that must stay.
func (f Factory) missing(ctx context.Context, c *conn, first, last tpm2.TPMHandle, certs []*x509.Certificate) ([]byte, error) {
	var want, found []byte
	for _, cert := range certs {
		want = append(want, cert.Raw...)
	}
	var indices []tpm2.TPMHandle
	err := c.do(ctx, commandTimeout, "listing NV indices", func(s *session) (err error) {
		indices, err = handles(s, first, last, maxIndices)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, index := range indices {
		content, err := c.readNV(ctx, index, false)
		if err != nil && !isRefusal(err) {
			return nil, err
		}
		found = append(found, content...)
	}
	switch {
	case bytes.Equal(want, found):
		return nil, nil
	case len(indices) > 0 && !f.Overwrite:
		return nil, occupied(fmt.Sprintf("NV index 0x%08X holds something else already", uint32(indices[0])))
	}
	return want, nil
}

// check compares what was read back with what was to be written.
func (w *writing) check(id *Identity, err error) (*Identity, error) {
	if err != nil {
		return nil, err
	}
	same := len(id.Chain) >= len(w.chain) && slices.EqualFunc(w.chain, id.Chain[:len(w.chain)], (*x509.Certificate).Equal)
	if !same {
		err := errors.New("what was read back is not what was written")
		return nil, errors.Join(explain("storing certificates", err), id.Close())
	}
	return id, nil
}
