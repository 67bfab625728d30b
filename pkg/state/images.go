package state

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/xpu-sztp/ztp/pkg/reason"
)

// ReasonNoImage says that no image, or more than one, is meant.
const ReasonNoImage reason.Code = "no-such-image"

// RefusedFor is how long a refused image is not tried. Who keeps the device from its servers, or replays what an owner once
// signed, can make a good image look as if it never came up; that must not last until a person comes.
const RefusedFor = 24 * time.Hour

// PastImage is one boot image that the device has tried.
type PastImage struct {
	SHA256 string `json:"sha256"`
	ImageRecord
	Until time.Time `json:"until,omitzero"` // it is refused
}

// History lists the images of the record, the latest first.
func (r *Record) History() []PastImage {
	var list []PastImage
	for _, key := range slices.Sorted(maps.Keys(r.Images)) {
		i := PastImage{SHA256: key, ImageRecord: r.Images[key]}
		if i.State == ImageRefused {
			i.Until = i.Updated.Add(RefusedFor)
		}
		at := len(list)
		for at > 0 && i.Updated.After(list[at-1].Updated) {
			at--
		}
		list = slices.Insert(list, at, i)
	}
	return list
}

// ClearImage forgets what is held against an image, given by its SHA-256 or the beginning of it, so that it is tried again,
// image.attempts times. It returns the whole SHA-256.
func (r *Record) ClearImage(sha256 string) (string, error) {
	var found []string
	for key := range r.Images {
		if strings.HasPrefix(key, strings.ToLower(sha256)) {
			found = append(found, key)
		}
	}
	if len(found) != 1 || sha256 == "" {
		return "", &reason.Error{
			Code: ReasonNoImage, Msg: fmt.Sprintf("%d images have a SHA-256 that begins with %q", len(found), sha256),
			Fix: "`ztp images` lists those that there are",
		}
	}
	r.forgive(found[0])
	return found[0], nil
}

// forgive forgets what is held against an image.
func (r *Record) forgive(key string) {
	i := r.Images[key]
	if i.State == ImageRefused || i.State == ImageFellBack {
		delete(r.Images, key)
		return
	}
	i.Attempts, i.Reboots, i.Expired, i.Reason = 0, 0, 0, nil
	r.Images[key] = i
}
