package cms

import (
	"bytes"
	"testing"
)

// FuzzDefinite: what the rewriting of indefinite lengths accepts, it leaves alone the second time, and it never grows.
func FuzzDefinite(f *testing.F) {
	f.Add([]byte{0x30, 0x80, 0x06, 0x01, 0x2a, 0xa0, 0x80, 0x24, 0x80, 0x04, 0x01, 'a', 0x04, 0x01, 'b', 0, 0, 0, 0, 0, 0})
	f.Add([]byte{0x30, 0x80, 0x24, 0x03, 0x04, 0x01, 'a', 0, 0})
	f.Add([]byte{0x30, 0x80, 0x30, 0x81, 0x01, 0x00, 0, 0})
	f.Fuzz(func(t *testing.T, ber []byte) {
		der, err := definite(ber)
		if err != nil {
			return
		}
		if len(der) > len(ber) {
			t.Fatalf("%d bytes became %d", len(ber), len(der))
		}
		if len(der) > 1 && der[1] == 0x80 {
			if &der[0] != &ber[0] {
				t.Fatal("an indefinite length was left")
			}
			return
		}
		again, err := definite(der)
		if err != nil || !bytes.Equal(der, again) {
			t.Fatalf("rewritten again: %x, %v", again, err)
		}
	})
}
