package image

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/xpu-sztp/ztp/pkg/durable"
)

// CheckpointFile keeps a Checkpoint in a file that only its owner may read. The file says which version of its format it is
// in and has a checksum of its own; whatever is wrong with it makes Load fail, and the download start at the first byte.
type CheckpointFile struct {
	FS   durable.FS
	Path string // in a folder that exists
}

const (
	checkpointMagic = "ztp-image-checkpoint 1 " // followed by the SHA-256 of the JSON text, in hexadecimal, and a newline
	maxCheckpoint   = MaxMark/3*4 + 4<<10
)

// Load reads the file.
func (c CheckpointFile) Load() (*Checkpoint, error) {
	f, err := os.Open(c.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxCheckpoint+1))
	if err != nil {
		return nil, err
	}
	return decodeCheckpoint(data)
}

// Save replaces the file.
func (c CheckpointFile) Save(at Checkpoint) error {
	data, err := encodeCheckpoint(at)
	if err != nil {
		return err
	}
	return durable.WriteFile(c.FS, c.Path, data, 0o600, nil)
}

// Clear removes the file.
func (c CheckpointFile) Clear() error { return durable.Remove(c.FS, c.Path) }

func encodeCheckpoint(at Checkpoint) ([]byte, error) {
	text, err := json.Marshal(at)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	data := append([]byte(checkpointMagic+hex.EncodeToString(sum[:])+"\n"), text...)
	if len(data) > maxCheckpoint {
		return nil, fmt.Errorf("a checkpoint of %d bytes is too large", len(data))
	}
	return data, nil
}

func decodeCheckpoint(data []byte) (*Checkpoint, error) {
	if len(data) > maxCheckpoint {
		return nil, errors.New("the checkpoint is too large")
	}
	sum, ok := bytes.CutPrefix(data, []byte(checkpointMagic))
	if !ok {
		return nil, errors.New("the checkpoint is of another version")
	}
	sum, text, _ := bytes.Cut(sum, []byte("\n"))
	want := sha256.Sum256(text)
	if string(sum) != hex.EncodeToString(want[:]) {
		return nil, errors.New("the checkpoint is damaged")
	}
	var at Checkpoint
	if err := json.Unmarshal(text, &at); err != nil {
		return nil, fmt.Errorf("the checkpoint cannot be read: %w", err)
	}
	return &at, nil
}
