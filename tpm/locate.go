package tpm

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/google/go-tpm/tpm2"
)

const (
	defaultKey  = "0x81020000" // the TCG's handle for an IDevID key
	maxFileSize = 256 << 10    // bytes of a key or certificate file

	persistentFirst = 0x81000000
	persistentLast  = 0x81FFFFFF
	nvFirst         = 0x01000000
	nvLast          = 0x01FFFFFF
)

// findKey sets p.key and p.where from the key that location names.
func (p *pair) findKey(ctx context.Context, location string) error {
	if location == "" && p.conn != nil {
		location = defaultKey
	}
	if location == "" {
		return &Error{Code: CodeKeyMissing, Msg: "there is neither a TPM nor a key file in the configuration",
			Fix: "set identity.tpm, or identity.key to a private key file"}
	}
	if handle, ok := parseHandle(location); ok {
		return p.usePersistentKey(ctx, location, handle)
	}
	content, err := readFile(location)
	if err != nil {
		return &Error{Code: CodeKeyMissing, Msg: "cannot read the private key", Err: err,
			Fix: fixFile(err, "correct identity.key: a persistent handle such as "+defaultKey+", or a file")}
	}
	p.where = location
	block := keyBlock(content)
	switch {
	case block == nil:
		return unusable("convert it to PEM", "%s holds no private key in PEM form", location)
	case block.Type == tss2Type:
		return p.useWrappedKey(ctx, location, block.Bytes)
	case p.conn != nil && p.use == forIdentity:
		// A TPM was asked for: falling back to a key that can be copied must be somebody's explicit decision.
		return unusable(`set identity.tpm to "none" to accept a key that can be copied, or name a key in the TPM`,
			"%s is not a TPM key (PEM type %s) although a TPM is configured", location, quote(block.Type))
	}
	return p.useFileKey(location, block)
}

// keyBlock returns the first private key in a PEM file, which may hold parameters or certificates too.
func keyBlock(content []byte) *pem.Block {
	for {
		block, rest := pem.Decode(content)
		if block == nil || strings.HasSuffix(block.Type, "PRIVATE KEY") {
			return block
		}
		content = rest
	}
}

func (p *pair) usePersistentKey(ctx context.Context, location string, handle tpm2.TPMHandle) error {
	switch {
	case handle < persistentFirst || handle > persistentLast:
		return &Error{Code: CodeKeyMissing, Msg: location + " is not a persistent handle",
			Fix: "identity.key must lie in 0x81000000–0x81FFFFFF or name a file"}
	case p.conn == nil:
		return &Error{Code: CodeKeyMissing, Msg: "the key is in a TPM (" + location + ") but no TPM is configured",
			Fix: "set identity.tpm, usually to /dev/tpmrm0"}
	}
	p.where = "TPM handle " + location
	var key *tpmKey
	err := p.conn.do(ctx, commandTimeout, "reading the key at "+location, func(s *session) error {
		area, name, err := readPublic(s, handle)
		if errors.Is(err, tpm2.TPMRCHandle) {
			return &Error{Code: CodeKeyMissing, Msg: "the TPM has no key at " + location + persistentHandles(s), Err: err,
				Fix: "set identity.key to the handle the maker used, or make the key: " + p.use.maker()}
		}
		if err != nil {
			return err
		}
		key, err = newTPMKey(p.conn, p.use, p.where, area, residentKey{handle, name})
		return err
	})
	if err != nil {
		return err
	}
	p.adopt(key)
	return nil
}

func (p *pair) useWrappedKey(ctx context.Context, location string, der []byte) error {
	if p.conn == nil {
		return unusable("set identity.tpm, usually to /dev/tpmrm0",
			"%s is wrapped by a TPM but no TPM is configured", location)
	}
	file, err := parseTSS2(der)
	if err != nil {
		return &Error{Code: CodeKeyUnusable, Msg: location + " is not a usable TSS2 private key", Err: err,
			Fix: "make the key again, loadable and without a password (tpm2_encodeobject 5.4 says so only with -p)"}
	}
	wrapped := &wrappedKey{file: file}
	key, err := newTPMKey(p.conn, p.use, location, file.area, wrapped)
	if err != nil {
		return err
	}
	err = p.conn.do(ctx, keygenTimeout, "loading the key of "+location, func(s *session) error {
		_, release, err := wrapped.acquire(s)
		if err == nil {
			release()
		}
		return err
	})
	if err != nil {
		return err
	}
	p.adopt(key)
	return nil
}

func (p *pair) adopt(k *tpmKey) {
	p.key = k
	if !k.area.ObjectAttributes.FixedTPM {
		p.warnings = append(p.warnings, "the private key in "+p.where+" may be duplicated to another TPM (fixedTPM is clear)")
	}
}

// readPublic returns the public area of a loaded or persistent object, and its name.
func readPublic(s *session, h tpm2.TPMHandle) (*tpm2.TPMTPublic, tpm2.TPM2BName, error) {
	rsp, err := s.execute(readPublicArea(h))
	if err != nil {
		return nil, tpm2.TPM2BName{}, err
	}
	area, err := rsp.public()
	if err != nil {
		return nil, tpm2.TPM2BName{}, err
	}
	name, err := rsp.sized()
	return area, tpm2.TPM2BName{Buffer: name}, err
}

// persistentHandles completes a sentence about a missing key with the keys that are there.
func persistentHandles(s *session) string {
	found, err := handles(s, persistentFirst, persistentLast, 32)
	if err != nil || len(found) == 0 {
		return "; it has no persistent keys at all"
	}
	var names []string
	for _, h := range found {
		names = append(names, fmt.Sprintf("%#08x", uint32(h)))
	}
	return "; there are keys at " + strings.Join(names, ", ")
}

// parseHandle recognises a TPM handle or NV index written in hexadecimal.
func parseHandle(s string) (tpm2.TPMHandle, bool) {
	digits, ok := strings.CutPrefix(strings.ToLower(s), "0x")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 16, 32)
	return tpm2.TPMHandle(n), err == nil
}

// fixFile is what to do about a file that cannot be read; other is for one that is there for everybody, or for nobody.
func fixFile(err error, other string) string {
	if errors.Is(err, os.ErrPermission) {
		return "let whoever runs this read the file: the daemon of systemd's unit is the user ztp"
	}
	return other
}

// readFile reads a regular file of bounded size.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var b bytes.Buffer
	if n, err := io.Copy(&b, io.LimitReader(f, maxFileSize+1)); err != nil {
		return nil, err
	} else if n > maxFileSize {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxFileSize)
	}
	return b.Bytes(), nil
}

func quote(s string) string { return strconv.Quote(s) }
