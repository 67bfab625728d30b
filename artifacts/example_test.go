package artifacts_test

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
)

// A device executes what the owner signed whom a voucher of the device's maker names, and what says so.
func ExampleValidate() {
	bundle := artifacts.Bundle{ // as a bootstrap server sent it
		ConveyedInformation: example("ci.cms"),
		OwnerCertificate:    example("oc.cms"),
		OwnershipVoucher:    example("ov.vcj"),
	}
	block, _ := pem.Decode(example("maker.pem"))
	maker, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		log.Fatal(err)
	}
	policy := artifacts.Policy{
		VoucherAnchors: []*x509.Certificate{maker},
		Clock:          artifacts.Clock{Now: time.Date(2027, 6, 1, 0, 0, 0, 0, time.UTC), Confidence: artifacts.ClockRTC},
	}

	for _, serial := range []string{"AC-000123", "AC-000666"} {
		conveyed, trail, err := artifacts.Validate(bundle, nil, artifacts.Device{SerialNumber: serial}, policy)
		var refusal *artifacts.Error
		if errors.As(err, &refusal) {
			fmt.Printf("%s at %s: %s\n", refusal.Code, refusal.Step, refusal.Fix)
			continue
		}
		fmt.Println(len(trail.Steps), "checks passed, image", conveyed.Onboarding.BootImage().OSVersion)
	}
	// Output:
	// 15 checks passed, image 4.3.1
	// voucher-serial-mismatch at voucher serial number: get a voucher for this device
}

// Whoever makes vouchers sees what a device would say of one.
func ExampleValidateVoucher() {
	block, _ := pem.Decode(example("maker.pem"))
	maker, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		log.Fatal(err)
	}
	trail, _, err := artifacts.ValidateVoucher(example("ov.vcj"), artifacts.Device{SerialNumber: "AC-000123"},
		artifacts.Policy{VoucherAnchors: []*x509.Certificate{maker}})
	if err != nil {
		log.Fatal(err)
	}
	for _, step := range trail.Steps[1:4] {
		fmt.Printf("%s: %s\n", step.Step, step.Detail)
	}
	// Output:
	// voucher signature: by CN=Acme MASA,O=Acme
	// voucher contents: pins CN=Owner root,O=Owner
	// voucher dates: not checked: the clock is not accurate
}

// example reads an artifact that OpenSSL made.
func example(name string) []byte {
	data, err := os.ReadFile(filepath.Join("..", "pkg", "inspect", "testdata", name))
	if err != nil {
		log.Fatal(err)
	}
	return data
}
