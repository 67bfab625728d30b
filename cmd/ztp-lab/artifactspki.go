package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/xpu-sztp/ztp/test/lab/pki"
)

func pkiCommand() *cobra.Command {
	var maker, owner string
	c := &cobra.Command{
		Use:   "pki FOLDER",
		Short: "Make the certificate hierarchies of a maker and an owner",
		Long: `Make the certificate hierarchies of a device maker (maker-root, idevid-ca, masa) and of an owner (owner-root, owner-issuing, owner,
owner-web-ca) in a folder. Each is NAME.pem, the chain up to the root, and NAME.key, the private key in plain PKCS#8.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			folder := args[0]
			if entries, err := os.ReadDir(folder); err == nil && len(entries) > 0 {
				return fmt.Errorf("the folder %s is not empty; nothing is overwritten", folder)
			}
			m, err := pki.NewManufacturer(maker)
			if err != nil {
				return err
			}
			o, err := pki.NewOwner(owner)
			if err != nil {
				return err
			}
			web, err := pki.Root(pki.Profile{CommonName: owner + " Web CA", Organization: owner})
			if err != nil {
				return err
			}
			for _, e := range []struct {
				name string
				*pki.Entity
			}{
				{"maker-root", m.Root}, {"idevid-ca", m.IDevIDCA}, {"masa", m.MASA},
				{"owner-root", o.Root}, {"owner-issuing", o.Issuing}, {"owner", o.Signer}, {"owner-web-ca", web},
			} {
				if err := e.Save(folder, e.name); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s\t%s\n", filepath.Join(folder, e.name+".pem"), e.Certificate.Subject)
			}
			return nil
		},
	}
	c.Flags().StringVar(&maker, "maker", "Maker", "name of the maker")
	c.Flags().StringVar(&owner, "owner", "Owner", "name of the owner")
	return c
}

func certificateCommand() *cobra.Command {
	var ca, caKey, serial, model, masaURL, keyType string
	var servers []string
	c := &cobra.Command{
		Use:   "certificate NAME",
		Short: "Make a key and a certificate for a server or a device",
		Long:  "Make NAME.pem and NAME.key: a TLS server's certificate (--server), or an IDevID for a device without a TPM (--serial).",
		Example: `  ztp-lab artifacts certificate bs1 --ca pki/owner-web-ca.pem --ca-key pki/owner-web-ca.key --server bs1.example.net
  ztp-lab artifacts certificate idevid --ca pki/idevid-ca.pem --ca-key pki/idevid-ca.key --serial AC-000123`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			issuer, err := pki.Load(ca, caKey)
			if err != nil {
				return err
			}
			profile := pki.IDevIDProfile("", model, serial, masaURL)
			if len(servers) > 0 {
				profile = serverProfile(servers)
			}
			profile.Key = pki.KeyType(keyType)
			e, err := issuer.Issue(profile)
			if err != nil {
				return err
			}
			return e.Save(filepath.Dir(args[0]), filepath.Base(args[0]))
		},
	}
	c.Flags().StringVar(&ca, "ca", "", "the issuer's certificate chain")
	c.Flags().StringVar(&caKey, "ca-key", "", "the issuer's private key")
	c.Flags().StringSliceVar(&servers, "server", nil, "host names and IP addresses of a TLS server")
	c.Flags().StringVar(&serial, "serial", "", "serial number of a device")
	c.Flags().StringVar(&model, "model", "device", "model of a device")
	c.Flags().StringVar(&masaURL, "masa-url", "", "URL of the maker's voucher service")
	c.Flags().StringVar(&keyType, "key-type", string(pki.P256), "p256, p384, rsa2048 or rsa3072")
	c.MarkFlagRequired("ca")
	c.MarkFlagRequired("ca-key")
	c.MarkFlagsOneRequired("server", "serial")
	c.MarkFlagsMutuallyExclusive("server", "serial")
	return c
}

func serverProfile(hosts []string) pki.Profile {
	p := pki.ServerProfile(hosts...)
	p.DNSNames = nil
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			p.IPs = append(p.IPs, ip)
		} else {
			p.DNSNames = append(p.DNSNames, host)
		}
	}
	return p
}
