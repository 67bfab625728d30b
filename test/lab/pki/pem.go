package pki

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// PEM returns certificates as PEM text, in the order given.
func PEM(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

// Save writes NAME.pem (the chain, leaf first, root last) and NAME.key (PKCS#8, mode 0600) into folder.
func (e *Entity) Save(folder, name string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(folder, name+".pem"), PEM(e.Chain()...), 0o644); err != nil {
		return err
	}
	if e.Key == nil {
		return nil
	}
	return SaveKey(filepath.Join(folder, name+".key"), e.Key)
}

// SaveKey writes a private key as plain PKCS#8 in PEM, for its owner's eyes only. Missing folders are made.
func SaveKey(file string, key crypto.Signer) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

// Load reads an entity from a PEM chain (leaf first) and, unless keyFile is empty, a private key.
func Load(certFile, keyFile string) (*Entity, error) {
	certs, err := ReadCertificates(certFile)
	if err != nil {
		return nil, err
	}
	e := &Entity{Certificate: certs[0]}
	last := e
	for _, c := range certs[1:] {
		last.Issuer = &Entity{Certificate: c}
		last = last.Issuer
	}
	if keyFile == "" {
		return e, nil
	}
	if e.Key, err = readKey(keyFile); err != nil {
		return nil, err
	}
	type comparable interface{ Equal(crypto.PublicKey) bool }
	if pub, ok := e.Key.Public().(comparable); !ok || !pub.Equal(e.Certificate.PublicKey) {
		return nil, fmt.Errorf("the key in %s does not belong to the first certificate in %s", keyFile, certFile)
	}
	return e, nil
}

// ReadCertificates reads all certificates of a PEM file, or the one of a DER file.
func ReadCertificates(file string) ([]*x509.Certificate, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var certs []*x509.Certificate
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		certs = append(certs, c)
	}
	if len(certs) > 0 {
		return certs, nil
	}
	c, err := x509.ParseCertificate(data)
	if err != nil {
		return nil, fmt.Errorf("%s holds no certificate, neither PEM nor DER", file)
	}
	return []*x509.Certificate{c}, nil
}

func readKey(file string) (crypto.Signer, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM private key", file)
	}
	for _, parse := range []func([]byte) (any, error){
		x509.ParsePKCS8PrivateKey,
		func(der []byte) (any, error) { return x509.ParseECPrivateKey(der) },
		func(der []byte) (any, error) { return x509.ParsePKCS1PrivateKey(der) },
	} {
		if key, err := parse(block.Bytes); err == nil {
			if signer, ok := key.(crypto.Signer); ok {
				return signer, nil
			}
		}
	}
	return nil, errors.New(file + " holds no private key that can sign: use PKCS#8, SEC 1 or PKCS#1")
}
