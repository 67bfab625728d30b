package ztp

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/inspect"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/tpm"
)

// Reason codes of files that the command line names.
const (
	codeUnreadable      reason.Code = "file-unreadable"  // it cannot be opened or read
	codeNotCertificates reason.Code = "not-certificates" // it should hold certificates and does not
	codeNotKey          reason.Code = "not-a-key"        // it should hold the private key of a certificate and does not
)

// options reads the files that the flags name.
func (f *inspectFlags) options() (o inspect.Options, err error) {
	o = inspect.Options{Clock: f.clock, Nonce: f.nonce, Lenient: f.lenient}
	if o.VoucherAnchors, err = readCertificates(f.anchors...); err != nil {
		return o, err
	}
	if o.ServerAnchors, err = readCertificates(f.serverAnchor); err != nil {
		return o, err
	}
	o.Device, err = f.knownDevice()
	return o, err
}

// knownDevice is what the flags say of the device.
func (f *inspectFlags) knownDevice() (d artifacts.Device, err error) {
	d.SerialNumber, d.AuthorityKeyID = f.serial, f.issuer
	device, err := readCertificates(f.device)
	if err != nil {
		return d, err
	}
	if len(device) > 0 {
		d.Certificate = device[0]
		if d.SerialNumber == "" {
			if d.SerialNumber, err = tpm.SerialNumber(d.Certificate, nil); err != nil {
				return d, err
			}
		}
		if d.AuthorityKeyID == nil {
			d.AuthorityKeyID = d.Certificate.AuthorityKeyId
		}
	}
	recipient, err := readCertificates(f.decryptCert)
	if err != nil {
		return d, err
	}
	if len(recipient) > 0 {
		d.Certificate = recipient[0]
	}
	if f.decryptKey == "" {
		return d, nil
	}
	return d, readKey(f.decryptKey, &d)
}

// readKey reads the private key of the certificate that d has.
func readKey(name string, d *artifacts.Device) error {
	data, err := readArtifact(name)
	if err != nil {
		return err
	}
	if err := useKey(data, d); err != nil {
		return &reason.Error{Code: codeNotKey, Msg: name, Err: err,
			Fix: "name the PEM file of the RSA or elliptic-curve key that belongs to the certificate, without a password"}
	}
	return nil
}

func useKey(data []byte, d *artifacts.Device) error {
	block, rest := pem.Decode(data)
	for block != nil && !strings.Contains(block.Type, "PRIVATE KEY") { // such as the parameters of a curve
		block, rest = pem.Decode(rest)
	}
	if block == nil {
		return errors.New("there is no private key in it")
	}
	key, err := inspect.PrivateKey(block.Bytes)
	if err != nil {
		return err
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		if key.PublicKey.Equal(d.Certificate.PublicKey) {
			d.Decrypter = key
			return nil
		}
	case *ecdsa.PrivateKey:
		if key.PublicKey.Equal(d.Certificate.PublicKey) {
			d.KeyAgreement, err = key.ECDH()
			return err
		}
	default:
		return fmt.Errorf("a key of type %T only signs", key)
	}
	return errors.New("the key belongs to another certificate")
}

// readInputs reads files, and those in folders.
func readInputs(names []string) ([]inspect.Input, error) {
	var inputs []inspect.Input
	for _, name := range names {
		inside, isFolder, err := filesIn(name)
		if err != nil {
			return nil, err
		}
		for _, file := range inside {
			data, err := readArtifact(file)
			if err != nil {
				return nil, err
			}
			if inputs = append(inputs, inspect.Input{Name: file, Data: data, Found: isFolder}); len(inputs) > inspect.MaxFiles {
				return nil, &reason.Error{Code: codeUnreadable, Msg: fmt.Sprintf("more than %d files", inspect.MaxFiles), Fix: "name fewer files"}
			}
		}
	}
	return inputs, nil
}

// filesIn returns the files of a folder, in the order of their names, or the file itself.
func filesIn(name string) (files []string, isFolder bool, err error) {
	info, err := os.Stat(name)
	if name == "-" || err == nil && !info.IsDir() {
		return []string{name}, false, nil
	}
	if err != nil {
		return nil, false, unreadable(err)
	}
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, true, unreadable(err)
	}
	for _, e := range entries {
		if e.Type().IsRegular() && !strings.HasPrefix(e.Name(), ".") {
			files = append(files, filepath.Join(name, e.Name()))
		}
	}
	if files == nil {
		return nil, true, &reason.Error{Code: codeUnreadable, Msg: "there is no file in " + name, Fix: "name a folder with artifacts in it"}
	}
	return files, true, nil
}

// readCertificates reads files of certificates, and passes over names that are empty.
func readCertificates(names ...string) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for _, name := range names {
		if name == "" {
			continue
		}
		data, err := readArtifact(name)
		if err != nil {
			return nil, err
		}
		certs, err := inspect.Certificates(data)
		if err != nil {
			return nil, &reason.Error{Code: codeNotCertificates, Msg: name, Fix: "name a file of certificates in PEM or DER", Err: err}
		}
		all = append(all, certs...)
	}
	return all, nil
}

// readArtifact reads a file, or standard input for "-", up to a little more than is looked at.
func readArtifact(name string) ([]byte, error) {
	file := os.Stdin
	if name != "-" {
		var err error
		if file, err = os.Open(name); err != nil {
			return nil, unreadable(err)
		}
		defer file.Close()
	}
	data, err := io.ReadAll(io.LimitReader(file, inspect.MaxSize+1))
	if err != nil {
		return nil, unreadable(fmt.Errorf("read %s: %w", name, err))
	}
	return data, nil
}

func unreadable(err error) error {
	return &reason.Error{Code: codeUnreadable, Fix: "check the name and the permissions of the file", Err: err}
}

// readClock reads the device's clock as --time says it.
func (f *inspectFlags) readClock(text string) error {
	if text == "none" {
		f.clock = artifacts.Clock{Confidence: artifacts.ClockNone}
		return nil
	}
	now, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return fmt.Errorf("%q is neither a time of RFC 3339, such as 2026-11-22T12:00:00Z, nor none", text)
	}
	f.clock = artifacts.Clock{Now: now, Confidence: artifacts.ClockRTC}
	return nil
}

// readIssuer reads the key identifier as --issuer says it, with or without colons.
func (f *inspectFlags) readIssuer(text string) (err error) {
	if f.issuer, err = hex.DecodeString(strings.ReplaceAll(text, ":", "")); err != nil || text == "" {
		return fmt.Errorf("%q is not hexadecimal, such as 85:d7:ee", text)
	}
	return nil
}

func (f *inspectFlags) readNonce(text string) (err error) {
	if f.nonce, err = base64.StdEncoding.DecodeString(text); err != nil || text == "" {
		return fmt.Errorf("%q is not base64", text)
	}
	return nil
}
