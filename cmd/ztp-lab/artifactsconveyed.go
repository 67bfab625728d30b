package main

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/xpu-sztp/ztp/test/lab/artifact"
	"github.com/xpu-sztp/ztp/test/lab/cms"
	"github.com/xpu-sztp/ztp/test/lab/pki"
)

type conveyedFlags struct {
	output
	jsonFile                           string
	redirects                          []string
	osName, osVersion, image           string
	imageURLs                          []string
	pre, configuration, handling, post string
	signer, key, encryptFor            string
	encryptWhole                       bool
}

func conveyedCommand() *cobra.Command {
	var f conveyedFlags
	c := &cobra.Command{
		Use:   "conveyed-information",
		Short: "Make redirect or onboarding information",
		Long: `Make conveyed information (RFC 8572 §3.1): redirect information (--redirect), onboarding information (--image, --configuration and so
on), or whatever JSON document you have (--json). It is unsigned unless --signer is given, and encrypted with --encrypt-for.`,
		Example: `  ztp-lab artifacts conveyed-information --redirect bs1.example.net:8443 --base64
  ztp-lab artifacts conveyed-information --redirect bs1.example.net=pki/owner-web-ca.pem --signer pki/owner.pem --key pki/owner.key -o ci.cms
  ztp-lab artifacts conveyed-information --image os.img --image-url https://img.example.net/os.img --os-version 4.3.1 -o ci.cms`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			doc, err := f.document()
			if err != nil {
				return err
			}
			der, err := f.wrap(doc)
			if err != nil {
				return err
			}
			return f.write(cmd, der)
		},
	}
	f.addFlags(c)
	flags := c.Flags()
	flags.StringVar(&f.jsonFile, "json", "", "take this document as it is")
	flags.StringArrayVar(&f.redirects, "redirect", nil, "HOST[:PORT][=CHAIN.pem], the last being its trust anchor; repeat for more servers")
	flags.StringVar(&f.osName, "os-name", "", "operating system the device must run")
	flags.StringVar(&f.osVersion, "os-version", "", "version the device must run")
	flags.StringVar(&f.image, "image", "", "image file, for its SHA-256")
	flags.StringArrayVar(&f.imageURLs, "image-url", nil, "where the image can be had; repeat for mirrors")
	flags.StringVar(&f.pre, "pre-script", "", "file with the pre-configuration script")
	flags.StringVar(&f.configuration, "configuration", "", "file with the configuration")
	flags.StringVar(&f.handling, "handling", "merge", "merge or replace, for the configuration")
	flags.StringVar(&f.post, "post-script", "", "file with the post-configuration script")
	flags.StringVar(&f.signer, "signer", "", "owner certificate to sign with")
	flags.StringVar(&f.key, "key", "", "private key of the owner certificate")
	flags.StringVar(&f.encryptFor, "encrypt-for", "", "certificate of the device to encrypt for")
	flags.BoolVar(&f.encryptWhole, "encrypt-whole", false, "encrypt the whole artifact labelled as data, as openssl cms does")
	c.MarkFlagsRequiredTogether("signer", "key")
	c.MarkFlagsMutuallyExclusive("json", "redirect")
	return c
}

func (f *conveyedFlags) document() ([]byte, error) {
	switch {
	case f.jsonFile != "":
		doc, err := readFile(f.jsonFile)
		if err == nil && !json.Valid(doc) {
			fmt.Fprintf(os.Stderr, "warning: %s is not valid JSON\n", f.jsonFile)
		}
		return doc, err
	case len(f.redirects) > 0:
		return f.redirect()
	}
	return f.onboarding()
}

func (f *conveyedFlags) redirect() ([]byte, error) {
	var r artifact.Redirect
	for _, text := range f.redirects {
		place, anchorFile, _ := strings.Cut(text, "=")
		server, err := splitServer(place)
		if err != nil {
			return nil, err
		}
		if anchorFile != "" {
			ca, err := pki.Load(anchorFile, "")
			if err != nil {
				return nil, err
			}
			if server.TrustAnchor, err = artifact.TrustAnchor(ca); err != nil {
				return nil, err
			}
		}
		r.Servers = append(r.Servers, server)
	}
	return r.JSON()
}

// splitServer reads HOST[:PORT], with an IPv6 address in brackets.
func splitServer(place string) (artifact.BootstrapServer, error) {
	host, port := place, ""
	if strings.HasPrefix(place, "[") {
		host, port, _ = strings.Cut(place[1:], "]")
		port = strings.TrimPrefix(port, ":")
	} else if strings.Count(place, ":") == 1 {
		host, port, _ = strings.Cut(place, ":")
	}
	s := artifact.BootstrapServer{Address: host}
	if host == "" {
		return s, fmt.Errorf("%q names no host", place)
	}
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return s, fmt.Errorf("%q has no valid port: %w", place, err)
		}
		s.Port = uint16(n)
	}
	return s, nil
}

func (f *conveyedFlags) onboarding() ([]byte, error) {
	var o artifact.Onboarding
	if f.osName+f.osVersion+f.image != "" || len(f.imageURLs) > 0 {
		o.BootImage = &artifact.BootImage{OSName: f.osName, OSVersion: f.osVersion, URIs: f.imageURLs}
	}
	if f.image != "" {
		sum, err := fileSum(f.image)
		if err != nil {
			return nil, err
		}
		o.BootImage.Verification = artifact.SHA256(sum)
	}
	for _, part := range []struct {
		file string
		into *[]byte
	}{{f.pre, &o.PreScript}, {f.configuration, &o.Configuration}, {f.post, &o.PostScript}} {
		if part.file == "" {
			continue
		}
		content, err := readFile(part.file)
		if err != nil {
			return nil, err
		}
		*part.into = content
	}
	if f.configuration != "" {
		o.Handling = f.handling
	}
	if o.BootImage == nil && o.PreScript == nil && o.Configuration == nil && o.PostScript == nil {
		return nil, errors.New("nothing to convey: use --redirect, --json, or some of --image, --pre-script, --configuration, --post-script")
	}
	return o.JSON()
}

func (f *conveyedFlags) wrap(doc []byte) ([]byte, error) {
	der, err := artifact.Unsigned(doc)
	if f.signer != "" {
		owner, loadErr := pki.Load(f.signer, f.key)
		if loadErr != nil {
			return nil, loadErr
		}
		der, err = artifact.Signed(doc, owner)
	}
	if err != nil || f.encryptFor == "" {
		return der, err
	}
	device, err := pki.ReadCertificates(f.encryptFor)
	if err != nil {
		return nil, err
	}
	style := cms.Typed
	if f.encryptWhole {
		style = cms.Whole
	}
	return cms.Encrypt(der, device[0], style)
}

func readFile(name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(os.Stdin)
	}
	return os.ReadFile(name)
}

func fileSum(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	h := sha256.New()
	if _, err := io.Copy(h, file); err != nil {
		return nil, err
	}
	return h.Sum(nil), nil
}
