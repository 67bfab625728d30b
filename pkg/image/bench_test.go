package image_test

import (
	"crypto/sha256"
	"encoding/binary"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/xpu-sztp/ztp/pkg/image"
)

// fileSink writes to a file, as a slot does.
type fileSink struct{ *os.File }

func (f fileSink) Reset() error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return f.Truncate(0)
}

func (f fileSink) Checkpoint() ([]byte, error) {
	at, err := f.Seek(0, io.SeekCurrent)
	return binary.BigEndian.AppendUint64(nil, uint64(at)), err
}

func (f fileSink) Restore(mark []byte) error {
	_, err := f.Seek(int64(binary.BigEndian.Uint64(mark)), io.SeekStart)
	return err
}

// BenchmarkFetch measures socket → SHA-256 → file, beside the same without hashing and verification, and with many more
// checkpoints than are usual.
func BenchmarkFetch(b *testing.B) {
	data := content(64 << 20)
	sum := sha256.Sum256(data)
	server := httptest.NewServer(file(data, `"v1"`))
	defer server.Close()
	open := func(b *testing.B) fileSink {
		f, err := os.Create(b.TempDir() + "/slot")
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { f.Close() })
		return fileSink{f}
	}
	b.Run("fetch", func(b *testing.B) {
		sink := open(b)
		r := request(data, server.URL)
		r.SHA256 = sum[:]
		r.MaxSize = 1 << 30
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			if _, err := image.Fetch(b.Context(), r, sink); err != nil {
				b.Fatal(err)
			}
			sink.Reset()
		}
	})
	b.Run("fetch with checkpoints", func(b *testing.B) {
		sink := open(b)
		r := request(data, server.URL)
		r.SHA256 = sum[:]
		r.MaxSize = 1 << 30
		r.Checkpoints, r.CheckpointBytes = checkpoints(b), 8<<20
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			if _, err := image.Fetch(b.Context(), r, sink); err != nil {
				b.Fatal(err)
			}
			sink.Reset()
		}
	})
	b.Run("plain copy", func(b *testing.B) {
		sink := open(b)
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			resp, err := http.Get(server.URL)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(sink.File, resp.Body); err != nil {
				b.Fatal(err)
			}
			resp.Body.Close()
			sink.Reset()
		}
	})
	b.Run("hash alone", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			sha256.Sum256(data)
		}
	})
}
