package main

import (
	"cmp"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/xpu-sztp/ztp/tpm"
)

func (a *app) requestCertificate(path *string) *cobra.Command {
	var template, key, serial, subject string
	var making factory
	var number uint64
	var name pkix.Name
	cmd := &cobra.Command{
		Use:   "csr --serial SN [--template H-1|H-2|H-3|H-4|H-6]",
		Short: "Create the IDevID key and print a certificate request for it",
		Long: "Create the IDevID key in the TPM's endorsement hierarchy, keep it at a persistent handle, and print a certificate\n" +
			"request (PKCS#10) that it signed. The templates are the TCG's: H-1 is RSA 2048, H-2 ECC P-256, H-3 ECC P-384, H-4\n" +
			"ECC P-521, H-6 RSA 3072; few TPMs have the last two. A TPM makes the same key of a template again, so that the command can be repeated.",
		Args: cobra.NoArgs,
		PreRunE: func(*cobra.Command, []string) (err error) {
			switch tpm.Template(template) {
			case tpm.RSA2048, tpm.P256, tpm.P384, tpm.P521, tpm.RSA3072:
			default:
				return fmt.Errorf("--template: %q is none of H-1, H-2, H-3, H-4, H-6", template)
			}
			if serial == "" {
				return errors.New("--serial is missing")
			}
			if key != "" {
				if number, err = strconv.ParseUint(key, 0, 32); err != nil {
					return fmt.Errorf("--handle: %q is not a handle such as 0x81020000", key)
				}
			}
			name, err = parseSubject(subject)
			return err
		},
		RunE: a.do(func(cmd *cobra.Command, _ []string) error {
			o, err := a.identityOptions(*path)
			if err != nil {
				return err
			}
			if key == "" {
				number, _ = strconv.ParseUint(handle(o.Key, tpm.IDevIDHandle), 0, 32) // checked when it was read
			}
			name.SerialNumber = serial
			maker, err := making.on(o.TPM)
			if err != nil {
				return err
			}
			if _, err := maker.CreateIDevID(cmd.Context(), tpm.Template(template), uint32(number)); err != nil {
				return err
			}
			der, err := maker.Request(cmd.Context(), uint32(number), name)
			if err != nil {
				return err
			}
			return pem.Encode(a.out, &pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
		}),
	}
	cmd.Flags().StringVar(&template, "template", string(tpm.P256), "kind of key")
	cmd.Flags().StringVar(&key, "handle", "", "persistent handle for the key, instead of the configured one or 0x81020000")
	cmd.Flags().StringVar(&serial, "serial", "", "serial number of the device, for the subject")
	cmd.Flags().StringVar(&subject, "subject", "", `the rest of the subject, such as "C=DE,O=Maker,CN=Model X" (\ before a comma that is none)`)
	making.flags(cmd, "overwrite another key at the handle")
	return cmd
}

// parseSubject reads a distinguished name in the simplest form: KEY=VALUE, separated by commas.
func parseSubject(s string) (name pkix.Name, err error) {
	for rest := s; rest != ""; {
		var part string
		part, rest = untilComma(rest)
		key, value, ok := strings.Cut(part, "=")
		key, value = strings.ToUpper(strings.TrimSpace(key)), strings.TrimSpace(value)
		if !ok || value == "" {
			return name, fmt.Errorf("--subject: %q is not KEY=VALUE", part)
		}
		switch key {
		case "CN":
			if name.CommonName != "" {
				return name, errors.New("--subject: CN is there twice")
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
			return name, fmt.Errorf("--subject: %s is none of C, ST, L, O, OU, CN", cmp.Or(key, `""`))
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
