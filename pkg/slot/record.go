package slot

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/slot/media"
	"github.com/xpu-sztp/ztp/pkg/slot/unpack"
)

// records are the files that say which slots hold a complete, verified image: SLOT.sha256 has a line as sha256sum writes it,
// with the digest of the image as it was downloaded, and a comment that sha256sum passes over with what else is known.
type records struct {
	fs  durable.FS
	dir string
}

// record is what is known of the image in a slot. Its JSON is the comment.
type record struct {
	SHA256 []byte        `json:"-"`
	Size   int64         `json:"size"`
	Format unpack.Format `json:"format"`
	At     time.Time     `json:"at"`
	Place  string        `json:"place,omitempty"` // identity of the device
	Proof  media.Proof   `json:"written"`
}

const (
	commentPrefix = "# ztp: "
	maxRecord     = 4 << 10
)

// read returns the record of a slot, or nil when it has none that makes sense.
func (r *records) read(slot string) (*record, error) {
	text, err := readSmall(r.path(slot))
	if err != nil {
		return nil, err
	}
	return parseRecord(text), nil
}

// parseRecord returns nil for what does not say, whatever it is, that an image is complete.
func parseRecord(text string) *record {
	var r record
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if comment, ok := strings.CutPrefix(line, commentPrefix); ok {
			if json.Unmarshal([]byte(comment), &r) != nil || r.Size < 0 || r.Proof.Size < 0 {
				return nil
			}
			continue
		}
		digest, _, _ := strings.Cut(line, " ")
		sum, err := hex.DecodeString(digest)
		if err != nil || len(sum) != 32 || r.SHA256 != nil {
			return nil
		}
		r.SHA256 = sum
	}
	if r.SHA256 == nil || r.Proof.Chunk <= 0 {
		return nil
	}
	return &r
}

// write records a complete image; file is what its bytes are in.
func (r *records) write(slot, file string, known record) error {
	known.At = known.At.UTC()
	comment, err := json.Marshal(known)
	if err != nil {
		return noted(err)
	}
	if filepath.Dir(file) == filepath.Clean(r.dir) {
		file = filepath.Base(file)
	}
	return replace(r.fs, r.path(slot), commentPrefix+string(comment)+"\n"+hex.EncodeToString(known.SHA256)+"  "+file+"\n")
}

// sync makes durable what a process wrote that may have died, or failed, just before it did so itself.
func (r *records) sync() error { return noted(r.fs.SyncDir(r.dir)) }

// remove forgets what a slot holds.
func (r *records) remove(slot string) error { return remove(r.fs, r.path(slot)) }

func (r *records) path(slot string) string { return filepath.Join(r.dir, slot+".sha256") }

// held reports whether the place may still hold what the record says, without reading all of it.
func (r *record) held(place media.Place) (bool, error) {
	info, err := os.Stat(place.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, unavailable(err)
	case info.Mode().IsRegular():
		return info.Size() == r.Proof.Size, nil
	}
	identity, err := place.Identity()
	return identity == r.Place, err
}

func (r *record) image() Image {
	return Image{SHA256: r.SHA256, Size: r.Size, Written: r.Proof.Size, Format: r.Format, At: r.At}
}

// readSmall reads a text file; one that does not exist is empty.
func readSmall(path string) (string, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", unavailable(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxRecord))
	if err != nil {
		return "", unavailable(err)
	}
	return string(b), nil
}
