package tpm

import (
	"bytes"
	"testing"

	"github.com/xpu-sztp/ztp/test/hostile"
)

// hostileKeys is what a key file of a megabyte can be.
func hostileKeys() map[string][]byte {
	seed := seedKeyFile(0xff)
	at := bytes.Index(seed, []byte{0x02, 0x04, 0x40, 0, 0, 1}) // the parent, before which everything is optional
	long := func(middle []byte) []byte {
		body := bytes.Join([][]byte{seed[2+1 : at], middle, seed[at:]}, nil)
		return append([]byte{0x30, 0x83, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
	}
	return map[string][]byte{
		"zeros":       make([]byte, hostile.Size),
		"optionals":   long(hostile.Fill("", "\xa0\x03\x01\x01\xff", "", "")),
		"policies":    long(hostile.Fill("\xa1\x83\x0f\xff\x00", "\x30\x00", "", "")),
		"trailing":    append(bytes.Clone(seed), make([]byte, hostile.Size)...),
		"nested":      hostile.Fill("", "\x30\x80", "", ""),
		"long-octets": append([]byte{0x30, 0x83, 0x0f, 0xff, 0xff, 0x04, 0x83, 0x0f, 0xff, 0xfa}, make([]byte, hostile.Size)...),
		"text":        hostile.Fill("-----BEGIN TSS2 PRIVATE KEY-----\n", "AAAA", "", "\n-----END TSS2 PRIVATE KEY-----\n"),
	}
}

func parseKey(der []byte) { _, _ = parseTSS2(der) }

// TestHostileKeyFiles bounds the memory for a key file.
func TestHostileKeyFiles(t *testing.T) { hostile.Check(t, hostileKeys(), parseKey) }

func BenchmarkHostileKeyFiles(b *testing.B) { hostile.Benchmark(b, hostileKeys(), parseKey) }
