// Package unpack decompresses an image between the network and the storage. Whoever may send bytes that are not verified yet
// chooses what the decoders read: their memory is bounded by MaxWindow whatever an image asks for, what comes out is bounded by
// where it goes to, and an image must end where its format ends. Nothing here replaces the digest of the image.
package unpack

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/mikelolasagasti/xz"

	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/slot/unpack/zstd"
)

// Reasons why an image could not be unpacked.
const (
	CodeCorrupt reason.Code = "image-corrupt" // it is not what its format allows, or there is more or less of it
	CodeWindow  reason.Code = "image-window"  // decompressing it takes more memory than there is
)

// Format is how an image is compressed.
type Format string

// The formats. A sequence of several compressed parts is unpacked to the sequence of what is in them, as the tools of each
// format do.
const (
	Raw  Format = "raw"
	Gzip Format = "gzip" // RFC 1952
	XZ   Format = "xz"   // The .xz File Format 1.2.1
	Zstd Format = "zstd" // RFC 8878
)

const (
	// MaxWindow is how far back compressed data may refer, in bytes. It is what `zstd -19` and `xz -6` use, and most of the
	// memory that decompressing takes.
	MaxWindow = 8 << 20
	// HeadSize is how many bytes from the start of an image Detect and Size want to see.
	HeadSize = 18

	inputSize  = 32 << 10
	outputSize = 256 << 10
)

// Detect tells the format from how an image begins.
func Detect(head []byte) Format {
	switch {
	case bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")):
		return Zstd
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		return XZ
	case bytes.HasPrefix(head, []byte("\x1f\x8b\x08")):
		return Gzip
	}
	return Raw
}

// Size returns how many bytes at least come out of an image, as far as it says so at its beginning, else 0. Only Zstd does
// (RFC 8878 §3.1.1.1).
func Size(head []byte) int64 {
	if len(head) < HeadSize || Detect(head) != Zstd {
		return 0
	}
	descriptor, rest := head[4], head[5:]
	single := descriptor>>5&1 == 1
	if !single {
		rest = rest[1:] // Window_Descriptor
	}
	rest = rest[[]int{0, 1, 2, 4}[descriptor&3]:] // Dictionary_ID
	size := uint64(0)
	switch descriptor >> 6 {
	case 0:
		if single {
			size = uint64(rest[0])
		}
	case 1:
		size = 256 + uint64(binary.LittleEndian.Uint16(rest))
	case 2:
		size = uint64(binary.LittleEndian.Uint32(rest))
	case 3:
		size = binary.LittleEndian.Uint64(rest)
	}
	return int64(min(size, 1<<62))
}

// Writer unpacks what is written to it into another writer. It is not safe for concurrent use. An error of what the image
// contains is a *reason.Error that is syscall.EPROTO; those of the other writer are returned as they are.
type Writer struct {
	pipe *io.PipeWriter
	done chan error
}

// NewWriter begins to unpack into dst, to which it writes until Finish or Abort has returned. It ends early with ctx.
func NewWriter(ctx context.Context, dst io.Writer, format Format) *Writer {
	from, to := io.Pipe()
	w := &Writer{pipe: to, done: make(chan error, 1)}
	go func() {
		err := run(ctx, dst, format, from)
		// After the end of what is compressed nobody reads any more.
		from.CloseWithError(err)
		w.done <- err
	}()
	return w
}

// Write takes the next bytes of the image. What comes out of them may be written later.
func (w *Writer) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil // a decoder may take reading nothing for the end
	}
	return w.pipe.Write(p)
}

// Finish ends the image, and waits until everything that comes out of it was written.
func (w *Writer) Finish() error {
	w.pipe.Close()
	return <-w.done
}

// Abort gives up.
func (w *Writer) Abort() {
	w.pipe.CloseWithError(io.ErrClosedPipe)
	<-w.done
}

func run(ctx context.Context, dst io.Writer, format Format, from io.Reader) (err error) {
	defer func() {
		if p := recover(); p != nil { // the decoders are others' work, and read what strangers send
			err = corrupt(format, fmt.Errorf("decoding fails: %v", p))
		}
	}()
	decoder, err := newReader(format, bufio.NewReaderSize(from, inputSize))
	if err != nil {
		return explain(format, err)
	}
	buffer := durable.Buffer(outputSize)
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, readErr := 0, error(nil)
		for n < len(buffer) && readErr == nil {
			var m int
			m, readErr = decoder.Read(buffer[n:])
			n += m
		}
		if _, err := dst.Write(buffer[:n]); err != nil {
			return err
		}
		if readErr == io.EOF {
			return nil
		}
		if readErr != nil {
			return explain(format, readErr)
		}
	}
}

func newReader(format Format, from *bufio.Reader) (io.Reader, error) {
	switch format {
	case Zstd:
		return zstd.NewReader(from, MaxWindow), nil
	case XZ:
		return xz.NewReader(from, MaxWindow)
	case Gzip:
		return gzip.NewReader(from)
	}
	return nil, fmt.Errorf("unknown format %q", format)
}

func explain(format Format, err error) error {
	if errors.Is(err, zstd.ErrWindow) || errors.Is(err, xz.ErrMemlimit) {
		return &reason.Error{
			Code: CodeWindow,
			Msg:  fmt.Sprintf("the image was compressed by %s with a window of more than %d MiB, for which the device has no memory", format, MaxWindow>>20),
			Fix:  "compress the image with `zstd -19` or less, without --ultra and --long, or with `xz -6` or less",
			Err:  syscall.EPROTO,
		}
	}
	return corrupt(format, err)
}

func corrupt(format Format, err error) error {
	return &reason.Error{
		Code: CodeCorrupt,
		Msg:  fmt.Sprintf("the image cannot be decompressed by %s", format),
		Fix:  "publish an image that the format's own tool unpacks without a complaint, or set image.decompress",
		Err:  errors.Join(err, syscall.EPROTO),
	}
}
