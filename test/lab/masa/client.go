package masa

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/xpu-sztp/ztp/test/lab/artifact"
	"github.com/xpu-sztp/ztp/test/lab/cms"
	"github.com/xpu-sztp/ztp/test/lab/pki"
)

// Client asks manufacturers' voucher services on behalf of an owner.
type Client struct {
	HTTP  *http.Client
	Owner *pki.Entity // signs the requests
}

// Voucher asks the service named in the IDevID certificate for a voucher. A nil nonce asks for a long-lived one.
func (c *Client) Voucher(ctx context.Context, idevid *x509.Certificate, nonce []byte) ([]byte, error) {
	target, err := endpoint(idevid)
	if err != nil {
		return nil, err
	}
	doc, err := json.Marshal(map[string]request{requestMember: {
		CreatedOn:    time.Now().UTC().Truncate(time.Second),
		SerialNumber: idevid.Subject.SerialNumber,
		IDevIDIssuer: artifact.AuthorityKeyID(idevid),
		Nonce:        nonce,
	}})
	if err != nil {
		return nil, err
	}
	signed, err := cms.Sign(cms.VoucherJSON, doc, cms.Signer{
		Certificate: c.Owner.Certificate, Key: c.Owner.Key, Include: c.Owner.Chain(),
	})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(signed))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", MediaType)
	req.Header.Set("Accept", MediaType)
	res, err := c.HTTP.Do(req)
	if err != nil {
		return nil, fmt.Errorf("voucher service: %w", err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxRequest))
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("voucher service %s answered %s: %s", target, res.Status, bytes.TrimSpace(body))
	}
	return body, nil
}

// endpoint reads the MASA URL extension, which may hold an authority alone (RFC 8995 §2.3.2).
func endpoint(idevid *x509.Certificate) (string, error) {
	text := pki.MASAURL(idevid)
	if text == "" {
		return "", fmt.Errorf("the IDevID of %q names no voucher service", idevid.Subject.SerialNumber)
	}
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return "", fmt.Errorf("the IDevID of %q names the voucher service %q, which is no https URL", idevid.Subject.SerialNumber, text)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = Path
	}
	return u.String(), nil
}
