package config

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Anchor is a configured trust anchor and the file it was read from.
type Anchor struct {
	File        string
	Certificate *x509.Certificate
}

// Anchors holds the configured trust anchors, each certificate once, in the order of the configuration.
type Anchors struct {
	BootstrapServers []Anchor // whom to believe about well-known servers
	Vouchers         []Anchor // whom to believe about ownership
	Images           []Anchor // whom to believe about servers of images
}

// Certificates returns the certificates of a list.
func Certificates(anchors []Anchor) []*x509.Certificate {
	certs := make([]*x509.Certificate, len(anchors))
	for i, a := range anchors {
		certs[i] = a.Certificate
	}
	return certs
}

const (
	maxAnchorFile = 1 << 20 // bytes
	maxAnchors    = 1000    // certificates of one kind
)

// loadAnchors reads all kinds of anchors and then checks that the servers that are to be authenticated can be: without an anchor
// well-known ones would be visited as if anybody had named them, and those of images refused one after another.
func (l *loader) loadAnchors() error {
	c := l.config
	for _, kind := range []struct {
		key    string
		places []string
		dest   *[]Anchor
	}{
		{"trust.bootstrap-servers", c.Trust.BootstrapServers, &c.Anchors.BootstrapServers},
		{"trust.vouchers", c.Trust.Vouchers, &c.Anchors.Vouchers},
		{"image.anchors", c.Image.Anchors, &c.Anchors.Images},
	} {
		at := l.origins[kind.key]
		anchors, err := readAnchors(kind.places, l.optional())
		if err != nil {
			return invalid(at, kind.key, err, "name folders of *.pem files or PEM files with certificates of certification authorities")
		}
		*kind.dest = anchors
	}
	if len(c.Discovery.WellKnown) > 0 && len(c.Anchors.BootstrapServers) == 0 {
		return invalid(l.origins["discovery.well-known"], "discovery.well-known",
			errors.New("names servers, but there is no trust anchor to authenticate them with"),
			"put the certificate of their certification authority below "+c.Paths.Below("/etc/ztp/trust/bootstrap-servers"))
	}
	if c.Image.VerifyServers && len(c.Anchors.Images) == 0 {
		return invalid(l.origins["image.verify-servers"], "image.verify-servers",
			errors.New("wants servers of images authenticated, but there is no trust anchor to do it with"),
			"put the certificate of their certification authority below "+c.Paths.Below("/etc/ztp/trust/images"))
	}
	return nil
}

// optional lists the folders that may be missing: those of the built-in defaults, which a maker may have no use for.
func (l *loader) optional() []string {
	d := Default()
	var folders []string
	for _, folder := range slices.Concat(d.Trust.BootstrapServers, d.Trust.Vouchers, d.Image.Anchors) {
		folders = append(folders, l.config.Paths.Below(folder))
	}
	return folders
}

func readAnchors(places, optional []string) ([]Anchor, error) {
	var anchors []Anchor
	seen := map[string]bool{}
	for _, place := range places {
		files, err := anchorFiles(place)
		if errors.Is(err, fs.ErrNotExist) && slices.Contains(optional, place) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			data, err := readBounded(file, maxAnchorFile)
			if err != nil {
				return nil, err
			}
			certs, err := parseCertificates(file, data, authority)
			if err != nil {
				return nil, err
			}
			for _, cert := range certs {
				if !seen[string(cert.Raw)] {
					seen[string(cert.Raw)] = true
					anchors = append(anchors, Anchor{File: file, Certificate: cert})
				}
			}
			if len(anchors) > maxAnchors {
				return nil, fmt.Errorf("%s: more than %d certificates", place, maxAnchors)
			}
		}
	}
	return anchors, nil
}

// anchorFiles lists the PEM files of a folder in the order of their names, or the one file that place is.
func anchorFiles(place string) ([]string, error) {
	info, err := os.Stat(place)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{place}, nil
	}
	entries, err := os.ReadDir(place)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		if filepath.Ext(e.Name()) == ".pem" && !strings.HasPrefix(e.Name(), ".") {
			files = append(files, filepath.Join(place, e.Name()))
		}
	}
	return files, nil
}

// parseCertificates reads the certificates of a PEM file, which may hold several, and text around them.
func parseCertificates(file string, data []byte, check func(*x509.Certificate) error) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	rest := data
	for {
		line := 1 + bytes.Count(data[:len(data)-len(rest)], []byte("\n"))
		block, after := pem.Decode(rest)
		if block == nil {
			break
		}
		if skipped := rest[:len(rest)-len(after)]; bytes.Count(skipped, []byte("-----BEGIN ")) > 1 {
			return nil, fmt.Errorf("%s:%d: has a damaged PEM block", file, line)
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s:%d: has a PEM block %q; only certificates belong here", file, line, block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: is not a certificate: %w", file, line, err)
		}
		if err := check(cert); err != nil {
			return nil, fmt.Errorf("%s:%d: the certificate %q %w", file, line, cert.Subject, err)
		}
		certs = append(certs, cert)
		rest = after
	}
	if bytes.Contains(rest, []byte("-----BEGIN ")) {
		return nil, fmt.Errorf("%s: has a damaged PEM block", file)
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("%s: has no PEM certificate", file)
	}
	return certs, nil
}

func authority(cert *x509.Certificate) error {
	if cert.BasicConstraintsValid && cert.IsCA && (cert.KeyUsage == 0 || cert.KeyUsage&x509.KeyUsageCertSign != 0) {
		return nil
	}
	return errors.New("is not one of a certification authority")
}
