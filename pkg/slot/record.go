package slot

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/slot/media"
)

// records are the files that say which slots hold a complete, verified image: SLOT.sha256 has a line as sha256sum writes it,
// with the digest of the image as it was downloaded, and a comment that sha256sum passes over with what else is known.
type records struct {
	fs  durable.FS
	dir string
}

// details is the comment in a record.
type details struct {
	Size    int64     `json:"size"`
	Written int64     `json:"written"`
	Format  string    `json:"format,omitempty"`
	At      time.Time `json:"at"`
}

const (
	detailsPrefix = "# ztp: "
	maxRecord     = 4 << 10
)

// read returns the record of a slot, or nil when it has none that makes sense.
func (r *records) read(slot string) (*Image, error) {
	text, err := readSmall(r.path(slot))
	if err != nil {
		return nil, err
	}
	image, ok := parseRecord(text)
	if !ok {
		return nil, nil // whatever it is, it does not say that the image is complete
	}
	return image, nil
}

func parseRecord(text string) (*Image, bool) {
	var image Image
	var known details
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if comment, ok := strings.CutPrefix(line, detailsPrefix); ok {
			if json.Unmarshal([]byte(comment), &known) != nil || known.Size < 0 || known.Written < 0 {
				return nil, false
			}
			continue
		}
		digest, _, _ := strings.Cut(line, " ")
		sum, err := hex.DecodeString(digest)
		if err != nil || len(sum) != 32 || image.SHA256 != nil {
			return nil, false
		}
		image.SHA256 = sum
	}
	image.Size, image.Written, image.Format, image.At = known.Size, known.Written, known.Format, known.At
	return &image, image.SHA256 != nil
}

// write records a complete image; file is what its bytes are in.
func (r *records) write(slot, file string, i Image) error {
	if filepath.Dir(file) == filepath.Clean(r.dir) {
		file = filepath.Base(file)
	}
	known, err := json.Marshal(details{Size: i.Size, Written: i.Written, Format: i.Format, At: i.At.UTC()})
	if err == nil {
		text := detailsPrefix + string(known) + "\n" + hex.EncodeToString(i.SHA256) + "  " + file + "\n"
		err = replace(r.fs, r.path(slot), text)
	}
	return err
}

// remove forgets what a slot holds.
func (r *records) remove(slot string) error { return remove(r.fs, r.path(slot)) }

func (r *records) path(slot string) string { return filepath.Join(r.dir, slot+".sha256") }

// held returns the image when the place can still hold it.
func held(place media.Place, image *Image) (*Image, error) {
	info, err := os.Stat(place.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, unavailable(err)
	case info.Mode().IsRegular() && image.At.IsZero(): // a record without details
		image.Size, image.Written = info.Size(), info.Size()
	case info.Mode().IsRegular() && info.Size() != image.Written:
		return nil, nil
	}
	return image, nil
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
	b := make([]byte, maxRecord)
	n := 0
	for n < len(b) {
		more, err := f.Read(b[n:])
		n += more
		if err != nil {
			break
		}
	}
	return string(b[:n]), nil
}
