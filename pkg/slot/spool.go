package slot

import (
	"context"
	"encoding/json"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/slot/unpack"
)

// spool keeps the compressed bytes of an image, because a decoder cannot go on in another process: what was downloaded is then
// unpacked again from here, without the network. It is a cache. Where it fails or there is no room, it is given up.
type spool struct {
	fs     durable.FS
	path   string
	file   durable.File // nil when there is none
	size   int64        // bytes
	sum    uint32       // CRC-32C of them: what the storage made of them is not hashed again
	broken atomic.Bool  // it does not have all of them. sync is called while others are.
}

// spoolReserve is what is left free where the spool is, in bytes.
const spoolReserve = 64 << 20

// spoolMark is the part of a checkpoint that is about the spool.
type spoolMark struct {
	Format unpack.Format `json:"format"`
	Size   int64         `json:"size"`
	Sum    uint32        `json:"crc32c"`
}

func (s *spool) open(flag int) error {
	if err := durable.MkdirAll(s.fs, filepath.Dir(s.path), 0o700); err != nil {
		return err
	}
	file, err := s.fs.OpenFile(s.path, os.O_RDWR|unix.O_NOFOLLOW|flag, 0o600)
	if err != nil {
		return err
	}
	s.file = file
	s.broken.Store(false)
	return nil
}

// begin makes an empty spool when there is room for total bytes.
func (s *spool) begin(total int64) {
	s.close()
	s.size, s.sum = 0, 0
	if total <= 0 || s.path == "" || s.open(os.O_CREATE) != nil {
		return
	}
	var fs unix.Statfs_t
	err := s.file.Truncate(0)
	if err == nil {
		err = unix.Statfs(filepath.Dir(s.path), &fs)
	}
	if err == nil && int64(fs.Bavail)*fs.Bsize < total+spoolReserve {
		err = unix.ENOSPC
	}
	if err == nil {
		err = s.fs.SyncDir(filepath.Dir(s.path))
	}
	if err != nil {
		s.drop()
	}
}

// write takes the next bytes.
func (s *spool) write(p []byte) {
	if s.file == nil || s.broken.Load() {
		return
	}
	if _, err := s.file.WriteAt(p, s.size); err != nil {
		s.broken.Store(true)
		_ = s.file.Truncate(0) // what was to be in its place may need the room
		return
	}
	s.size += int64(len(p))
	s.sum = crc32.Update(s.sum, crc32.MakeTable(crc32.Castagnoli), p)
}

// mark returns a checkpoint, or nil when the spool was given up.
func (s *spool) mark(format unpack.Format) ([]byte, error) {
	if s.file == nil || s.broken.Load() {
		return nil, nil
	}
	return json.Marshal(spoolMark{Format: format, Size: s.size, Sum: s.sum})
}

var errSpool = errors.New("the spool does not hold what the checkpoint says")

// replay gives to all the bytes of a checkpoint, and goes on behind them.
func (s *spool) replay(ctx context.Context, m spoolMark, to io.Writer) error {
	s.close()
	if s.path == "" || s.open(0) != nil {
		return errSpool
	}
	s.size, s.sum = 0, 0
	buffer := make([]byte, 256<<10)
	for s.size < m.Size {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := s.file.ReadAt(buffer[:min(int64(len(buffer)), m.Size-s.size)], s.size)
		if n == 0 && err != nil {
			return errors.Join(errSpool, err)
		}
		s.size += int64(n)
		s.sum = crc32.Update(s.sum, crc32.MakeTable(crc32.Castagnoli), buffer[:n])
		if _, err := to.Write(buffer[:n]); err != nil {
			return err
		}
	}
	if s.sum != m.Sum {
		return errSpool
	}
	return s.file.Truncate(m.Size)
}

// sync makes durable what was written.
func (s *spool) sync() {
	if s.file != nil && s.file.Sync() != nil {
		s.broken.Store(true)
	}
}

// drop gives the spool up, and removes it.
func (s *spool) drop() {
	s.close()
	if s.path != "" {
		_ = durable.Remove(s.fs, s.path)
	}
}

// close leaves the spool for the next process.
func (s *spool) close() {
	if s.file != nil {
		s.file.Close()
		s.file = nil
	}
}
