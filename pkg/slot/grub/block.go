package grub

import (
	"bytes"
	"errors"
	"strings"
)

const (
	blockSize = 1024
	signature = "# GRUB Environment Block\n"
	padding   = '#'

	// sector is how much storage writes as a whole, at least.
	sector = 512
)

var (
	errNoBlock = errors.New("it is no GRUB environment block of 1024 bytes")
	errDamaged = errors.New("the environment block is damaged")
	errFull    = errors.New("the environment block is full")
)

// block is a GRUB environment block. It keeps what it does not know, in its order: every line as it is in the file, with its
// escapes and its line feed.
type block struct{ lines []string }

// parseBlock reads a block strictly: what GRUB would read otherwise than it was meant is an error.
func parseBlock(data []byte) (*block, error) {
	if len(data) != blockSize || !bytes.HasPrefix(data, []byte(signature)) {
		return nil, errNoBlock
	}
	if bytes.IndexByte(data, 0) >= 0 {
		return nil, errDamaged
	}
	var b block
	rest := strings.TrimRight(string(data[len(signature):]), string(padding))
	for rest != "" {
		end := lineEnd(rest)
		if end < 0 || rest[0] != padding && !strings.Contains(rest[:end], "=") {
			return nil, errDamaged
		}
		b.lines = append(b.lines, rest[:end])
		rest = rest[end:]
	}
	return &b, nil
}

// lineEnd is the offset behind the first line feed that is not escaped, or -1.
func lineEnd(s string) int {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '\n':
			return i + 1
		}
	}
	return -1
}

// index is the place of a variable, or -1. As in GRUB the first of several counts.
func (b *block) index(name string) int {
	for i, line := range b.lines {
		if strings.HasPrefix(line, name+"=") {
			return i
		}
	}
	return -1
}

// get returns the value of a variable; one that is not there is empty.
func (b *block) get(name string) string {
	i := b.index(name)
	if i < 0 {
		return ""
	}
	escaped := b.lines[i][len(name)+1 : len(b.lines[i])-1]
	value := make([]byte, 0, len(escaped))
	for i := 0; i < len(escaped); i++ {
		if escaped[i] == '\\' {
			i++ // the line would not have ended with it
		}
		value = append(value, escaped[i])
	}
	return string(value)
}

// set gives a variable a value where it stands, or at the end.
func (b *block) set(name, value string) {
	line := name + "=" + strings.NewReplacer(`\`, `\\`, "\n", "\\\n").Replace(value) + "\n"
	if i := b.index(name); i >= 0 {
		b.lines[i] = line
		return
	}
	b.lines = append(b.lines, line)
}

// used is how many bytes the block has before its padding.
func (b *block) used() int {
	n := len(signature)
	for _, line := range b.lines {
		n += len(line)
	}
	return n
}

// encode returns the 1024 bytes.
func (b *block) encode() ([]byte, error) {
	if b.used() > blockSize {
		return nil, errFull
	}
	data := append([]byte(signature), strings.Join(b.lines, "")...)
	return append(data, bytes.Repeat([]byte{padding}, blockSize-len(data))...), nil
}
