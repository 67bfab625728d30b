package strictxml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// markupReader feeds the tokenizer byte by byte and stops it inside of overlong markup: a tag of a million attributes
// would be a token of many times its size.
type markupReader struct {
	data       []byte
	next, stop int
}

// allow prepares for the token that begins at offset.
func (m *markupReader) allow(offset int) {
	m.stop = len(m.data)
	rest := m.data[min(offset, len(m.data)):]
	if bytes.HasPrefix(rest, []byte("<")) && !bytes.HasPrefix(rest, []byte("<![CDATA[")) {
		m.stop = min(offset+MaxMarkup, len(m.data))
	}
}

// ReadByte makes the tokenizer read no further ahead than it must.
func (m *markupReader) ReadByte() (byte, error) {
	if m.next >= m.stop && m.stop < len(m.data) {
		return 0, fmt.Errorf("a tag, comment or declaration of more than %d bytes", MaxMarkup)
	}
	if m.next >= len(m.data) {
		return 0, io.EOF
	}
	m.next++
	return m.data[m.next-1], nil
}

// Read is never used: the tokenizer prefers ReadByte.
func (m *markupReader) Read([]byte) (int, error) { return 0, errors.ErrUnsupported }
