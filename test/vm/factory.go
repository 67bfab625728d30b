package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/xpu-sztp/ztp/test/lab"
	"github.com/xpu-sztp/ztp/test/lab/pki"
	"github.com/xpu-sztp/ztp/test/lab/softtpm"
)

const (
	serial = "VM-000001"
	model  = "LabVM-1"
)

// decryptKey is the handle of a second key, by which others encrypt for the device.
const decryptKey = "0x81020010"

// identify is what README.md says that a maker does with each device: an IDevID key in the device's own TPM, certified by the
// maker's authority. root is a folder for the program's configuration; the TPM's state, in tpm, is what goes into the machine.
// The certificate of the second key, which only says for which key to encrypt, is the result; nil unless encrypts is set.
func identify(ctx context.Context, l *lab.Lab, ztp, root, tpm, template string, encrypts bool) (*x509.Certificate, error) {
	chip := &softtpm.TPM{Socket: filepath.Join(root, "tpm.sock"), State: tpm}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, err
	}
	if err := chip.Start(ctx); err != nil {
		return nil, err
	}
	defer chip.Stop()
	if err := writeFile(filepath.Join(root, "usr/lib/ztp/ztp.toml"), "[identity]\ntpm = \"unix:/tpm.sock\"\n"); err != nil {
		return nil, err
	}
	request, err := output(ctx, ztp, "identity", "csr", "--root", root, "--template", template, "--serial", serial,
		"--subject", "O=Maker,CN="+model)
	if err != nil {
		return nil, err
	}
	idevid, err := certify(l, request)
	if err != nil {
		return nil, err
	}
	device, authority := filepath.Join(root, "device.pem"), filepath.Join(root, "maker-ca.pem")
	if err := errors.Join(os.WriteFile(device, pki.PEM(idevid.Certificate), 0o644),
		os.WriteFile(authority, pki.PEM(l.Maker.IDevIDCA.Certificate), 0o644)); err != nil {
		return nil, err
	}
	if _, err := output(ctx, ztp, "identity", "install", "--root", root, device, authority); err != nil {
		return nil, err
	}
	if _, err := output(ctx, ztp, "identity", "show", "--root", root); err != nil {
		return nil, fmt.Errorf("the agent cannot use the identity: %w", err)
	}
	l.MASA.Sell(serial, l.Owner.Root.Certificate)
	// A power cut while the key is in use counts as a wrong password, of which this TPM would take three.
	if _, err := output(ctx, "tpm2_dictionarylockout", "-s", "-n", "31", "-t", "600", "-l", "86400", "-T", "swtpm:path="+chip.Socket); err != nil {
		return nil, err
	}
	if !encrypts {
		return nil, nil
	}
	return secondKey(ctx, l, root, chip.Socket)
}

// secondKey makes a key that decrypts, with the usual tools.
func secondKey(ctx context.Context, l *lab.Lab, dir, socket string) (*x509.Certificate, error) {
	file := func(name string) string { return filepath.Join(dir, name) }
	for _, command := range [][]string{
		{"tpm2_createprimary", "-C", "e", "-G", "ecc256:null:null", "-a", "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|decrypt",
			"-c", file("key.ctx")},
		{"tpm2_evictcontrol", "-C", "o", "-c", file("key.ctx"), decryptKey},
		{"tpm2_readpublic", "-c", decryptKey, "-f", "der", "-o", file("decrypt.der")},
	} {
		if _, err := output(ctx, command[0], append(command[1:], "-T", "swtpm:path="+socket)...); err != nil {
			return nil, err
		}
	}
	der, err := os.ReadFile(file("decrypt.der"))
	if err != nil {
		return nil, err
	}
	public, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, err
	}
	e, err := l.Maker.IDevIDCA.Certify(pki.Profile{CommonName: model + " decrypts", KeyUsage: x509.KeyUsageKeyAgreement, NotAfter: pki.Forever}, public)
	if err != nil {
		return nil, err
	}
	return e.Certificate, nil
}

// certify plays the maker's certification authority.
func certify(l *lab.Lab, request []byte) (*pki.Entity, error) {
	block, _ := pem.Decode(request)
	if block == nil {
		return nil, errors.New("ztp identity csr printed no PEM")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("the certificate request: %w", err)
	}
	return l.Maker.IDevID(csr.PublicKey, csr.Subject.CommonName, csr.Subject.SerialNumber, "https://"+l.MASAAt.String())
}

// output returns what a command prints.
func output(ctx context.Context, name string, args ...string) ([]byte, error) {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("%s %.3q: %w: %s", filepath.Base(name), args, err, exit.Stderr)
	}
	return out, err
}
