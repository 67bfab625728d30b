package signature

import (
	"bytes"
	"encoding"
	"encoding/hex"
	"hash"
	"testing"

	oracle "golang.org/x/crypto/blake2b"
	"pgregory.net/rapid"
)

func TestBLAKE2b(t *testing.T) {
	for text, want := range map[string]string{
		// RFC 7693 appendix A
		"abc": "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d17d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923",
		// https://github.com/BLAKE2/BLAKE2, blake2-kat: no input
		"": "786a02f742015903c6c6fd852552d272912f4740e15847618a86e217f71f5419d25e1031afee585313896444934eb04b903a685b1448b755d56f701afe9be2ce",
	} {
		h := newBLAKE2b()
		h.Write([]byte(text))
		if got := hex.EncodeToString(h.Sum(nil)); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// TestBLAKE2bAgrees: like the library's, however the input is cut, and wherever it is marshalled in between.
func TestBLAKE2bAgrees(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pieces := rapid.SliceOfN(rapid.IntRange(0, 3*blake2bBlock), 0, 8).Draw(t, "pieces")
		next := rapid.Byte().Draw(t, "first")
		ours := newBLAKE2b()
		want, err := oracle.New512(nil)
		if err != nil {
			t.Fatal(err)
		}
		for i, n := range pieces {
			piece := make([]byte, n)
			for j := range piece {
				next = next*5 + 1
				piece[j] = next
			}
			ours.Write(piece)
			want.Write(piece)
			ours.Sum(nil) // changes nothing
			if rapid.Bool().Draw(t, "marshal") {
				ours = marshalled(t, ours)
			}
			if !bytes.Equal(ours.Sum(nil), want.Sum(nil)) {
				t.Fatalf("differs from the library's after %v", pieces[:i+1])
			}
		}
	})
}

func marshalled(t interface{ Fatal(...any) }, h hash.Hash) hash.Hash {
	state, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	again := newBLAKE2b()
	if err := again.(encoding.BinaryUnmarshaler).UnmarshalBinary(state); err != nil {
		t.Fatal(err)
	}
	return again
}

func TestBLAKE2bState(t *testing.T) {
	state, err := newBLAKE2b().(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string]func([]byte) []byte{
		"empty":    func([]byte) []byte { return nil },
		"short":    func(b []byte) []byte { return b[:len(b)-1] },
		"long":     func(b []byte) []byte { return append(b, 0) },
		"mark":     func(b []byte) []byte { b[0]++; return b },
		"overfull": func(b []byte) []byte { b[len(b)-blake2bBlock-1] = blake2bBlock + 1; return b },
	} {
		if err := newBLAKE2b().(encoding.BinaryUnmarshaler).UnmarshalBinary(damage(bytes.Clone(state))); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func BenchmarkBLAKE2b(b *testing.B) {
	data := make([]byte, 256<<10)
	b.SetBytes(int64(len(data)))
	h := newBLAKE2b()
	for b.Loop() {
		h.Write(data)
	}
}
