package cms_test

import (
	"bytes"
	"errors"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
)

func TestData(t *testing.T) {
	for _, oid := range []string{typeData, typeJSON, "1.2.840.113549.1.9.16.1.42", typeVoucher} {
		m := mustParse(t, opensslpki.Data(oid, content))
		if m.Type.String() != oid || !bytes.Equal(m.Data, content) || m.Signed != nil || m.Enveloped != nil {
			t.Errorf("message %+v", m)
		}
	}
	if m := mustParse(t, opensslpki.Data(typeJSON, nil)); m.Data == nil {
		t.Error("empty content is nil")
	}
	w := shared()
	if m := mustParse(t, w.Run("cms", "-data_create", "-binary", "-in", w.Write(content), "-outform", "DER")); !bytes.Equal(m.Data, content) {
		t.Errorf("content %q", m.Data)
	}
}

func TestStrictDER(t *testing.T) {
	fine := opensslpki.Data(typeJSON, []byte("x"))
	signed := shared().Sign(shared().signer, content)
	enveloped := func(ciphertext ...[]byte) []byte {
		return opensslpki.ContentInfo("1.2.840.113549.1.7.3", addBytes(element(0x30, []byte{2, 1, 0}, element(0x31),
			element(0x30, oidDER(typeData), element(0x30, oidDER(aes128CBC)), bytes.Join(ciphertext, nil)))))
	}
	if _, err := cms.Parse(enveloped(element(0x80))); err != nil {
		t.Fatal(err)
	}
	longForm := slices.Concat([]byte{0x30, 0x81, fine[1]}, fine[2:])
	for name, der := range map[string][]byte{
		"empty":               {},
		"one-byte":            {0x30},
		"trailing":            append(bytes.Clone(fine), 0),
		"trailing-signed":     append(bytes.Clone(signed), 0x30, 0),
		"twice":               slices.Concat(fine, fine),
		"truncated":           fine[:len(fine)-1],
		"truncated-signed":    signed[:len(signed)-1],
		"length-not-shortest": longForm,
		"set":                 slices.Concat([]byte{0x31}, fine[1:]),
		"pem":                 []byte("-----BEGIN PKCS7-----"),
		"no-content":          {0x30, 3, 6, 1, 0x2a},
		"no-octets":           element(0x30, oidDER(typeJSON), element(0xa0, []byte{5, 0})),
		"octets-twice":        element(0x30, oidDER(typeJSON), element(0xa0, octets(nil), octets(nil))),
		"content-twice":       element(0x30, oidDER(typeJSON), element(0xa0, octets(nil)), element(0xa0, octets(nil))),
		"no-type":             element(0x30, element(0xa0, octets(nil))),
		"no-ciphertext":       enveloped(),
		"ciphertext-number":   enveloped([]byte{2, 1, 1}),
		"ciphertext-numbers":  enveloped(element(0xa0, []byte{2, 1, 1})),
		"signed-octets":       element(0x30, oidDER("1.2.840.113549.1.7.2"), element(0xa0, octets(nil))),
		"enveloped-octets":    element(0x30, oidDER("1.2.840.113549.1.7.3"), element(0xa0, octets(nil))),
		"huge-length":         {0x30, 0x84, 0xff, 0xff, 0xff, 0xff},
	} {
		t.Run(name, func(t *testing.T) {
			if m, err := cms.Parse(der); !errors.Is(err, cms.ErrMalformed) {
				t.Errorf("Parse: %+v, %v", m, err)
			}
		})
	}
}

// TestStreamedByOpenSSL reads indefinite lengths as `openssl cms -stream` makes them.
func TestStreamedByOpenSSL(t *testing.T) {
	w := shared()
	long := bytes.Repeat([]byte("0123456789abcdef"), 10000)
	for name, data := range map[string][]byte{"short": content, "in-pieces": long} {
		t.Run(name, func(t *testing.T) {
			der := w.Sign(w.signer, data, "-stream", "-econtent_type", typeJSON)
			if der[1] != 0x80 {
				t.Fatal("openssl did not stream")
			}
			s := mustParse(t, der).Signed
			if !bytes.Equal(s.Content, data) {
				t.Errorf("content of %d bytes, want %d", len(s.Content), len(data))
			}
			if err := s.SignedBy(w.signer.Certificate); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestIndefiniteLength(t *testing.T) {
	oid := oidDER(typeJSON)
	open := func(tag byte, parts ...[]byte) []byte {
		return slices.Concat([]byte{tag, 0x80}, slices.Concat(parts...), []byte{0, 0})
	}
	pieces := slices.Concat(octets([]byte("ab")), octets(nil), octets([]byte("c")))
	for name, test := range map[string]struct {
		ber  []byte
		want error
	}{
		"whole":                       {open(0x30, oid, open(0xa0, octets([]byte("abc")))), nil},
		"pieces":                      {open(0x30, oid, open(0xa0, open(0x24, pieces))), nil},
		"pieces-of-definite-length":   {open(0x30, oid, open(0xa0, element(0x24, pieces))), nil},
		"all-definite-with-pieces":    {element(0x30, oid, element(0xa0, element(0x24, pieces))), nil},
		"inner-definite":              {open(0x30, oid, element(0xa0, octets([]byte("abc")))), nil},
		"no-end":                      {open(0x30, oid, open(0xa0, octets([]byte("abc"))))[:20], cms.ErrMalformed},
		"one-end-missing":             {slices.Concat([]byte{0x30, 0x80}, oid, open(0xa0, octets([]byte("abc")))), cms.ErrMalformed},
		"trailing":                    {append(open(0x30, oid, open(0xa0, octets([]byte("abc")))), 0), cms.ErrMalformed},
		"pieces-in-pieces":            {open(0x30, oid, open(0xa0, open(0x24, open(0x24, pieces)))), cms.ErrMalformed},
		"piece-of-another-type":       {open(0x30, oid, open(0xa0, open(0x24, []byte{2, 1, 1}))), cms.ErrMalformed},
		"primitive-without-length":    {open(0x30, oid, open(0xa0, open(0x04, []byte("abc")))), cms.ErrMalformed},
		"inside-definite":             {element(0x30, oid, open(0xa0, octets([]byte("abc")))), cms.ErrMalformed},
		"piece-past-its-string":       {open(0x30, oid, open(0xa0, []byte{0x24, 3, 4, 4}, []byte("abcd"))), cms.ErrMalformed},
		"deep":                        {bytes.Repeat([]byte{0x30, 0x80}, 8<<20), cms.ErrLimit},
		"wide":                        {open(0x30, bytes.Repeat([]byte{0x30, 0x80, 0, 0}, 100)), cms.ErrLimit},
		"length-not-shortest-copied":  {open(0x30, oid, []byte{0xa0, 0x81, 5}, octets([]byte("abc"))), cms.ErrMalformed},
		"tag-in-more-bytes":           {open(0x30, []byte{0x1f, 0x81, 0, 0}), cms.ErrMalformed},
		"piece-cut":                   {open(0x30, oid, open(0xa0, open(0x24, []byte{4})))[:20], cms.ErrMalformed},
		"piece-of-long-length-cut":    {slices.Concat([]byte{0x30, 0x80}, oid, []byte{0xa0, 0x80, 0x24, 0x80, 4, 0x82, 1}), cms.ErrMalformed},
		"piece-without-length":        {open(0x30, oid, open(0xa0, open(0x24, open(0x04, []byte("abc"))))), cms.ErrMalformed},
		"end-of-one-byte":             {open(0x30, oid, open(0xa0, octets([]byte("abc"))))[:21], cms.ErrMalformed},
		"end-with-length":             {slices.Concat([]byte{0x30, 0x80}, oid, open(0xa0, octets([]byte("abc"))), []byte{0, 1, 0}), cms.ErrMalformed},
		"end-of-length-1":             {slices.Concat([]byte{0x30, 0x80}, oid, open(0xa0, octets([]byte("abc"))), []byte{0, 1}), cms.ErrMalformed},
		"primitive-with-an-element":   {open(0x30, oid, open(0xa0, open(0x04, octets([]byte("abc"))))), cms.ErrMalformed},
		"piece-length-not-shortest":   {open(0x30, oid, open(0xa0, open(0x24, []byte("\x04\x81\x03abc")))), cms.ErrMalformed},
		"piece-length-longer":         {open(0x30, oid, open(0xa0, open(0x24, []byte{4, 0x82, 0, 0x80}, make([]byte, 0x80)))), cms.ErrMalformed},
		"length-cut":                  {[]byte{0x30, 0x80, 0x04, 0x82, 1}, cms.ErrMalformed},
		"length-missing":              {[]byte{0x30, 0x80, 0x04}, cms.ErrMalformed},
		"length-not-shortest-of-4":    {open(0x30, oid, []byte{0xa0, 0x84, 0, 0, 0, 5}, octets([]byte("abc"))), cms.ErrMalformed},
		"length-of-4-gigabytes":       {open(0x30, oid, []byte{0xa0, 0x84, 0xff, 0xff, 0xff, 0xff}), cms.ErrMalformed},
		"8-deep":                      {bytes.Repeat([]byte{0x30, 0x80}, 8), cms.ErrMalformed},
		"9-deep":                      {bytes.Repeat([]byte{0x30, 0x80}, 9), cms.ErrLimit},
		"32-wide":                     {open(0x30, bytes.Repeat([]byte{0x30, 0x80, 0, 0}, 31)), cms.ErrMalformed},
		"33-wide":                     {open(0x30, bytes.Repeat([]byte{0x30, 0x80, 0, 0}, 32)), cms.ErrLimit},
		"length-of-more-than-4-bytes": {open(0x30, []byte{0x04, 0x85, 0, 0, 0, 0, 1, 0}), cms.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := cms.Parse(test.ber)
			if !errors.Is(err, test.want) {
				t.Fatalf("Parse: %v, want %v", err, test.want)
			}
			if err == nil && string(m.Data) != "abc" {
				t.Errorf("content %q", m.Data)
			}
		})
	}
}

// TestRewrittenLengths has contents on both sides of where a length takes a byte more, written in pieces and without lengths.
func TestRewrittenLengths(t *testing.T) {
	for _, size := range []int{0, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x10000} {
		for near := max(0, size-40); near < size+2; near++ { // of the content, and so of what is around it
			data := bytes.Repeat([]byte{'x'}, near)
			der := opensslpki.Data(typeJSON, data)
			for depth := range 4 {
				if m, err := cms.Parse(loosened(t, der, depth)); err != nil || !bytes.Equal(m.Data, data) {
					t.Fatalf("%d bytes, %d deep: %v", near, depth, err)
				}
			}
		}
	}
}

// TestHostileInputIsCheap holds time and memory against input that makes careless readers explode.
func TestHostileInputIsCheap(t *testing.T) {
	oid := oidDER(typeJSON)
	for name, der := range map[string][]byte{
		"nested-indefinite": bytes.Repeat([]byte{0x30, 0x80}, 8<<20-1),
		"nested-definite":   nested(5000),
		"empty-pieces": slices.Concat([]byte{0x30, 0x80}, oid, []byte{0xa0, 0x80, 0x24, 0x80}, bytes.Repeat([]byte{4, 0}, 8<<20-40),
			make([]byte, 6)),
		"sets-of-nothing": opensslpki.ContentInfo("1.2.840.113549.1.7.2", addBytes(element(0x30, []byte{2, 1, 1},
			element(0x31, bytes.Repeat([]byte{0x30, 0}, 4<<20))))),
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			cms.Parse(der)
			elapsed := time.Since(start)
			runtime.ReadMemStats(&after)
			if elapsed > 5*time.Second {
				t.Errorf("%v for %d bytes", elapsed, len(der))
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 4*uint64(len(der))+1<<20 {
				t.Errorf("%d bytes allocated for %d", used, len(der))
			}
		})
	}
}

// nested returns sequences within sequences.
func nested(depth int) []byte {
	var der []byte
	for range depth {
		der = element(0x30, der)
	}
	return der
}

// TestPrintable makes sure that names of peers cannot play with a terminal.
func TestPrintable(t *testing.T) {
	want := "a\ufffd[31mb"
	if diff := cmp.Diff(want, cms.Printable("a\x1b[31mb")); diff != "" {
		t.Error(diff)
	}
	if n := len([]rune(cms.Printable(string(bytes.Repeat([]byte("x"), 5000))))); n > 210 {
		t.Errorf("%d characters", n)
	}
}
