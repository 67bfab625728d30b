package media

import (
	"encoding/json"
	"errors"
	"fmt"
	"syscall"
)

// mark is a Checkpoint. What is not a whole block is part of it: blocks that are durable are never written again, because a
// power cut may leave nothing of a block that is being written.
type mark struct {
	Place   string `json:"place"`
	Flushed int64  `json:"flushed"` // bytes that the storage has
	Tail    []byte `json:"tail"`
	Chunk   int64  `json:"chunk"`
	Sums    []byte `json:"sums"` // of Flushed bytes and those of Tail
}

var errMark = errors.New("the checkpoint does not belong to what is there")

// Checkpoint returns what Restore needs to go on behind everything written so far, once that is durable by Sync. It has at most
// 48 KiB. It returns nil while nothing was written.
func (w *Writer) Checkpoint() ([]byte, error) {
	if !w.started {
		return nil, nil
	}
	if err := w.settle(); err != nil {
		return nil, w.writeError(err)
	}
	return json.Marshal(mark{Place: w.where(), Flushed: w.flushed, Tail: w.tail, Chunk: w.sums.chunk, Sums: w.sums.marshal()})
}

// where tells the place from others, in a later process too.
func (w *Writer) where() string {
	if w.subject.device {
		return w.Identity()
	}
	info, err := w.file.Stat()
	if err != nil {
		return ""
	}
	inode := uint64(0)
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		inode = st.Ino
	}
	return fmt.Sprintf("%s, inode %d", w.subject.path, inode)
}

// Restore goes on behind the bytes of a Checkpoint, perhaps of another process, and forgets what was written behind them. After
// an error nothing counts as written.
func (w *Writer) Restore(b []byte) error {
	if err := w.restore(b); err != nil {
		return errors.Join(err, w.Reset())
	}
	return nil
}

func (w *Writer) restore(b []byte) error {
	var m mark
	if err := json.Unmarshal(b, &m); err != nil {
		return err
	}
	sums := newChecksums(w.capacity)
	size := m.Flushed + int64(len(m.Tail))
	if m.Place == "" || m.Place != w.where() || m.Flushed < 0 || m.Flushed%block != 0 || len(m.Tail) >= block ||
		size > w.capacity || m.Chunk != sums.chunk || !sums.unmarshal(m.Sums, size) {
		return errMark
	}
	if !w.subject.device {
		// What is behind the mark would not read as zero.
		if err := w.file.Truncate(m.Flushed); err != nil {
			return w.writeError(err)
		}
	}
	w.started, w.flushed, w.zeros, w.sums = true, m.Flushed, 0, sums
	w.tail = append(w.tail[:0], m.Tail...)
	w.storage.begun = m.Flushed
	return nil
}
