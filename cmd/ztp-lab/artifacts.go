package main

import (
	"encoding/base64"
	"errors"
	"os"

	"github.com/spf13/cobra"
)

func artifactsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "artifacts",
		Short: "Make certificates, vouchers and conveyed information",
		Long: `Make the artifacts of RFC 8572 one by one: a certificate hierarchy to play with, ownership vouchers, owner certificates, conveyed
information (unsigned, signed, encrypted) and trust anchors. Artifacts are written in DER, or in base64 as RESTCONF carries them.`,
		Example: `  ztp-lab artifacts pki pki/
  ztp-lab artifacts conveyed-information --configuration router.conf --signer pki/owner.pem --key pki/owner.key --out ci.cms
  ztp-lab artifacts owner-certificate pki/owner.pem --pinned pki/owner-root.pem --out oc.cms
  ztp-lab artifacts voucher --serial AC-000123 --pinned pki/owner-root.pem --signer pki/masa.pem --key pki/masa.key --out ov.vcj`,
	}
	c.AddCommand(pkiCommand(), certificateCommand(), conveyedCommand(), voucherCommand(), ownerCertificateCommand(), trustAnchorCommand())
	return c
}

// output is where an artifact goes.
type output struct {
	file string
	text bool
}

func (o *output) addFlags(c *cobra.Command) {
	c.Flags().StringVarP(&o.file, "out", "o", "", "write to this file (default: standard output)")
	c.Flags().BoolVar(&o.text, "base64", false, "write base64 instead of DER")
}

func (o *output) write(cmd *cobra.Command, der []byte) error {
	if o.text {
		der = append(base64.StdEncoding.AppendEncode(nil, der), '\n')
	}
	if o.file != "" {
		return os.WriteFile(o.file, der, 0o644)
	}
	if info, err := os.Stdout.Stat(); !o.text && err == nil && info.Mode()&os.ModeCharDevice != 0 && cmd.OutOrStdout() == os.Stdout {
		return errors.New("binary data is not written to a terminal: use --out or --base64")
	}
	_, err := cmd.OutOrStdout().Write(der)
	return err
}
