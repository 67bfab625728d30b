package tpm

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// WriteCertificate stores one DER certificate in an NV index (IDevIDCertificate for the usual place) that everybody can
// read and the owner can write.
func (f Factory) WriteCertificate(ctx context.Context, index uint32, der []byte) error {
	if _, err := x509.ParseCertificate(der); err != nil {
		return &Error{Code: CodeFailure, Msg: "this is not a certificate", Err: err, Fix: "give one DER certificate"}
	}
	return f.run(ctx, "storing a certificate", func(s *session) error {
		return f.storeCertificate(s, tpm2.TPMHandle(index), der)
	})
}

func (f Factory) storeCertificate(s *session, index tpm2.TPMHandle, der []byte) error {
	limit, err := property(s, tpm2.TPMPTNVIndexMax)
	if err != nil {
		return err
	}
	if limit > 0 && len(der) > int(limit) {
		return &Error{Code: CodeFull,
			Msg: fmt.Sprintf("the certificate has %d bytes but an NV index of this TPM only holds %d", len(der), limit),
			Fix: "keep the certificate in a file, or make it smaller"}
	}
	return f.writeIndex(s, index, der)
}

// WriteChain stores the certificates above the device's, each the issuer of the one before, in NV index IDevIDChain and
// as many after it as they need.
func (f Factory) WriteChain(ctx context.Context, ders ...[]byte) error {
	content := bytes.Join(ders, nil)
	if certs, err := parseCertificates(content); err != nil || len(certs) != len(ders) {
		return &Error{Code: CodeFailure, Msg: "these are not certificates", Err: err, Fix: "give DER certificates"}
	}
	return f.run(ctx, "storing the certificate chain", func(s *session) error { return f.storeChain(s, content) })
}

func (f Factory) storeChain(s *session, content []byte) error {
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
		return occupied(fmt.Sprintf("NV index 0x%08X exists already", uint32(handle)))
	}
	return s.authorized(tpm2.TPMRHOwner, f.OwnerPassword, func(owner tpm2.AuthHandle) error {
		_, err := s.execute(nvUndefineSpace(owner, old.named()))
		return err
	})
}

// writeIndex stores content so that everybody reads it without a password and nobody changes it by accident: the index is
// locked, and who wants to replace it removes it first. The beginning is written last, so that an index that was being
// written when the power failed does not look like a certificate.
func (f Factory) writeIndex(s *session, handle tpm2.TPMHandle, content []byte) error {
	if err := f.clearIndex(s, handle); err != nil {
		return err
	}
	chunk, err := property(s, tpm2.TPMPTNVBufferMax)
	if err != nil {
		return err
	}
	if chunk == 0 {
		chunk = defaultNVRead
	}
	if err := f.define(s, handle, len(content)); err != nil {
		return err
	}
	for offset := (len(content) - 1) / int(chunk) * int(chunk); offset >= 0; offset -= int(chunk) {
		part := content[offset:min(offset+int(chunk), len(content))]
		err := f.change(s, handle, func(owner, index tpm2.AuthHandle) *command { return nvWrite(owner, index, part, offset) })
		if err != nil {
			return err
		}
	}
	return f.change(s, handle, nvWriteLock)
}

func (f Factory) define(s *session, handle tpm2.TPMHandle, size int) error {
	return s.authorized(tpm2.TPMRHOwner, f.OwnerPassword, func(owner tpm2.AuthHandle) error {
		_, err := s.execute(nvDefineSpace(owner, tpm2.TPMSNVPublic{
			NVIndex: handle,
			NameAlg: tpm2.TPMAlgSHA256,
			Attributes: tpm2.TPMANV{
				OwnerWrite: true, WriteDefine: true, OwnerRead: true, AuthRead: true, PPRead: true, NoDA: true,
				NT: tpm2.TPMNTOrdinary,
			},
			DataSize: uint16(size),
		}))
		return err
	})
}

// change runs a command that changes an NV index and with it perhaps its attributes, which are part of its name.
func (f Factory) change(s *session, handle tpm2.TPMHandle, with func(owner, index tpm2.AuthHandle) *command) error {
	index, err := describe(s, handle)
	if err != nil {
		return err
	}
	return s.authorized(tpm2.TPMRHOwner, f.OwnerPassword, func(owner tpm2.AuthHandle) error {
		_, err := s.execute(with(owner, index.named()))
		return err
	})
}
