package main

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/inspect"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/tpm"
)

// Reason codes of files that the command line names.
const (
	codeUnreadable      reason.Code = "file-unreadable"  // it cannot be opened or read
	codeNotCertificates reason.Code = "not-certificates" // it should hold certificates and does not
)

// inspectFlags is what artifacts are held against, as the command line says it.
type inspectFlags struct {
	anchors              []string
	serverAnchor, device string
	serial               string
	clock                artifacts.Clock
	nonce                []byte
	lenient              bool
}

func (a *app) inspect() *cobra.Command {
	var f inspectFlags
	var asJSON bool
	var clock string
	cmd := &cobra.Command{
		Use:   "inspect FILE…",
		Short: "Show what artifacts hold, and why a device would refuse them",
		Long: "Show what conveyed information, owner certificates, ownership vouchers and trust anchors hold, and values of DHCP\n" +
			"options 143 and 136 in hexadecimal. Files can be in DER, PEM or base64, the answer of a bootstrap server in JSON, or - for\n" +
			"standard input, in any order. Scripts and configuration are shown by size and digest only.\n\n" +
			"Conveyed information together with an owner certificate or a voucher, or with a flag that says what to hold it against,\n" +
			"is also judged as a device would. With --server-anchor it is judged as sent by a server that presents the PEM file of\n" +
			"certificates given as one of the files.\n\n" +
			"Exit status: 0 decoded and, where judged, accepted; 1 refused; 69 when a file cannot be read.",
		Example: "  ztp inspect conveyed-information.cms\n" +
			"  ztp inspect ci.cms oc.cms ov.vcj --anchor maker.pem --device-cert device.pem",
		Args: cobra.RangeArgs(1, inspect.MaxFiles),
		PreRunE: func(_ *cobra.Command, args []string) (err error) {
			if f.clock, err = readClock(clock); err != nil {
				return err
			}
			named := append(slices.Concat(args, f.anchors), f.serverAnchor, f.device)
			if first := slices.Index(named, "-"); first >= 0 && slices.Contains(named[first+1:], "-") {
				return errors.New("standard input can only be one file")
			}
			return nil
		},
		RunE: a.do(func(_ *cobra.Command, args []string) error {
			options, err := f.options()
			if err != nil {
				return err
			}
			var inputs []inspect.Input
			for _, name := range args {
				data, err := readArtifact(name)
				if err != nil {
					return err
				}
				inputs = append(inputs, inspect.Input{Name: name, Data: data})
			}
			return a.showReport(inspect.Inspect(inputs, options), asJSON)
		}),
	}
	flags := cmd.Flags()
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	flags.StringArrayVar(&f.anchors, "anchor", nil, "certificates of the maker's voucher service; may be given more than once")
	flags.StringVar(&f.serverAnchor, "server-anchor", "", "certificates that the bootstrap server's must chain to")
	flags.StringVar(&f.serial, "serial", "", "serial number of the device, instead of that in --device-cert")
	flags.StringVar(&f.device, "device-cert", "", "identity certificate of the device")
	flags.StringVar(&clock, "time", "", "time of the device's clock, or none; without it, now")
	flags.BytesBase64Var(&f.nonce, "nonce", nil, "nonce that the device sent, in base64")
	flags.BoolVar(&f.lenient, "lenient", false, "tolerate what a device with lenient parsing tolerates")
	return cmd
}

// options reads the files that the flags name.
func (f *inspectFlags) options() (inspect.Options, error) {
	o := inspect.Options{SerialNumber: f.serial, Nonce: f.nonce, Lenient: f.lenient, Clock: f.clock}
	var err error
	if o.VoucherAnchors, err = readCertificates(f.anchors...); err != nil {
		return o, err
	}
	if o.ServerAnchors, err = readCertificates(f.serverAnchor); err != nil {
		return o, err
	}
	device, err := readCertificates(f.device)
	if err != nil || device == nil {
		return o, err
	}
	if o.Device = device[0]; o.SerialNumber == "" {
		o.SerialNumber, err = tpm.SerialNumber(o.Device, nil)
	}
	return o, err
}

// readClock returns the device's clock as --time says it.
func readClock(text string) (artifacts.Clock, error) {
	switch text {
	case "none":
		return artifacts.Clock{Confidence: artifacts.ClockNone}, nil
	case "":
		return artifacts.Clock{Now: time.Now(), Confidence: artifacts.ClockRTC}, nil
	}
	now, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return artifacts.Clock{}, errors.New("--time is neither a time of RFC 3339, such as 2026-11-22T12:00:00Z, nor none")
	}
	return artifacts.Clock{Now: now, Confidence: artifacts.ClockRTC}, nil
}

func (a *app) showReport(r *inspect.Report, asJSON bool) error {
	if !r.OK() {
		a.exit = 1
	}
	if asJSON {
		return json.NewEncoder(a.out).Encode(r)
	}
	_, err := fmt.Fprint(a.out, r.Text())
	return err
}

// readCertificates reads files of certificates, and passes over names that are empty.
func readCertificates(names ...string) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for _, name := range names {
		if name == "" {
			continue
		}
		data, err := readArtifact(name)
		if err != nil {
			return nil, err
		}
		certs, err := inspect.Certificates(data)
		if err != nil {
			return nil, &reason.Error{Code: codeNotCertificates, Msg: name, Fix: "name a file of certificates in PEM or DER", Err: err}
		}
		all = append(all, certs...)
	}
	return all, nil
}

// readArtifact reads a file, or standard input for "-", up to a little more than is looked at.
func readArtifact(name string) ([]byte, error) {
	file := os.Stdin
	if name != "-" {
		var err error
		if file, err = os.Open(name); err != nil {
			return nil, unreadable(err)
		}
		defer file.Close()
	}
	data, err := io.ReadAll(io.LimitReader(file, inspect.MaxSize+1))
	if err != nil {
		return nil, unreadable(fmt.Errorf("read %s: %w", name, err))
	}
	return data, nil
}

func unreadable(err error) error {
	return &reason.Error{Code: codeUnreadable, Fix: "check the name and the permissions of the file", Err: err}
}
