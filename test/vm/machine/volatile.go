package machine

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// volatile is a disk with a write cache. QEMU writes everything to the disk's file at once, but keeps a log of writes and flushes,
// so that the content after a power cut can be made of what was there at power-on and of what was flushed since. Neither file
// needs to survive this machine.
type volatile struct {
	disk, log string
}

func (v *volatile) arguments() []string {
	return []string{
		"-blockdev", "driver=file,node-name=disk-file,cache.no-flush=on,filename=" + v.disk,
		"-blockdev", "driver=file,node-name=log-file,cache.no-flush=on,filename=" + v.log,
		"-blockdev", "driver=raw,node-name=disk-raw,file=disk-file",
		"-blockdev", "driver=blklogwrites,node-name=disk,file=disk-raw,log=log-file,log-sector-size=512,log-super-update-interval=1",
	}
}

// begin keeps the content at power-on, for lose.
func (v *volatile) begin() error {
	if err := os.WriteFile(v.log, nil, 0o600); err != nil {
		return err
	}
	return copyFile(v.disk, v.before())
}

func (v *volatile) before() string { return v.log + ".before" }

// The log's format is that of dm-log-writes (linux/drivers/md/dm-log-writes.c): a super block, then entries, each of a sector with
// a header and the sectors that were written.
const (
	sector    = 512
	superMark = 0x6a736677736872 // "jsfwshr"

	flagFlush   = 1 << 0
	flagFUA     = 1 << 1
	flagDiscard = 1 << 2
)

// header begins an entry.
type header struct {
	Sector, Sectors, Flags, Data uint64 // of the disk; of the log; as above; bytes of text, which only marks have
}

// write is one entry of the log.
type write struct {
	offset int64 // bytes
	at     int64 // where its data is in the log
	length int64 // bytes
	flags  uint64
}

// lose makes the disk's file what it would be after a power cut: everything up to the last flush, and of what came later what keep
// says. Writes that were demanded to be durable (FUA) are. It returns how many were lost.
func (v *volatile) lose(keep func() bool) (lost int, err error) {
	log, err := os.Open(v.log)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	writes, err := readLog(log)
	if err != nil {
		return 0, fmt.Errorf("log of the disk: %w", err)
	}
	flushed := 0
	for i, w := range writes {
		if w.flags&flagFlush != 0 {
			flushed = i + 1
		}
	}
	disk, err := os.OpenFile(v.before(), os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	for i, w := range writes {
		if i >= flushed && w.flags&flagFUA == 0 && !keep() {
			lost++
			continue
		}
		if err := w.apply(disk, log); err != nil {
			disk.Close()
			return lost, err
		}
	}
	if err := disk.Close(); err != nil {
		return lost, err
	}
	return lost, os.Rename(v.before(), v.disk)
}

func (w write) apply(disk io.WriterAt, log io.ReaderAt) error {
	_, err := io.Copy(io.NewOffsetWriter(disk, w.offset), io.NewSectionReader(log, w.at, w.length))
	return err
}

// readLog returns the entries up to the first one of which QEMU, when it was killed, had not written the header yet. No flush was
// answered after that one.
func readLog(log *os.File) ([]write, error) {
	info, err := log.Stat()
	if err != nil {
		return nil, err
	}
	var super struct {
		Magic, Version, Entries uint64
		SectorSize              uint32
	}
	r := bufio.NewReader(log)
	if err := binary.Read(r, binary.LittleEndian, &super); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil // nothing was written
		}
		return nil, err
	}
	if super.Magic != superMark || super.SectorSize != sector {
		return nil, fmt.Errorf("magic number %#x, sectors of %d bytes", super.Magic, super.SectorSize)
	}
	var writes []write
	for at := int64(sector); at+sector <= info.Size() && uint64(len(writes)) < super.Entries; {
		var entry header
		if err := binary.Read(io.NewSectionReader(log, at, sector), binary.LittleEndian, &entry); err != nil {
			return nil, err
		}
		w := write{offset: int64(entry.Sector) * sector, at: at + sector, length: int64(entry.Sectors) * sector, flags: entry.Flags}
		if w.flags&flagDiscard != 0 {
			return nil, errors.New("a discard, which this disk does not have")
		}
		if entry == (header{}) || w.at+w.length > info.Size() {
			break
		}
		writes = append(writes, w)
		at = w.at + w.length
	}
	return writes, nil
}
