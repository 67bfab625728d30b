package zstd_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	other "github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"

	"github.com/xpu-sztp/ztp/pkg/slot/unpack/zstd"
)

const maxWindow = 8 << 20

func unpack(packed []byte) ([]byte, error) {
	return io.ReadAll(zstd.NewReader(bufio.NewReader(bytes.NewReader(packed)), maxWindow))
}

// pack has the reference implementation compress content.
func pack(t testing.TB, content []byte, options string) []byte {
	t.Helper()
	cmd := exec.Command("zstd", strings.Fields(options)...)
	cmd.Stdin = bytes.NewReader(content)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("zstd %s: %v\n%s", options, err, stderr.String())
	}
	return out
}

// contents are of kinds that compress in different ways.
func contents() map[string][]byte {
	rng := rand.New(rand.NewPCG(3, 4))
	text := []byte{}
	for len(text) < 1<<20 {
		text = append(text, []string{"boot ", "image ", "slot ", "the ", "of ", "\n", "a", "0123"}[min(rng.IntN(8), rng.IntN(8))]...)
		if rng.IntN(50) == 0 {
			text = fmt.Append(text, rng.Uint32())
		}
	}
	noise := make([]byte, 400000)
	few := make([]byte, 400000)
	skewed := make([]byte, 400000)
	for i := range noise {
		noise[i], few[i] = byte(rng.Uint32()), "ab"[rng.IntN(2)]
		skewed[i] = byte(min(rng.IntN(256), rng.IntN(256), rng.IntN(256), rng.IntN(256)))
	}
	far := slices.Concat(noise, text, noise, few, text[:1000], noise[1000:])
	return map[string][]byte{
		"nothing": nil, "a byte": {7}, "text": text, "noise": noise, "few": few, "skewed": skewed, "far": far,
		"zeros": make([]byte, 1<<20+1), "short text": text[:300], "256 letters": noise[:5000],
	}
}

func TestReference(t *testing.T) {
	for name, content := range contents() {
		for _, options := range []string{
			"-1", "-3", "-9", "-19", "--fast=3", "--no-check", "-3 --zstd=wlog=10", "-19 --zstd=wlog=12", "-5 --zstd=wlog=17 --long=17",
			"-19 --zstd=strategy=9,mml=3", fmt.Sprintf("--stream-size=%d", len(content)), "-T2 -B64KiB",
		} {
			got, err := unpack(pack(t, content, options))
			if err != nil || !bytes.Equal(got, content) {
				t.Errorf("%s, zstd %s: %d bytes of %d, %v", name, options, len(got), len(content), err)
			}
		}
	}
}

func TestOtherEncoder(t *testing.T) {
	for name, content := range contents() {
		for _, level := range []other.EncoderLevel{other.SpeedFastest, other.SpeedDefault, other.SpeedBetterCompression, other.SpeedBestCompression} {
			encoder, err := other.NewWriter(nil, other.WithEncoderLevel(level), other.WithWindowSize(1<<20))
			if err != nil {
				t.Fatal(err)
			}
			got, err := unpack(encoder.EncodeAll(content, nil))
			if err != nil || !bytes.Equal(got, content) {
				t.Errorf("%s, %v: %d bytes of %d, %v", name, level, len(got), len(content), err)
			}
		}
	}
}

// frame puts blocks into a frame with a window of 128 KiB.
func frame(blocks ...string) []byte {
	return []byte("\x28\xb5\x2f\xfd\x00\x38" + strings.Join(blocks, ""))
}

func block(last bool, kind, size int, content string) string {
	header := uint32(size)<<3 | uint32(kind)<<1
	if last {
		header |= 1
	}
	return string(binary.LittleEndian.AppendUint32(nil, header)[:3]) + content
}

func TestFrames(t *testing.T) {
	raw := block(true, 0, 3, "abc")
	skippable := "\x5a\x2a\x4d\x18\x05\x00\x00\x00hello"
	tests := map[string]struct {
		packed []byte
		want   string
		err    error
	}{
		"raw":                  {frame(raw), "abc", nil},
		"repeated":             {frame(block(false, 1, 5, "x"), raw), "xxxxxabc", nil},
		"empty blocks":         {frame(block(false, 0, 0, ""), block(false, 1, 0, "x"), raw), "abc", nil},
		"skippable":            {slices.Concat([]byte(skippable), frame(raw), []byte(skippable)), "abc", nil},
		"nothing":              {nil, "", nil},
		"size of one byte":     {[]byte("\x28\xb5\x2f\xfd\x20\x03" + raw), "abc", nil},
		"size too small":       {[]byte("\x28\xb5\x2f\xfd\x20\x02" + raw), "", zstd.ErrCorrupt},
		"size too large":       {[]byte("\x28\xb5\x2f\xfd\x20\x04" + raw), "abc", zstd.ErrCorrupt},
		"size of two bytes":    {[]byte("\x28\xb5\x2f\xfd\x40\x38\x00\x00" + block(true, 1, 256, "x")), strings.Repeat("x", 256), nil},
		"dictionary":           {[]byte("\x28\xb5\x2f\xfd\x01\x38\x05" + raw), "", zstd.ErrCorrupt},
		"dictionary 0":         {[]byte("\x28\xb5\x2f\xfd\x03\x38\x00\x00\x00\x00" + raw), "abc", nil},
		"reserved bit":         {[]byte("\x28\xb5\x2f\xfd\x08\x38" + raw), "", zstd.ErrCorrupt},
		"unused bit":           {[]byte("\x28\xb5\x2f\xfd\x10\x38" + raw), "abc", nil},
		"reserved block":       {frame(block(true, 3, 3, "abc")), "", zstd.ErrCorrupt},
		"block too large":      {frame(block(true, 1, 128<<10+1, "x")), "", zstd.ErrCorrupt},
		"largest block":        {frame(block(true, 1, 128<<10, "x")), strings.Repeat("x", 128<<10), nil},
		"block beyond window":  {[]byte("\x28\xb5\x2f\xfd\x00\x00" + block(true, 1, 1025, "x")), "", zstd.ErrCorrupt},
		"window":               {[]byte("\x28\xb5\x2f\xfd\x00\x68" + raw), "abc", nil},
		"window too large":     {[]byte("\x28\xb5\x2f\xfd\x00\x69" + raw), "", zstd.ErrWindow},
		"largest window":       {[]byte("\x28\xb5\x2f\xfd\x00\xff" + raw), "", zstd.ErrWindow},
		"size beyond window":   {[]byte("\x28\xb5\x2f\xfd\xe0\xff\xff\xff\xff\xff\xff\xff\xff" + raw), "", zstd.ErrWindow},
		"other checksum":       {[]byte("\x28\xb5\x2f\xfd\x04\x38" + raw + "\x00\x00\x00\x00"), "abc", zstd.ErrCorrupt},
		"checksum":             {[]byte("\x28\xb5\x2f\xfd\x04\x38" + raw + "\x99\x09\x77\xad"), "abc", nil},
		"no block":             {frame(), "", io.ErrUnexpectedEOF},
		"no last block":        {frame(block(false, 0, 3, "abc")), "abc", io.ErrUnexpectedEOF},
		"block without end":    {frame(block(true, 0, 4, "abc")), "", io.ErrUnexpectedEOF},
		"other magic":          {[]byte("\x29\xb5\x2f\xfd\x00\x38" + raw), "", zstd.ErrCorrupt},
		"garbage behind":       {append(frame(raw), "garbage"...), "abc", zstd.ErrCorrupt},
		"a byte behind":        {append(frame(raw), 'x'), "abc", zstd.ErrCorrupt},
		"skippable cut":        {[]byte(skippable[:10]), "", io.ErrUnexpectedEOF},
		"no literals":          {frame(block(true, 2, 0, "")), "", zstd.ErrCorrupt},
		"literals only":        {frame(block(true, 2, 5, "\x18abc\x00")), "abc", nil},
		"repeated literals":    {frame(block(true, 2, 3, "\x19a\x00")), "aaa", nil},
		"literals and garbage": {frame(block(true, 2, 6, "\x18abc\x00x")), "", zstd.ErrCorrupt},
		"no tree":              {frame(block(true, 2, 5, "\x13\x40\x00x\x00")), "", zstd.ErrCorrupt},
		"no tables":            {frame(block(true, 2, 6, "\x18abc\x01\xfc")), "", zstd.ErrCorrupt},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := unpack(tt.packed)
			if !errors.Is(err, tt.err) || tt.err == nil && err != nil || tt.want != "" && string(got) != tt.want {
				t.Errorf("got %.20q, %v; want %.20q, %v", got, err, tt.want, tt.err)
			}
		})
	}
}

// Every bit that is changed is noticed, or changes nothing.
func TestDamage(t *testing.T) {
	content := contents()["text"][:10000]
	packed := pack(t, content, "-19 --check")
	for i := 0; i < 8*len(packed); i += 7 {
		wrong := slices.Clone(packed)
		wrong[i/8] ^= 1 << (i % 8)
		if got, err := unpack(wrong); err == nil && !bytes.Equal(got, content) {
			t.Errorf("bit %d changed unnoticed", i)
		}
	}
	for i := range packed {
		if _, err := unpack(packed[:i]); err == nil && i > 0 {
			t.Errorf("cut at byte %d unnoticed", i)
		}
	}
}

func TestMemory(t *testing.T) {
	content := contents()["far"]
	var packed []byte
	for log := 10; log <= 23; log++ { // ever larger windows
		packed = append(packed, pack(t, content, fmt.Sprintf("-1 --zstd=wlog=%d", log))...)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n, err := io.Copy(io.Discard, struct{ io.Reader }{zstd.NewReader(bufio.NewReader(bytes.NewReader(packed)), maxWindow)})
	runtime.ReadMemStats(&after)
	if n != 14*int64(len(content)) || err != nil {
		t.Fatal(n, err)
	}
	if got := after.TotalAlloc - before.TotalAlloc; got > 2*maxWindow+1<<20 {
		t.Errorf("took %d bytes of memory", got)
	}
}

// Whatever the content and the size of windows and reads, what comes out is what went in.
func TestAnyContent(t *testing.T) {
	source := contents()["far"]
	rapid.Check(t, func(t *rapid.T) {
		var content []byte
		for range rapid.IntRange(0, 40).Draw(t, "pieces") {
			from := rapid.IntRange(0, len(source)-1).Draw(t, "from")
			content = append(content, source[from:min(from+rapid.IntRange(0, 20000).Draw(t, "length"), len(source))]...)
		}
		encoder, err := other.NewWriter(nil, other.WithWindowSize(1<<rapid.IntRange(10, 20).Draw(t, "window")),
			other.WithEncoderLevel(other.EncoderLevel(rapid.IntRange(1, 4).Draw(t, "level"))))
		if err != nil {
			t.Fatal(err)
		}
		packed := encoder.EncodeAll(content, nil)
		r := zstd.NewReader(bufio.NewReader(bytes.NewReader(packed)), maxWindow)
		var got []byte
		for {
			p := make([]byte, rapid.IntRange(1, 100000).Draw(t, "read"))
			n, err := r.Read(p)
			got = append(got, p[:n]...)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(got, content) {
			t.Fatalf("%d bytes of %d came out, or others", len(got), len(content))
		}
	})
}

// FuzzZstd: what is unpacked is what another decoder makes of it, in bounded memory.
func FuzzZstd(f *testing.F) {
	for _, content := range contents() {
		for _, options := range []string{"-1", "-19 --no-check", "-3 --zstd=wlog=10"} {
			f.Add(pack(f, content[:min(len(content), 5000)], options))
		}
	}
	f.Fuzz(func(t *testing.T, packed []byte) {
		const room = 4 << 20
		got, err := io.ReadAll(io.LimitReader(zstd.NewReader(bufio.NewReader(bytes.NewReader(packed)), maxWindow), room))
		reference, newErr := other.NewReader(bytes.NewReader(packed), other.WithDecoderConcurrency(1), other.WithDecoderMaxWindow(maxWindow))
		if newErr != nil {
			t.Fatal(newErr)
		}
		defer reference.Close()
		want, wantErr := io.ReadAll(io.LimitReader(reference, room))
		if err == nil && wantErr != nil && len(got) < room { // the other one refuses some of what the format's own tool takes
			tool := exec.Command("zstd", "-dcq")
			tool.Stdin = bytes.NewReader(packed)
			want, wantErr = tool.Output()
		}
		if err == nil && (wantErr != nil || !bytes.Equal(got, want)) {
			t.Errorf("got %d bytes, the other %d: %v", len(got), len(want), wantErr)
		}
		if wantErr == nil && err != nil {
			t.Errorf("got %v, the other %d bytes", err, len(want))
		}
	})
}
