package device

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

// Image is an operating system for the simulated device: a tar archive with etc/os-release and some payload.
type Image struct {
	OSName    string
	OSVersion string
	// ActualVersion is what the system says of itself once it runs; default OSVersion. Another one is an image that lies.
	ActualVersion string
	PayloadSize   int // bytes of incompressible payload; default 4 MiB
}

const (
	releaseFile    = "etc/os-release"
	maxReleaseSize = 64 << 10
)

// Bytes returns the image. The same Image always has the same bytes.
func (i Image) Bytes() []byte {
	version := i.ActualVersion
	if version == "" {
		version = i.OSVersion
	}
	size := i.PayloadSize
	if size == 0 {
		size = 4 << 20
	}
	var seed [32]byte
	copy(seed[:], i.OSName+i.OSVersion)
	payload := make([]byte, size)
	rand.NewChaCha8(seed).Read(payload)
	release := fmt.Sprintf("ID=%q\nNAME=%q\nVERSION_ID=%q\nIMAGE_VERSION=%q\nPRETTY_NAME=\"%s %s\"\n",
		i.OSName, i.OSName, version, version, i.OSName, version)

	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range []struct {
		name    string
		content []byte
	}{{releaseFile, []byte(release)}, {"usr/lib/payload", payload}} {
		// Writes to a buffer with the announced size cannot fail.
		w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.content)), ModTime: time.Unix(0, 0)})
		w.Write(f.content)
	}
	w.Close()
	return out.Bytes()
}

// layOut plays the part of the booted image: it puts the os-release of the image file below root.
func layOut(image, root string) error {
	f, err := os.Open(image)
	if err != nil {
		return err
	}
	defer f.Close()
	r := tar.NewReader(f)
	for {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%s has no %s: it is no image of this device", image, releaseFile)
		}
		if err != nil {
			return fmt.Errorf("%s is no image of this device: %w", image, err)
		}
		if header.Name != releaseFile {
			continue
		}
		release, err := io.ReadAll(io.LimitReader(r, maxReleaseSize))
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(root, releaseFile), release, 0o644)
	}
}
