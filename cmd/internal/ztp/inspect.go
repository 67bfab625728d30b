package ztp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/cmd/internal/command"
	"github.com/xpu-sztp/ztp/pkg/daemon"
	"github.com/xpu-sztp/ztp/pkg/inspect"
	"github.com/xpu-sztp/ztp/tpm"
)

// inspectFlags is what artifacts are held against, as the command line says it.
type inspectFlags struct {
	anchors                   []string
	serverAnchor, device      string
	decryptKey, decryptCert   string
	serial                    string
	clock                     artifacts.Clock
	issuer, nonce             []byte
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
"problem" with "code", "message" and "hint" as the agent has them in its status, and "missing". Members without a value are left out.`

const inspectExample = `  ztp inspect conveyed-information.cms
  ztp inspect ci.cms oc.cms ov.vcj --voucher-anchor maker.pem --device-cert device.pem
  ztp inspect ov.vcj --voucher-anchor maker.pem --serial AC-000123 --time 2027-01-01T00:00:00Z
  ztp inspect artifacts/ --voucher-anchor maker.pem --device-cert device.pem --decrypt-key device.key
  curl … | ztp inspect - --json --identity`

func (a *app) inspect() *command.Command {
	f := inspectFlags{clock: artifacts.Clock{Now: time.Now(), Confidence: artifacts.ClockRTC}}
	return &command.Command{
		Name:    "inspect",
		Short:   "Show what artifacts hold, and why a device would refuse them",
		Long:    inspectHelp,
		Example: inspectExample,
		Flags:   f.flags(),
		Exclusive: [][2]string{{"identity", "serial"}, {"identity", "issuer"}, {"identity", "device-cert"},
			{"identity", "decrypt-key"}, {"identity", "decrypt-cert"}},
		Arg: "FILE",
		Min: 1,
		Max: inspect.MaxFiles,
		Exit: []command.Entry{
			{Term: "0", Text: "decoded and, where judged, accepted"},
			{Term: "1", Text: "not decoded, refused or undecided"},
			{Term: "64", Text: "the command line is wrong"},
			{Term: "69", Text: "a file or the identity cannot be read"},
		},
		Check: func(args []string) error {
			if f.decryptKey != "" && f.device == "" && f.decryptCert == "" {
				return errors.New("--decrypt-key needs its certificate, with --device-cert or --decrypt-cert")
			}
			named := append(slices.Concat(args, f.anchors), f.serverAnchor, f.device, f.decryptKey, f.decryptCert)
			if first := slices.Index(named, "-"); first >= 0 && slices.Contains(named[first+1:], "-") {
				return errors.New("standard input can only be one file")
			}
			return nil
		},
		Run: func(ctx context.Context, args []string) error {
			options, err := f.options()
			if err != nil {
				return err
			}
			if f.identity {
				o, err := a.identityOptions("")
				if err != nil {
					return err
				}
				id, err := tpm.Open(ctx, o)
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
		},
	}
}

func (f *inspectFlags) flags() []command.Flag {
	return []command.Flag{
		{Name: "json", On: &f.asJSON, Usage: "print JSON"},
		{Name: "voucher-anchor", Arg: "FILE", List: &f.anchors,
			Usage: "certificates of the maker's voucher service; may be given more than once"},
		{Name: "server-anchor", Arg: "FILE", Text: &f.serverAnchor, Usage: "certificates that the bootstrap server's must chain to"},
		{Name: "serial", Arg: "SN", Text: &f.serial, Usage: "serial number of the device, instead of that in --device-cert"},
		{Name: "issuer", Arg: "HEX", Parse: f.readIssuer,
			Usage: "authority key identifier of the device's certificate in hexadecimal, instead of --device-cert"},
		{Name: "device-cert", Arg: "FILE", Text: &f.device, Usage: "identity certificate of the device"},
		{Name: "decrypt-key", Arg: "FILE", Text: &f.decryptKey, Usage: "private key of the recipient, as PEM without a password"},
		{Name: "decrypt-cert", Arg: "FILE", Text: &f.decryptCert, Usage: "certificate of --decrypt-key, instead of --device-cert"},
		{Name: "identity", On: &f.identity,
			Usage: "this device: its serial number, certificate and keys, wherever they are configured to be"},
		{Name: "time", Arg: "TIME", Parse: f.readClock, Usage: "time of the device's clock, or none; without it, now"},
		{Name: "nonce", Arg: "BASE64", Parse: f.readNonce, Usage: "nonce that the device sent"},
		{Name: "lenient", On: &f.lenient, Usage: "tolerate what a device with trust.lenient tolerates"},
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
