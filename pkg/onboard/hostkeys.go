package onboard

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/xpu-sztp/ztp/pkg/progress"
)

const (
	maxHostKeys    = 32
	maxHostKeyFile = 64 << 10 // bytes
)

// hostKeys returns the SSH host keys that bootstrap-complete carries. One that cannot be read is left out with a warning:
// it is no reason to throw away a device that works.
func (e *Executor) hostKeys() (keys []progress.SSHHostKey) {
	seen := make(map[string]bool)
	for _, pattern := range e.Report.SSHHostKeys {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			e.warn("bad pattern in report.ssh-host-keys", err)
		}
		for _, path := range paths {
			if seen[path] || len(keys) == maxHostKeys {
				continue
			}
			seen[path] = true
			key, err := readHostKey(path)
			if err != nil {
				e.warn("an SSH host key is left out", err)
				continue
			}
			keys = append(keys, key)
		}
	}
	return keys
}

// readHostKey reads a public key file of OpenSSH: algorithm, base64 of the blob of RFC 4253 §6.6, comment.
func readHostKey(path string) (progress.SSHHostKey, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return progress.SSHHostKey{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxHostKeyFile))
	if err != nil {
		return progress.SSHHostKey{}, err
	}
	key, err := parseHostKey(data)
	if err != nil {
		return progress.SSHHostKey{}, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

func parseHostKey(data []byte) (progress.SSHHostKey, error) {
	line, _, _ := bytes.Cut(bytes.TrimSpace(data), []byte("\n"))
	fields := bytes.Fields(line)
	if len(fields) < 2 {
		return progress.SSHHostKey{}, errors.New("not an OpenSSH public key")
	}
	blob, err := base64.StdEncoding.DecodeString(string(fields[1]))
	if err != nil {
		return progress.SSHHostKey{}, fmt.Errorf("bad base64: %w", err)
	}
	// The blob begins with the algorithm; a private key or any other file does not pass for a public one.
	algorithm := fields[0]
	if len(blob) < 4 || int64(binary.BigEndian.Uint32(blob)) != int64(len(algorithm)) || !bytes.HasPrefix(blob[4:], algorithm) {
		return progress.SSHHostKey{}, errors.New("the key is not of the algorithm before it")
	}
	return progress.SSHHostKey{Algorithm: string(algorithm), KeyData: blob}, nil
}
