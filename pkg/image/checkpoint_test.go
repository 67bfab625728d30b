package image_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/image"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

var errDead = errors.New("the process is dead")

// disk is a sink that outlives processes. Of what was written, only what was synced survives a power cut.
type disk struct {
	mu      sync.Mutex
	content []byte // what came after the start, or after what Restore went back to; leftovers may follow on a real disk
	durable []byte
	synced  int // bytes of content that durable has already
	resets  int
	dead    bool
	marks   func(offset int) ([]byte, error) // nil: the offset
	restore error
	expect  func(total int64) error
	told    []int64
}

func (d *disk) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return 0, errDead
	}
	d.content = append(d.content, p...)
	return len(p), nil
}

func (d *disk) Reset() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.content, d.synced = nil, 0
	d.resets++
	return nil
}

func (d *disk) Expect(total int64) error {
	d.told = append(d.told, total)
	if d.expect != nil {
		return d.expect(total)
	}
	return nil
}

func (d *disk) Checkpoint() ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.marks != nil {
		return d.marks(len(d.content))
	}
	return binary.BigEndian.AppendUint64(nil, uint64(len(d.content))), nil
}

func (d *disk) Sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return errDead
	}
	d.durable = append(d.durable[:d.synced], d.content[d.synced:]...)
	d.synced = len(d.content)
	return nil
}

func (d *disk) Restore(mark []byte) error {
	if d.restore != nil {
		return d.restore
	}
	d.synced = int(binary.BigEndian.Uint64(mark))
	d.content = bytes.Clone(d.durable[:d.synced])
	return nil
}

// kill ends the process: nothing it does from here on has an effect.
func (d *disk) kill() { d.mu.Lock(); d.dead = true; d.mu.Unlock() }

// reopen is what the next process does after a power cut, which lost what was not synced.
func (d *disk) reopen() { d.content, d.synced, d.dead = nil, 0, false }

// survivor is a store of checkpoints that notices the death of its process.
type survivor struct {
	image.Checkpoints
	process *disk
}

func (s survivor) Save(at image.Checkpoint) error {
	s.process.mu.Lock()
	defer s.process.mu.Unlock()
	if s.process.dead {
		return errDead
	}
	return s.Checkpoints.Save(at)
}

func (s survivor) Clear() error {
	s.process.mu.Lock()
	defer s.process.mu.Unlock()
	if s.process.dead {
		return errDead
	}
	return s.Checkpoints.Clear()
}

func checkpoints(t testing.TB) image.CheckpointFile {
	return image.CheckpointFile{FS: durable.OS{}, Path: filepath.Join(t.TempDir(), "checkpoint")}
}

func wantNoCheckpoint(t *testing.T, store image.Checkpoints) {
	t.Helper()
	if at, err := store.Load(); at != nil || err != nil {
		t.Errorf("a checkpoint was left: %+v, %v", at, err)
	}
}

// asked is what of a request tells where a server is to go on.
type asked struct{ Range, IfRange string }

// interrupt fetches the first half of b from url, and is stopped in an orderly way there.
func interrupt(t *testing.T, r image.Request, sink image.Sink) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r.Progress = func(p image.Progress) {
		if p.Requests > 0 { // the connection broke
			cancel()
		}
	}
	_, err := image.Fetch(ctx, r, sink)
	wantCode(t, err, reason.Cancelled)
}

// A process that is stopped leaves what the next one needs to go on at the very byte (R5.6-11 holds for the whole).
func TestNextProcess(t *testing.T) {
	b := content(1 << 20)
	changed := append([]byte("another version"), b[15:]...)
	const half = 1 << 19
	tests := []struct {
		name   string
		spoil  func(t *testing.T, store image.CheckpointFile, d *disk, r *image.Request)
		second http.HandlerFunc
		want   []asked // by the second process
	}{
		{"goes on", nil, file(b, `"v1"`), []asked{{"bytes=524288-", `"v1"`}}},
		{"tag changed", nil, file(b, `"v2"`), []asked{{"bytes=524288-", `"v1"`}}},
		{"tag became weak", nil, file(b, `W/"v1"`), []asked{{"bytes=524288-", `"v1"`}}},
		{"server cannot resume any more", nil, func(w http.ResponseWriter, r *http.Request) { w.Write(b) }, []asked{{"bytes=524288-", `"v1"`}}},
		{"same tag, other bytes", func(t *testing.T, store image.CheckpointFile, d *disk, r *image.Request) {
			copy(d.durable, changed) // as if the mirror had changed before
			at, err := store.Load()
			if err != nil {
				t.Fatal(err)
			}
			hash := sha256.New()
			hash.Write(changed[:half])
			at.Hash, _ = hash.(interface{ MarshalBinary() ([]byte, error) }).MarshalBinary()
			if err := store.Save(*at); err != nil {
				t.Fatal(err)
			}
		}, file(b, `"v1"`), []asked{{"bytes=524288-", `"v1"`}, {}}},
		{"complete, other bytes", func(t *testing.T, store image.CheckpointFile, d *disk, r *image.Request) {
			d.durable = append(d.durable, d.durable...)
			change(func(at *image.Checkpoint) {
				at.Offset, at.Mark = 2*half, binary.BigEndian.AppendUint64(nil, 2*half)
			})(t, store, d, r)
		}, file(b, `"v1"`), []asked{{}}},
		{"other mirror", func(t *testing.T, store image.CheckpointFile, d *disk, r *image.Request) { r.URIs[0] += "?other" },
			file(b, `"v2"`), []asked{{"bytes=524288-", ""}}},
		{"other image", func(t *testing.T, store image.CheckpointFile, d *disk, r *image.Request) {
			r.SHA256 = digest(changed)
		}, file(changed, `"v1"`), []asked{{}}},
		{"sink cannot go on", func(t *testing.T, store image.CheckpointFile, d *disk, r *image.Request) {
			d.restore = errors.New("the slot has another image by now")
		}, file(b, `"v1"`), []asked{{}}},
		{"sink is too small by now", func(t *testing.T, store image.CheckpointFile, d *disk, r *image.Request) {
			refused := false
			d.expect = func(int64) error {
				if !refused {
					refused = true
					return errors.New("too small")
				}
				return nil
			}
		}, file(b, `"v1"`), []asked{{}}},
		{"damaged", damage(func(data []byte) []byte { data[len(data)/2]++; return data }), file(b, `"v1"`), []asked{{}}},
		{"cut off", damage(func(data []byte) []byte { return data[:len(data)-1] }), file(b, `"v1"`), []asked{{}}},
		{"empty", damage(func(data []byte) []byte { return nil }), file(b, `"v1"`), []asked{{}}},
		{"other version", damage(func(data []byte) []byte { return bytes.Replace(data, []byte(" 1 "), []byte(" 2 "), 1) }), file(b, `"v1"`), []asked{{}}},
		{"large", damage(func(data []byte) []byte { return append(data, make([]byte, 1<<20)...) }), file(b, `"v1"`), []asked{{}}},
		{"a folder", func(t *testing.T, store image.CheckpointFile, d *disk, r *image.Request) {
			if err := errors.Join(os.Remove(store.Path), os.Mkdir(store.Path, 0o700)); err != nil {
				t.Fatal(err)
			}
		}, file(b, `"v1"`), []asked{{}}},
		{"no state of a hash", change(func(at *image.Checkpoint) { at.Hash = at.Hash[1:] }), file(b, `"v1"`), []asked{{}}},
		{"behind the end", change(func(at *image.Checkpoint) { at.Offset = at.Total + 1 }), file(b, `"v1"`), []asked{{}}},
		{"before the start", change(func(at *image.Checkpoint) { at.Offset = -1 }), file(b, `"v1"`), []asked{{}}},
		{"too large", change(func(at *image.Checkpoint) { at.Total = 65 << 20 }), file(b, `"v1"`), []asked{{}}},
		{"no source", change(func(at *image.Checkpoint) { at.Source = nil }), file(b, `"v1"`), []asked{{}}},
		{"no mark", change(func(at *image.Checkpoint) { at.Mark = nil }), file(b, `"v1"`), []asked{{}}},
		{"weak tag", change(func(at *image.Checkpoint) { at.ETag = `W/"v1"` }), file(b, `"v1"`), []asked{{}}},
		{"header injected", change(func(at *image.Checkpoint) { at.ETag = "\"v1\"\r\nHost: x" }), file(b, `"v1"`), []asked{{}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []asked
			handler := cutting(file(b, `"v1"`), half)
			url := serve(t, func(w http.ResponseWriter, r *http.Request) {
				got = append(got, asked{r.Header.Get("Range"), r.Header.Get("If-Range")})
				handler(w, r)
			})
			store, d := checkpoints(t), &disk{}
			r := request(b, url)
			r.Checkpoints = store
			interrupt(t, r, d)
			if info, err := os.Stat(store.Path); err != nil || info.Mode() != 0o600 {
				t.Fatalf("checkpoint: %v, %v", info, err)
			}
			if tt.spoil != nil {
				tt.spoil(t, store, d, &r)
			}
			d.reopen()
			got, handler = nil, tt.second
			if _, err := image.Fetch(t.Context(), r, d); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(digest(d.content), r.SHA256) {
				t.Errorf("the sink holds %d wrong bytes", len(d.content))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if tt.name != "a folder" {
				wantNoCheckpoint(t, store)
			}
		})
	}
}

// stuck is a store whose storage cannot be written to any more.
type stuck struct{ image.Checkpoints }

func (stuck) Save(image.Checkpoint) error { return syscall.EIO }
func (stuck) Clear() error                { return syscall.EIO }

// A checkpoint that cannot be removed is not outlived by the bytes that it vouches for: while it is there, no mirror gets to
// put others in their place, which might have the same checksums.
func TestStuckCheckpoint(t *testing.T) {
	b, other := content(1<<20), bytes.Repeat([]byte("unverified "), 1<<16)
	handler := cutting(file(b, `"v1"`), 1<<19)
	url := serve(t, func(w http.ResponseWriter, r *http.Request) { handler(w, r) })
	store, d := checkpoints(t), &disk{}
	r := request(b, url)
	r.Checkpoints = store
	interrupt(t, r, d)
	d.reopen()
	before := bytes.Clone(d.durable)

	handler = file(other, `"v2"`)
	r.Checkpoints = stuck{store}
	_, err := image.Fetch(t.Context(), r, d)
	wantCode(t, err, image.CodeCheckpoint)
	if at, err := store.Load(); at == nil || err != nil {
		t.Fatalf("%+v, %v", at, err)
	}
	if len(d.content) > 0 && !bytes.Equal(d.content, before) || d.resets > 0 {
		t.Errorf("the sink holds %d other bytes, after %d resets", len(d.content), d.resets)
	}
}

// damage changes the file of a checkpoint.
func damage(how func([]byte) []byte) func(*testing.T, image.CheckpointFile, *disk, *image.Request) {
	return func(t *testing.T, store image.CheckpointFile, _ *disk, _ *image.Request) {
		data, err := os.ReadFile(store.Path)
		if err == nil {
			err = os.WriteFile(store.Path, how(data), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := store.Load(); err == nil {
			t.Error("the damage was not noticed")
		}
	}
}

// change changes a checkpoint that is well-formed.
func change(how func(*image.Checkpoint)) func(*testing.T, image.CheckpointFile, *disk, *image.Request) {
	return func(t *testing.T, store image.CheckpointFile, _ *disk, _ *image.Request) {
		at, err := store.Load()
		if err != nil {
			t.Fatal(err)
		}
		how(at)
		if err := store.Save(*at); err != nil {
			t.Fatal(err)
		}
	}
}
