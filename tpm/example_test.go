package tpm_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/xpu-sztp/ztp/tpm"
)

// With a TPM, Options{TPM: "/dev/tpmrm0"} finds key and certificate where the factory put them. Without one, both are files.
func ExampleOpen() {
	folder, err := os.MkdirTemp("", "identity")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(folder)
	key, certificate := writeIdentity(folder)

	id, err := tpm.Open(context.Background(), tpm.Options{TPM: "none", Key: key, Certificate: certificate})
	if err != nil {
		log.Fatal(err)
	}
	defer id.Close()
	_, _, err = id.TLSCertificate(context.Background())
	fmt.Println(id.Kind, id.SerialNumber, len(id.Warnings), err)
	// Output:
	// file AC-000123 1 <nil>
}

// writeIdentity makes a key and a self-signed certificate with a serial number in its subject.
func writeIdentity(folder string) (keyFile, certificateFile string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "X100", SerialNumber: "AC-000123"},
		NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		log.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		log.Fatal(err)
	}
	write := func(name, label string, der []byte) string {
		file := filepath.Join(folder, name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der}), 0o600); err != nil {
			log.Fatal(err)
		}
		return file
	}
	return write("device.key", "PRIVATE KEY", private), write("device.pem", "CERTIFICATE", certificate)
}
