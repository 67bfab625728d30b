package ztp

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/xpu-sztp/ztp/cmd/internal/command"
	"github.com/xpu-sztp/ztp/pkg/agent"
	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/daemon"
	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/pkg/statusview"
	"github.com/xpu-sztp/ztp/tpm"
)

func (a *app) identity() *command.Command {
	var path string
	return &command.Command{
		Name:  "identity",
		Short: "Show the device's identity, or give it one in the factory",
		Flags: []command.Flag{{Name: "tpm", Arg: "PATH", Text: &path, Inherited: true,
			Usage: "the TPM, a device node or unix:/PATH below --root, instead of the configured one"}},
		Commands: []*command.Command{a.showIdentity(&path), a.requestCertificate(&path), a.installCertificate(&path)},
	}
}

// identityOptions are those of the configuration, with another TPM if one is named.
func (a *app) identityOptions(path string) (tpm.Options, error) {
	cfg, err := config.Load(a.root)
	if err != nil {
		return tpm.Options{}, err
	}
	o := daemon.IdentityOptions(cfg)
	switch path {
	case "":
	case "none":
		o.TPM = path
	default:
		o.TPM = cfg.Paths.Below(path)
	}
	return o, nil
}

func (a *app) showIdentity(path *string) *command.Command {
	var asJSON, asPEM bool
	return &command.Command{
		Name:  "show",
		Short: "Show the identity that the agent would use, and what its keys can do",
		Long: "Show the identity that the agent would use: its key, its certificates, its serial number, what its keys can do,\n" +
			"and what is wrong with it. An RSA key in a TPM makes one signature for it.",
		Flags: []command.Flag{
			{Name: "json", On: &asJSON, Usage: "print JSON"},
			{Name: "pem", On: &asPEM, Usage: "print the certificates, the device's first"},
		},
		Exclusive: [][2]string{{"json", "pem"}},
		Exit: []command.Entry{
			{Term: "0", Text: "the agent could use it"},
			{Term: "69", Text: "it could not; what was found is shown then, too"},
		},
		Run: func(ctx context.Context, _ []string) error {
			o, err := a.identityOptions(*path)
			if err != nil {
				return err
			}
			now := time.Now()
			found, wrong := tpm.Examine(ctx, o, now)
			switch {
			case asPEM:
				for _, c := range found.Certificates {
					err = cmp.Or(err, pem.Encode(a.out, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
				}
			case asJSON:
				report := struct {
					*tpm.Examination
					Problem *state.Reason `json:"problem,omitempty"`
				}{Examination: found}
				if wrong != nil {
					report.Problem = agent.Explain(wrong)
				}
				err = json.NewEncoder(a.out).Encode(report)
			default:
				_, err = fmt.Fprint(a.out, statusview.Identity(found, now))
			}
			return cmp.Or(wrong, err)
		},
	}
}

func (a *app) installCertificate(path *string) *command.Command {
	var key, index string
	var making factory
	return &command.Command{
		Name:  "install",
		Short: "Store the certificate of the IDevID key and the chain above it in the TPM",
		Long: "Store the certificate of the IDevID key and the chain above it in the TPM. The files are PEM or DER, in any order.\n" +
			"Nothing is written unless one certificate is for the key and carries a serial number, and the others are the chain\n" +
			"above it. What is there already stays, when it is the same or --force is missing.",
		Flags: append(making.flags("overwrite what is there"),
			command.Flag{Name: "handle", Arg: "HANDLE", Text: &key, Usage: "persistent handle of the key, instead of the configured one"},
			command.Flag{Name: "index", Arg: "INDEX", Text: &index,
				Usage: "NV index for the certificate, instead of the configured one or 0x01C90000"}),
		Arg: "FILE",
		Min: 1,
		Max: command.Any,
		Run: func(ctx context.Context, files []string) error {
			o, err := a.identityOptions(*path)
			if err != nil {
				return err
			}
			o.Key, o.Certificate = cmp.Or(key, o.Key), cmp.Or(index, handle(o.Certificate, tpm.IDevIDCertificate))
			maker, err := making.on(o.TPM)
			if err != nil {
				return err
			}
			id, err := maker.Install(ctx, o, files...)
			if err != nil {
				return err
			}
			defer id.Close()
			for _, doubt := range id.Doubts(time.Now()) {
				fmt.Fprintln(a.err, "warning:", doubt)
			}
			_, err = fmt.Fprintf(a.out, "installed the certificate of %s in %s, %d above it\n",
				id.SerialNumber, id.Certificate, len(id.Chain)-1)
			return err
		},
	}
}

// factory is what the commands of the factory have in common.
type factory struct {
	force              bool
	owner, endorsement string // files
}

func (f *factory) flags(force string) []command.Flag {
	return []command.Flag{
		{Name: "force", On: &f.force, Usage: force},
		{Name: "owner-password-file", Arg: "FILE", Text: &f.owner,
			Usage: "file with the password of the TPM's owner hierarchy, if it has one"},
		{Name: "endorsement-password-file", Arg: "FILE", Text: &f.endorsement, Usage: "file with that of its endorsement hierarchy"},
	}
}

func (f *factory) on(path string) (maker tpm.Factory, err error) {
	maker = tpm.Factory{TPM: path, Overwrite: f.force}
	if maker.OwnerPassword, err = readPassword(f.owner); err == nil {
		maker.EndorsementPassword, err = readPassword(f.endorsement)
	}
	return maker, err
}

// maxPassword is the most that a TPM takes, the size of its largest digest.
const maxPassword = 64

// readPassword returns the password in a file, which may be a pipe, without the end of its line. Passwords are not taken from
// the command line, where everybody on the machine sees them.
func readPassword(file string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	var content []byte
	f, err := os.Open(file)
	if err == nil {
		defer f.Close()
		content, err = io.ReadAll(io.LimitReader(f, maxPassword+3))
	}
	password := bytes.TrimSuffix(bytes.TrimSuffix(content, []byte("\n")), []byte("\r"))
	if err == nil && (len(password) == 0 || len(password) > maxPassword || bytes.ContainsAny(password, "\x00\r\n")) {
		err = fmt.Errorf("it is not one line of at most %d bytes", maxPassword)
	}
	if err != nil {
		return nil, &tpm.Error{Code: tpm.CodePassword, Msg: "no password of the TPM in " + file, Err: err,
			Fix: "name a file, or a pipe such as /dev/stdin, that holds the password in one line"}
	}
	return password, nil
}

// handle is what the configuration says when that is a handle, else the usual one.
func handle(configured string, usual uint32) string {
	if strings.HasPrefix(configured, "0x") {
		return configured
	}
	return fmt.Sprintf("0x%08X", usual)
}
