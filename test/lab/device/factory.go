package device

import (
	"context"
	"fmt"

	"github.com/xpu-sztp/ztp/tpm"
)

// provisionTPM does to the TPM what a factory does: the key from the TCG's template at its handle, the certificate and the
// issuers above it, without the root, in NV.
func (d *Device) provisionTPM(ctx context.Context) error {
	factory := tpm.Factory{TPM: "unix:" + d.tpm.Socket}
	public, err := factory.CreateIDevID(ctx, d.Template, tpm.IDevIDHandle)
	if err != nil {
		return fmt.Errorf("IDevID key: %w", err)
	}
	if d.IDevID, err = d.Certify(public, d.Model, d.Serial); err != nil {
		return err
	}
	path := d.IDevID.Path()
	if err := factory.WriteCertificate(ctx, tpm.IDevIDCertificate, path[0].Raw); err != nil {
		return fmt.Errorf("IDevID certificate: %w", err)
	}
	var issuers [][]byte
	for _, c := range path[1:] {
		issuers = append(issuers, c.Raw)
	}
	if len(issuers) == 0 {
		return nil
	}
	if err := factory.WriteChain(ctx, issuers...); err != nil {
		return fmt.Errorf("IDevID certificate chain: %w", err)
	}
	return nil
}
