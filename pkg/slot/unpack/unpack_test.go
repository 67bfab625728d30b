package unpack_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/slot/unpack"
)

// pack has the format's own tool compress content.
func pack(t testing.TB, content []byte, command string) []byte {
	t.Helper()
	args := strings.Fields(command)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = bytes.NewReader(content)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, stderr.String())
	}
	return out
}

// image is what an image looks like: text, noise, zeros.
func image(size int) []byte {
	b := make([]byte, 0, size)
	rng := rand.New(rand.NewPCG(1, 2))
	for len(b) < size {
		switch rng.IntN(3) {
		case 0:
			for range rng.IntN(500) {
				b = append(b, []string{"the ", "kernel ", "of ", "an ", "image\n", "0123456789"}[rng.IntN(6)]...)
			}
		case 1:
			for range rng.IntN(5000) {
				b = append(b, byte(rng.Uint32()))
			}
		case 2:
			b = append(b, make([]byte, rng.IntN(200000))...)
		}
	}
	return b[:size]
}

// run unpacks what comes in pieces of a size.
func run(ctx context.Context, packed []byte, format unpack.Format, piece int, to io.Writer) error {
	w := unpack.NewWriter(ctx, to, format)
	for part := range slices.Chunk(packed, piece) {
		if _, err := w.Write(part); err != nil {
			w.Abort()
			return err
		}
	}
	return w.Finish()
}

func wantCode(t *testing.T, err error, want reason.Code) {
	t.Helper()
	if code, fix := reason.Of(err); code != want || want != "" && (fix == "" || !errors.Is(err, syscall.EPROTO)) {
		t.Fatalf("got %q (%v), to do %q; want code %q", code, err, fix, want)
	}
}

var tools = map[string]unpack.Format{
	"gzip": unpack.Gzip, "gzip -1": unpack.Gzip, "gzip -9": unpack.Gzip,
	"xz": unpack.XZ, "xz -0": unpack.XZ, "xz --check=none": unpack.XZ, "xz --check=crc32": unpack.XZ, "xz --check=sha256": unpack.XZ,
	"xz --x86 --lzma2": unpack.XZ, "xz --arm --lzma2": unpack.XZ, "xz --delta=dist=4 --lzma2=preset=6": unpack.XZ,
	"xz --block-size=1MiB -T2": unpack.XZ,
	"zstd":                     unpack.Zstd, "zstd -1": unpack.Zstd, "zstd -19": unpack.Zstd, "zstd --no-check": unpack.Zstd, "zstd --fast=5": unpack.Zstd,
	"zstd -T2 -B1MiB": unpack.Zstd,
	"cat":             unpack.Raw,
}

func TestUnpack(t *testing.T) {
	content := image(9 << 20)
	for tool, format := range tools {
		t.Run(tool, func(t *testing.T) {
			for _, size := range []int{0, 1, 100, len(content)} {
				packed := pack(t, content[:size], tool)
				if got := unpack.Detect(packed); got != format {
					t.Fatalf("looks like %q", got)
				}
				if format == unpack.Raw {
					continue
				}
				var got bytes.Buffer
				if err := run(t.Context(), packed, format, 100000, &got); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got.Bytes(), content[:size]) {
					t.Errorf("%d bytes came out of %d, or others", got.Len(), size)
				}
			}
		})
	}
}

// A sequence of compressed parts is the sequence of what is in them; anything else at the end is refused, and so is an end that
// comes too early.
func TestEnd(t *testing.T) {
	content := image(300000)
	for _, tool := range []string{"gzip", "xz", "zstd"} {
		t.Run(tool, func(t *testing.T) {
			packed, more := pack(t, content, tool), pack(t, []byte("more"), tool)
			format := unpack.Detect(packed)
			var got bytes.Buffer
			if err := run(t.Context(), slices.Concat(packed, more, packed), format, 1000, &got); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), slices.Concat(content, []byte("more"), content)) {
				t.Error("other bytes came out")
			}
			for name, wrong := range map[string][]byte{
				"garbage":       append(slices.Clone(packed), "garbage behind the end"...),
				"a byte":        append(slices.Clone(packed), 'x'),
				"half a part":   append(slices.Clone(packed), more[:len(more)/2]...),
				"another image": append(slices.Clone(packed), content...),
			} {
				err := run(t.Context(), wrong, format, 1000, io.Discard)
				if code, _ := reason.Of(err); code != unpack.CodeCorrupt {
					t.Errorf("%s: %v", name, err)
				}
			}
			for cut := 1; cut < len(packed); cut += 1 + cut/3 {
				wantCode(t, run(t.Context(), packed[:cut], format, 1000, io.Discard), unpack.CodeCorrupt)
				wantCode(t, run(t.Context(), packed[:len(packed)-cut], format, 1000, io.Discard), unpack.CodeCorrupt)
			}
		})
	}
}

// Where an image carries a checksum, no bit of what it packs can change unnoticed.
func TestDamage(t *testing.T) {
	content := image(100000)
	for _, tool := range []string{"gzip", "xz", "zstd"} {
		packed := pack(t, content, tool)
		format := unpack.Detect(packed)
		for at := 20; at < len(packed); at += 97 {
			wrong := slices.Clone(packed)
			wrong[at] ^= 0x10
			var got bytes.Buffer
			err := run(t.Context(), wrong, format, len(wrong), &got)
			if err == nil && !bytes.Equal(got.Bytes(), content) {
				t.Errorf("%s: byte %d changed unnoticed", tool, at)
			}
		}
	}
}

func TestWrongFormat(t *testing.T) {
	content := image(10000)
	for _, format := range []unpack.Format{unpack.Gzip, unpack.XZ, unpack.Zstd, "lz4"} {
		wantCode(t, run(t.Context(), content, format, 1000, io.Discard), unpack.CodeCorrupt)
	}
}

// Windows beyond the limit are refused, without their memory being taken.
func TestWindow(t *testing.T) {
	content := image(17 << 20)
	for tool, want := range map[string]reason.Code{
		"zstd -19":                        "",
		"zstd -3 --zstd=wlog=23":          "",
		"zstd -3 --zstd=wlog=24":          unpack.CodeWindow,
		"zstd -3 --long=27":               unpack.CodeWindow,
		"xz -6":                           "",
		"xz --lzma2=preset=1,dict=8MiB":   "",
		"xz --lzma2=preset=1,dict=9MiB":   unpack.CodeWindow,
		"xz --lzma2=preset=1,dict=256MiB": unpack.CodeWindow,
	} {
		t.Run(tool, func(t *testing.T) {
			packed := pack(t, content, tool)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			wantCode(t, run(t.Context(), packed, unpack.Detect(packed), 256<<10, io.Discard), want)
			runtime.ReadMemStats(&after)
			if got := after.TotalAlloc - before.TotalAlloc; got > 11<<20 {
				t.Errorf("took %d bytes of memory", got)
			}
		})
	}
}

// full is storage with room for so many bytes.
type full struct{ room, got int }

func (f *full) Write(p []byte) (int, error) {
	if f.got += len(p); f.got > f.room {
		return 0, syscall.ENOSPC
	}
	return len(p), nil
}

// TestBomb: what comes out is bounded by where it goes to, in memory too.
func TestBomb(t *testing.T) {
	zeros := make([]byte, 256<<20)
	for _, tool := range []string{"gzip -9", "xz -0", "zstd -19"} {
		packed := pack(t, zeros, tool)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		disk := &full{room: 1 << 20}
		if err := run(t.Context(), packed, unpack.Detect(packed), 64<<10, disk); err != syscall.ENOSPC {
			t.Errorf("%s: %v", tool, err)
		}
		runtime.ReadMemStats(&after)
		if disk.got > 2<<20 || after.TotalAlloc-before.TotalAlloc > 11<<20 {
			t.Errorf("%s: %d bytes came out of %d, %d of memory", tool, disk.got, len(packed), after.TotalAlloc-before.TotalAlloc)
		}
	}
}

func TestSize(t *testing.T) {
	for _, size := range []int{1, 255, 256, 65791, 65792, 3 << 20} {
		content := image(size)
		known := pack(t, content, fmt.Sprintf("zstd --stream-size=%d", size))
		if got := unpack.Size(known[:min(unpack.HeadSize, len(known))]); got != int64(size) && len(known) >= unpack.HeadSize {
			t.Errorf("%d of %d", got, size)
		}
	}
	for _, tool := range []string{"zstd", "xz", "gzip", "cat"} {
		if got := unpack.Size(pack(t, image(3<<20), tool)[:unpack.HeadSize]); got != 0 {
			t.Errorf("%s: %d", tool, got)
		}
	}
}

func TestStopped(t *testing.T) {
	packed := pack(t, image(2<<20), "zstd")
	t.Run("aborted", func(t *testing.T) {
		w := unpack.NewWriter(t.Context(), io.Discard, unpack.Zstd)
		w.Write(packed[:len(packed)/2])
		w.Abort()
		if _, err := w.Write(packed); err == nil {
			t.Error("took more")
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		why := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(why)
		if err := run(ctx, packed, unpack.Zstd, 1000, io.Discard); !errors.Is(err, why) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("storage fails", func(t *testing.T) {
		if err := run(t.Context(), packed, unpack.Zstd, 1000, &full{}); err != syscall.ENOSPC {
			t.Errorf("got %v", err)
		}
	})
}

// The pieces in which an image comes do not matter.
func TestAnyPieces(t *testing.T) {
	content := image(200000)
	var packed [][]byte
	for _, tool := range []string{"gzip", "xz", "zstd"} {
		packed = append(packed, pack(t, content, tool))
	}
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.SampledFrom(packed).Draw(t, "image")
		var got bytes.Buffer
		w := unpack.NewWriter(context.Background(), &got, unpack.Detect(p))
		for rest := p; len(rest) > 0; {
			n := rapid.IntRange(0, len(rest)).Draw(t, "piece")
			if m, err := w.Write(rest[:n]); m != n || err != nil {
				t.Fatal(m, err)
			}
			rest = rest[n:]
		}
		if err := w.Finish(); err != nil || !bytes.Equal(got.Bytes(), content) {
			t.Fatal(got.Len(), err)
		}
	})
}

// FuzzUnpack: whatever comes, it ends with an error or without, in bounded memory, and no more comes out than there is room for.
func FuzzUnpack(f *testing.F) {
	content := image(20000)
	for _, tool := range []string{"gzip", "xz --x86 --lzma2", "xz --delta --lzma2", "zstd", "zstd -19", "cat"} {
		f.Add(pack(f, content, tool), 1000)
	}
	f.Fuzz(func(t *testing.T, packed []byte, piece int) {
		for _, format := range []unpack.Format{unpack.Detect(packed), unpack.XZ, unpack.Zstd, unpack.Gzip} {
			if format == unpack.Raw {
				continue
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			disk := &full{room: 32 << 20}
			err := run(t.Context(), packed, format, max(piece, 1), disk)
			runtime.ReadMemStats(&after)
			if code, _ := reason.Of(err); err != nil && err != syscall.ENOSPC && code != unpack.CodeCorrupt && code != unpack.CodeWindow {
				t.Errorf("%s: %v", format, err)
			}
			if strings.Contains(errorText(err), "decoding fails") {
				t.Errorf("%s: %v", format, err)
			}
			if got := after.TotalAlloc - before.TotalAlloc; got > 64<<20 {
				t.Errorf("%s: took %d bytes of memory for %d", format, got, len(packed))
			}
		}
		if size := unpack.Size(packed); size < 0 {
			t.Errorf("a size of %d", size)
		}
	})
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
