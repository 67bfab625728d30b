package ztp

import (
	"cmp"
	"context"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/xpu-sztp/ztp/cmd/internal/command"
	"github.com/xpu-sztp/ztp/tpm"
)

func (a *app) requestCertificate(path *string) *command.Command {
	serial, template := "", string(tpm.P256)
	var making factory
	var number uint64
	var name pkix.Name
	return &command.Command{
		Name:  "csr",
		Short: "Create the IDevID key and print a certificate request for it",
		Long: "Create the IDevID key in the TPM's endorsement hierarchy, keep it at a persistent handle, and print a certificate\n" +
			"request (PKCS#10) that it signed. The templates are the TCG's: H-1 is RSA 2048, H-2 ECC P-256, H-3 ECC P-384, H-4\n" +
			"ECC P-521, H-6 RSA 3072; few TPMs have the last two. A TPM makes the same key of a template again, so that the command\n" +
			"can be repeated.",
		Flags: append([]command.Flag{
			{Name: "serial", Arg: "SN", Text: &serial, Required: true, Usage: "serial number of the device, for the subject"},
			{Name: "subject", Arg: "NAME", Parse: func(text string) (err error) { name, err = parseSubject(text); return err },
				Usage: `the rest of the subject, such as "C=DE,O=Maker,CN=Model X" (\ before a comma that is none)`},
			{Name: "template", Arg: templates, Text: &template, Usage: "kind of key"},
			{Name: "handle", Arg: "HANDLE", Parse: func(text string) (err error) { number, err = parseHandle(text); return err },
				Usage: "persistent handle for the key, instead of the configured one or 0x81020000"},
		}, making.flags("overwrite another key at the handle")...),
		Run: func(ctx context.Context, _ []string) error {
			o, err := a.identityOptions(*path)
			if err != nil {
				return err
			}
			if number == 0 {
				number, _ = strconv.ParseUint(handle(o.Key, tpm.IDevIDHandle), 0, 32) // checked when it was read
			}
			name.SerialNumber = serial
			maker, err := making.on(o.TPM)
			if err != nil {
				return err
			}
			if _, err := maker.CreateIDevID(ctx, tpm.Template(template), uint32(number)); err != nil {
				return err
			}
			der, err := maker.Request(ctx, uint32(number), name)
			if err != nil {
				return err
			}
			return pem.Encode(a.out, &pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
		},
	}
}

// templates are those that a device's key can be made from.
const templates = command.Argument(tpm.RSA2048 + "|" + tpm.P256 + "|" + tpm.P384 + "|" + tpm.P521 + "|" + tpm.RSA3072)

func parseHandle(s string) (uint64, error) {
	number, err := strconv.ParseUint(s, 0, 32)
	if err != nil || number == 0 {
		return 0, fmt.Errorf("%q is not a handle such as 0x81020000", s)
	}
	return number, nil
}

// parseSubject reads a distinguished name in the simplest form: KEY=VALUE, separated by commas.
func parseSubject(s string) (name pkix.Name, err error) {
	for rest := s; rest != ""; {
		var part string
		part, rest = untilComma(rest)
		key, value, ok := strings.Cut(part, "=")
		key, value = strings.ToUpper(strings.TrimSpace(key)), strings.TrimSpace(value)
		if !ok || value == "" {
			return name, fmt.Errorf("%q is not KEY=VALUE", part)
		}
		switch key {
		case "CN":
			if name.CommonName != "" {
				return name, errors.New("CN is there twice")
			}
			name.CommonName = value
		case "O":
			name.Organization = append(name.Organization, value)
		case "OU":
			name.OrganizationalUnit = append(name.OrganizationalUnit, value)
		case "L":
			name.Locality = append(name.Locality, value)
		case "ST":
			name.Province = append(name.Province, value)
		case "C":
			name.Country = append(name.Country, value)
		default:
			return name, fmt.Errorf("%s is none of C, ST, L, O, OU, CN", cmp.Or(key, `""`))
		}
	}
	return name, nil
}

// untilComma splits s at the first comma without a backslash before it, and takes backslashes away.
func untilComma(s string) (part, rest string) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == ',':
			return b.String(), s[i+1:]
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String(), ""
}
