package media

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/xpu-sztp/ztp/pkg/durable"
)

const (
	leastChunk = 1 << 20
	maxChunks  = 8 << 10 // 32 KiB of sums
)

// checksums are CRC-32C of an image, one for every chunk of it. Processors compute it as fast as they read memory.
type checksums struct {
	chunk  int64 // bytes
	sums   []uint32
	last   uint32 // of the chunk that is not complete
	filled int64  // bytes of that
}

// newChecksums makes chunks large enough for the largest image.
func newChecksums(capacity int64) checksums {
	c := checksums{chunk: leastChunk}
	for c.chunk < capacity/maxChunks {
		c.chunk *= 2
	}
	return c
}

func (c *checksums) add(p []byte) {
	for len(p) > 0 {
		part := p[:min(int64(len(p)), c.chunk-c.filled)]
		c.last = crc32.Update(c.last, crc32.MakeTable(crc32.Castagnoli), part)
		if c.filled += int64(len(part)); c.filled == c.chunk {
			c.sums = append(c.sums, c.last)
			c.last, c.filled = 0, 0
		}
		p = p[len(part):]
	}
}

// at is the sum of a chunk, by its number. The last one may not be complete.
func (c *checksums) at(i int) uint32 {
	if i < len(c.sums) {
		return c.sums[i]
	}
	return c.last
}

// compare reads the image and says where the storage has something else.
func (c *checksums) compare(ctx context.Context, path string, from io.ReaderAt, size int64) error {
	stored := checksums{chunk: c.chunk}
	if err := stored.read(ctx, from, size); err != nil {
		return readError(ctx, path, err)
	}
	for i := range len(c.sums) + 1 {
		if start := int64(i) * c.chunk; stored.at(i) != c.at(i) {
			return fail(CodeReadBack, fmt.Sprintf("%s does not hold what was written to it, between byte %d and byte %d",
				path, start, min(start+c.chunk, size)), "check the storage; it may be failing", nil)
		}
	}
	return nil
}

// read adds size bytes.
func (c *checksums) read(ctx context.Context, from io.ReaderAt, size int64) error {
	buffer := durable.Buffer(burst)
	for offset := int64(0); offset < size; {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		want := min(burst, size-offset)
		n, err := from.ReadAt(buffer[:want], offset)
		c.add(buffer[:n])
		offset += int64(n)
		if int64(n) < want {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("at byte %d: %w", offset, err)
		}
	}
	return nil
}

// Proof is what Place.Check needs to find out whether a place still holds an image.
type Proof struct {
	Size  int64  `json:"size"`   // bytes
	Chunk int64  `json:"chunk"`  // bytes
	Sum   uint32 `json:"crc32c"` // CRC-32C of the big-endian CRC-32C of each chunk
}

func (c *checksums) proof(size int64) Proof {
	return Proof{Size: size, Chunk: c.chunk, Sum: crc32.Checksum(c.marshal(), crc32.MakeTable(crc32.Castagnoli))}
}

// Proof is valid after Verify.
func (w *Writer) Proof() Proof { return w.sums.proof(w.Size()) }

// Check reads the place and makes sure that it holds what it held at Writer.Proof.
func (p Place) Check(ctx context.Context, proof Proof) error {
	stored := checksums{chunk: max(proof.Chunk, leastChunk)}
	file, err := p.FS.OpenFile(p.Path, os.O_RDONLY, 0)
	if err != nil {
		return unavailable(p.Path, err)
	}
	s := storage{file: durable.NewDirect(file)}
	defer s.file.Close()
	s.dropCache()
	if err := stored.read(ctx, s.file, proof.Size); err != nil {
		return readError(ctx, p.Path, err)
	}
	if stored.proof(proof.Size) != proof {
		return fail(CodeReadBack, p.Path+" no longer holds the image that was written to it", "install the image again", nil)
	}
	return nil
}

func (c *checksums) marshal() []byte {
	b := make([]byte, 0, 4*len(c.sums)+4)
	for _, sum := range c.sums {
		b = binary.BigEndian.AppendUint32(b, sum)
	}
	return binary.BigEndian.AppendUint32(b, c.last)
}

// unmarshal takes sums of size bytes.
func (c *checksums) unmarshal(b []byte, size int64) bool {
	if c.chunk <= 0 || size < 0 || int64(len(b)) != 4*(size/c.chunk)+4 {
		return false
	}
	c.sums, c.filled = nil, size%c.chunk
	for ; len(b) > 4; b = b[4:] {
		c.sums = append(c.sums, binary.BigEndian.Uint32(b))
	}
	c.last = binary.BigEndian.Uint32(b)
	return true
}
