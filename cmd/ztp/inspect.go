package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/xpu-sztp/ztp/pkg/daemon"
	"github.com/xpu-sztp/ztp/pkg/inspect"
	"github.com/xpu-sztp/ztp/tpm"
)

// inspectFlags is what artifacts are held against, as the command line says it.
type inspectFlags struct {
	anchors                   []string
	serverAnchor, device      string
	decryptKey, decryptCert   string
	serial, clock             string
	issuer                    string
	nonce                     []byte
	lenient, identity, asJSON bool
}

const inspectHelp = `Show what conveyed information, owner certificates, ownership vouchers and trust anchors hold, and values of DHCP
options 143 and 136 in hexadecimal. What a file holds is recognised by its contents: DER, PEM of any label, base64, S/MIME,
or a saved answer of a bootstrap server in JSON or XML. - is standard input. Of a folder every file is looked at, and what is
no artifact is only mentioned. Scripts and configuration are shown by size and digest only, private keys not at all.

What is encrypted is shown by its recipients, and decrypted with --decrypt-key or, on a device, --identity.

Conveyed information together with an owner certificate or a voucher, or with a flag that says what to hold it against, is also
judged as a device would: every check passed, failed or did not run, and why. What is not known of the device is not checked, and
the verdict is then undecided. A voucher can be judged alone. With --server-anchor conveyed information is judged as sent by a
server that presents the PEM file of certificates given as one of the files.

--json prints one object with "version", which grows when a member goes away or changes its meaning; "artifacts", a list; and
"validation" with "verdict" (accepted, refused, undecided), "checks" of "step", "result" (passed, failed, not run) and "detail",
"problem" with "code", "message" and "hint" as the agent has them in its status, and "missing". Members without a value are left out.

Exit status: 0 decoded and, where judged, accepted; 1 not decoded, refused or undecided; 64 the command line is wrong; 69 a file or
the identity cannot be read.`

const inspectExample = `  ztp inspect conveyed-information.cms
  ztp inspect ci.cms oc.cms ov.vcj --voucher-anchor maker.pem --device-cert device.pem
  ztp inspect ov.vcj --voucher-anchor maker.pem --serial AC-000123 --time 2027-01-01T00:00:00Z
  ztp inspect artifacts/ --voucher-anchor maker.pem --device-cert device.pem --decrypt-key device.key
  curl … | ztp inspect - --json --identity`

func (a *app) inspect() *cobra.Command {
	var f inspectFlags
	cmd := &cobra.Command{
		Use:     "inspect FILE…",
		Short:   "Show what artifacts hold, and why a device would refuse them",
		Long:    inspectHelp,
		Example: inspectExample,
		Args:    cobra.RangeArgs(1, inspect.MaxFiles),
		PreRunE: func(_ *cobra.Command, args []string) error {
			if _, err := readClock(f.clock); err != nil {
				return err
			}
			if _, err := readIssuer(f.issuer); err != nil {
				return err
			}
			if f.decryptKey != "" && f.device == "" && f.decryptCert == "" {
				return errors.New("--decrypt-key needs its certificate, with --device-cert or --decrypt-cert")
			}
			named := append(slices.Concat(args, f.anchors), f.serverAnchor, f.device, f.decryptKey, f.decryptCert)
			if first := slices.Index(named, "-"); first >= 0 && slices.Contains(named[first+1:], "-") {
				return errors.New("standard input can only be one file")
			}
			return nil
		},
		RunE: a.do(func(cmd *cobra.Command, args []string) error {
			options, err := f.options()
			if err != nil {
				return err
			}
			if f.identity {
				o, err := a.identityOptions("")
				if err != nil {
					return err
				}
				id, err := tpm.Open(cmd.Context(), o)
				if err != nil {
					return err
				}
				defer id.Close()
				options.Device = daemon.ArtifactsFor(id)
			}
			inputs, err := readInputs(args)
			if err != nil {
				return err
			}
			return a.showReport(inspect.Inspect(inputs, options), f.asJSON)
		}),
	}
	f.add(cmd)
	return cmd
}

func (f *inspectFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&f.asJSON, "json", false, "print JSON")
	flags.StringArrayVar(&f.anchors, "voucher-anchor", nil, "certificates of the maker's voucher service; may be given more than once")
	flags.StringVar(&f.serverAnchor, "server-anchor", "", "certificates that the bootstrap server's must chain to")
	flags.StringVar(&f.serial, "serial", "", "serial number of the device, instead of that in --device-cert")
	flags.StringVar(&f.issuer, "issuer", "", "authority key identifier of the device's certificate in hexadecimal, instead of --device-cert")
	flags.StringVar(&f.device, "device-cert", "", "identity certificate of the device")
	flags.StringVar(&f.decryptKey, "decrypt-key", "", "private key of the recipient, as PEM without a password")
	flags.StringVar(&f.decryptCert, "decrypt-cert", "", "certificate of --decrypt-key, instead of --device-cert")
	flags.BoolVar(&f.identity, "identity", false, "this device: its serial number, certificate and keys, wherever they are configured to be")
	flags.StringVar(&f.clock, "time", "", "time of the device's clock, or none; without it, now")
	flags.BytesBase64Var(&f.nonce, "nonce", nil, "nonce that the device sent, in base64")
	flags.BoolVar(&f.lenient, "lenient", false, "tolerate what a device with trust.lenient tolerates")
	for _, other := range []string{"serial", "issuer", "device-cert", "decrypt-key", "decrypt-cert"} {
		cmd.MarkFlagsMutuallyExclusive("identity", other)
	}
}

func (a *app) showReport(r *inspect.Report, asJSON bool) error {
	if !r.OK() {
		a.exit = 1
	}
	if !asJSON {
		_, err := fmt.Fprint(a.out, r.Text())
		return err
	}
	document, err := r.JSON()
	if err == nil {
		_, err = a.out.Write(document)
	}
	return err
}
