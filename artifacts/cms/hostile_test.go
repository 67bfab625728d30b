package cms_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/test/hostile"
)

// tlv is an element with its length in four bytes, which is not DER unless the contents are long.
func tlv(tag byte, contents ...[]byte) []byte {
	value := bytes.Join(contents, nil)
	head := []byte{tag, 0x84}
	switch n := len(value); {
	case n < 0x80:
		head = []byte{tag, byte(n)}
	case n < 0x100:
		head = []byte{tag, 0x81, byte(n)}
	case n < 0x10000:
		head = []byte{tag, 0x82, byte(n >> 8), byte(n)}
	case n < 0x1000000:
		head = []byte{tag, 0x83, byte(n >> 16), byte(n >> 8), byte(n)}
	default:
		head = binary.BigEndian.AppendUint32(head, uint32(n))
	}
	return append(head, value...)
}

// hostileMessages is what CMS of a megabyte can be.
func hostileMessages() map[string][]byte {
	const sequence, set, integer, octets, first, second = 0x30, 0x31, 2, 4, 0xa0, 0xa1
	id := func(last byte) []byte { return []byte{6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, last} }
	info := func(kind byte, content ...[]byte) []byte { return tlv(sequence, id(kind), tlv(first, content...)) }
	fill := func(unit []byte) []byte { return bytes.Repeat(unit, hostile.Size/len(unit)) }
	version := tlv(integer, []byte{1})
	sha256 := tlv(sequence, []byte{6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1})
	none := tlv(set)
	encapsulated := tlv(sequence, id(1), tlv(first, tlv(octets, []byte("{}"))))
	signed := func(digests, content, certificates, lists, signers []byte) []byte {
		return info(2, tlv(sequence, version, tlv(set, digests), content, certificates, lists, tlv(set, signers)))
	}
	enveloped := func(recipients, contents []byte) []byte {
		return info(3, tlv(sequence, tlv(integer, []byte{0}), tlv(set, recipients), contents))
	}
	empty := tlv(sequence)
	signer := tlv(sequence, version, tlv(sequence, tlv(sequence), tlv(integer, []byte{1})), sha256, sha256, tlv(octets, []byte{1}))
	attribute := tlv(sequence, id(3), tlv(set, id(1)))
	withAttributes := tlv(sequence, version, tlv(sequence, tlv(sequence), tlv(integer, []byte{1})), sha256, tlv(first, fill(attribute)),
		sha256, tlv(octets, []byte{1}))
	nested := []byte{}
	for len(nested) < hostile.Size/64 { // quadratic to make, so smaller
		nested = tlv(sequence, nested)
	}
	return map[string][]byte{
		"zeros":                make([]byte, hostile.Size),
		"long-object-identity": tlv(sequence, tlv(6, fill([]byte{0x81}))),
		"indefinite":           fill([]byte{0x30, 0x80}),
		"indefinite-data":      append([]byte("\x30\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01\xa0\x80\x24\x80"), fill([]byte{4, 1, 'a'})...),
		"indefinite-in-data":   append([]byte("\x30\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01\xa0\x80"), fill([]byte{0x24, 0x80})...),
		"pieces":               info(1, tlv(0x24, fill([]byte{4, 1, 'a'}))),
		"empty-pieces":         info(1, tlv(0x24, fill([]byte{4, 0}))),
		"nested":               nested,
		"data":                 info(1, tlv(octets, fill([]byte("{")))),
		"algorithms":           signed(fill(sha256), encapsulated, nil, nil, nil),
		"empty-algorithms":     signed(fill(empty), encapsulated, nil, nil, nil),
		"certificates":         signed(nil, encapsulated, tlv(first, fill(empty)), nil, nil),
		"certificate":          signed(nil, encapsulated, tlv(first, tlv(sequence, fill(empty))), nil, nil),
		"lists":                signed(nil, encapsulated, nil, tlv(second, fill(empty)), nil),
		"list":                 signed(nil, encapsulated, nil, tlv(second, tlv(sequence, fill(empty))), nil),
		"signers":              signed(sha256, encapsulated, nil, nil, fill(signer)),
		"attributes":           signed(sha256, encapsulated, nil, nil, withAttributes),
		"content":              signed(sha256, tlv(sequence, id(1), tlv(first, tlv(octets, fill([]byte{1})))), nil, nil, signer),
		"recipients":           enveloped(fill(empty), empty),
		"key-agreements":       enveloped(fill(tlv(second, version)), empty),
		"encrypted-in-pieces":  enveloped(none, tlv(sequence, id(1), sha256, tlv(first, fill([]byte{4, 1, 0})))),
		"encrypted":            enveloped(none, tlv(sequence, id(1), sha256, tlv(0x80, fill([]byte{0})))),
		"text":                 []byte(strings.Repeat("-----BEGIN CMS-----\n", hostile.Size/20)),
	}
}

func parse(der []byte) { _, _ = cms.Parse(der) }

// TestHostileMessages bounds the memory for a message.
func TestHostileMessages(t *testing.T) { hostile.Check(t, hostileMessages(), parse) }

func BenchmarkHostileMessages(b *testing.B) { hostile.Benchmark(b, hostileMessages(), parse) }
