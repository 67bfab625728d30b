package main

import (
	"encoding/base64"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/xpu-sztp/ztp/test/lab/artifact"
	"github.com/xpu-sztp/ztp/test/lab/pki"
)

type voucherFlags struct {
	output
	serial, pinned, signer, key, assertion, nonce, idevid string
	validFor                                              time.Duration
	revocationChecks                                      bool
}

func voucherCommand() *cobra.Command {
	var f voucherFlags
	c := &cobra.Command{
		Use:   "voucher",
		Short: "Make an ownership voucher",
		Long:  "Make an ownership voucher (RFC 8366): JSON, signed by the maker's voucher signer, pinning the owner's certificate for one device.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, err := f.voucher(cmd.Flags().Changed("revocation-checks"))
			if err != nil {
				return err
			}
			masa, err := pki.Load(f.signer, f.key)
			if err != nil {
				return err
			}
			der, err := v.Sign(masa)
			if err != nil {
				return err
			}
			return f.write(cmd, der)
		},
	}
	f.addFlags(c)
	c.Flags().StringVar(&f.serial, "serial", "", "serial number of the device, exactly as in its IDevID")
	c.Flags().StringVar(&f.pinned, "pinned", "", "certificate to pin: the owner's root, an intermediate, or the owner certificate itself")
	c.Flags().StringVar(&f.signer, "signer", "", "certificate chain of the maker's voucher signer")
	c.Flags().StringVar(&f.key, "key", "", "private key of the voucher signer")
	c.Flags().StringVar(&f.assertion, "assertion", "verified", "verified, logged or proximity")
	c.Flags().DurationVar(&f.validFor, "valid-for", 30*24*time.Hour, "time until expires-on; 0 leaves it out; ignored with --nonce")
	c.Flags().StringVar(&f.nonce, "nonce", "", "the device's nonce in base64")
	c.Flags().StringVar(&f.idevid, "idevid", "", "IDevID certificate of the device, for idevid-issuer")
	c.Flags().BoolVar(&f.revocationChecks, "revocation-checks", false, "set domain-cert-revocation-checks (default: absent)")
	for _, name := range []string{"serial", "pinned", "signer", "key"} {
		c.MarkFlagRequired(name)
	}
	return c
}

func (f *voucherFlags) voucher(withRevocation bool) (artifact.Voucher, error) {
	now := time.Now().Truncate(time.Second)
	v := artifact.Voucher{CreatedOn: now, Assertion: f.assertion, SerialNumber: f.serial}
	if withRevocation {
		v.RevocationChecks = &f.revocationChecks
	}
	pinned, err := pki.ReadCertificates(f.pinned)
	if err != nil {
		return v, err
	}
	v.Pinned = pinned[0]
	if f.idevid != "" {
		idevid, err := pki.ReadCertificates(f.idevid)
		if err != nil {
			return v, err
		}
		if v.IDevIDIssuer = artifact.AuthorityKeyID(idevid[0]); v.IDevIDIssuer == nil {
			return v, fmt.Errorf("%s has no authority key identifier", f.idevid)
		}
	}
	switch {
	case f.nonce != "":
		if v.Nonce, err = base64.StdEncoding.DecodeString(f.nonce); err != nil {
			return v, fmt.Errorf("--nonce: %w", err)
		}
	case f.validFor > 0:
		v.ExpiresOn = now.Add(f.validFor)
	}
	return v, nil
}

func ownerCertificateCommand() *cobra.Command {
	var out output
	var pinned string
	c := &cobra.Command{
		Use:   "owner-certificate CHAIN",
		Short: "Make an owner certificate artifact",
		Long:  "Make an owner certificate artifact (RFC 8572 §3.2) of a PEM chain, owner certificate first: a degenerate CMS without signer.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			owner, err := pki.Load(args[0], "")
			if err != nil {
				return err
			}
			if pinned == "" {
				return writeChain(cmd, &out, owner)
			}
			certs, err := pki.ReadCertificates(pinned)
			if err != nil {
				return err
			}
			der, err := artifact.OwnerCertificate(owner, certs[0])
			if err != nil {
				return err
			}
			return out.write(cmd, der)
		},
	}
	out.addFlags(c)
	c.Flags().StringVar(&pinned, "pinned", "", "the pinned certificate: it and what is above it are left out")
	return c
}

func trustAnchorCommand() *cobra.Command {
	var out output
	c := &cobra.Command{
		Use:   "trust-anchor CHAIN",
		Short: "Make a trust anchor for redirect information",
		Long:  "Make a trust anchor (RFC 8572 §6.1) of a PEM chain: the CA that issues the server's certificate first, its root last.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ca, err := pki.Load(args[0], "")
			if err != nil {
				return err
			}
			return writeChain(cmd, &out, ca)
		},
	}
	out.addFlags(c)
	return c
}

func writeChain(cmd *cobra.Command, out *output, e *pki.Entity) error {
	der, err := artifact.TrustAnchor(e)
	if err != nil {
		return err
	}
	return out.write(cmd, der)
}
