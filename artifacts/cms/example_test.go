package cms_test

import (
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/xpu-sztp/ztp/artifacts/cms"
)

// Parse verifies nothing: whom to believe, and of what certificate, is the caller's decision.
func ExampleParse() {
	der, err := os.ReadFile("../../pkg/inspect/testdata/ov.vcj")
	if err != nil {
		log.Fatal(err)
	}
	message, err := cms.Parse(der)
	if err != nil {
		log.Fatal(err)
	}
	signed := message.Signed
	if signed == nil {
		log.Fatal("not signed")
	}
	signer := signed.Certificates[0] // which the caller would first find trustworthy
	fmt.Println(signed.ContentType.Equal(cms.TypeVoucherJSON), cms.NameOf(signer.RawSubject), signed.SignedBy(signer))

	signed.Content[20] ^= 1
	fmt.Println(errors.Is(signed.SignedBy(signer), cms.ErrSignature))
	// Output:
	// true CN=Acme MASA,O=Acme <nil>
	// true
}
