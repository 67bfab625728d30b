package main

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/test/lab/artifact"
	"github.com/xpu-sztp/ztp/test/lab/bootstrap"
	"github.com/xpu-sztp/ztp/test/lab/device"
	"github.com/xpu-sztp/ztp/test/lab/pki"
)

// installMemory has the real agent install an image, from its start to the reboot, and returns the most memory it ever had
// resident, in bytes.
func installMemory(ctx context.Context, ztp, dir string, images *imageServer) (int64, error) {
	maker, err := pki.NewManufacturer("Bench Silicon")
	if err != nil {
		return 0, err
	}
	operator, err := pki.Root(pki.Profile{CommonName: "Bench Operator CA"})
	if err != nil {
		return 0, err
	}
	d, err := newDevice(ctx, maker, device.Options{
		Dir: dir, ZTP: ztp, Serial: "INSTALL-1", FileKey: true,
		ServerAnchors: []*x509.Certificate{operator.Certificate},
	})
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir) // the image is large
	defer d.Close()
	sum, err := hex.DecodeString(images.sha256)
	if err != nil {
		return 0, err
	}
	server, err := serve(operator, maker, func() (bootstrap.Answer, error) {
		return answer(artifact.Onboarding{BootImage: &artifact.BootImage{
			OSName: "LabOS", OSVersion: "2.0.0", URIs: []string{images.uri}, Verification: artifact.SHA256(sum),
		}}.JSON())
	})
	if err != nil {
		return 0, err
	}
	defer server.Close()

	log, err := os.Create(filepath.Join(dir, "run.log"))
	if err != nil {
		return 0, err
	}
	defer log.Close()
	usage, exit, err := runAlone(log, ztp, "run", "--once", "--trusted", "--root", d.Root(),
		"--url", fmt.Sprintf("https://%s:%d", serverAddress, server.port()))
	if err == nil && exit != state.ExitInProgress {
		err = fmt.Errorf("ztp run ended with %d", exit)
	}
	if err != nil {
		said, _ := os.ReadFile(log.Name())
		return 0, fmt.Errorf("%w\n%s", err, said)
	}
	return usage.Maxrss * 1024, nil
}
