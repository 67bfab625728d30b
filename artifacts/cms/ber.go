package cms

import "fmt"

// Bounds of the tolerance for indefinite lengths. Streaming encoders open six levels around the content of a SignedData
// and seven around that of an EnvelopedData, once each.
const (
	maxIndefinite      = 32
	maxIndefiniteDepth = 8
)

const constructedOctets = 0x24

// definite returns der unchanged unless it begins with an indefinite length. If so, it returns the same message with
// definite lengths, and OCTET STRINGs joined, wherever indefinite lengths led; what is inside elements of definite
// length, such as certificates and signed attributes, is copied as it is.
func definite(der []byte) ([]byte, error) {
	if len(der) < 2 || der[1] != 0x80 {
		return der, nil
	}
	// Lengths come before contents in the output but after them in the input, so there are two passes.
	r := &rewriter{}
	rest, size, err := r.measure(der, 0)
	if err != nil {
		return nil, err
	}
	if len(rest) != 0 {
		return nil, malformed("%d trailing bytes", len(rest))
	}
	out, _ := r.emit(make([]byte, 0, size), der)
	return out, nil
}

// rewriter holds the lengths of the contents of the elements it opens, in the order of their headers.
type rewriter struct {
	lengths []int
	next    int
}

// measure returns what follows the first element of in, and the size of that element once rewritten.
func (r *rewriter) measure(in []byte, depth int) (rest []byte, size int, err error) {
	h, err := readHeader(in)
	if err != nil {
		return nil, 0, err
	}
	if !h.opened() {
		return in[h.size+h.length:], h.size + h.length, nil
	}
	if depth == maxIndefiniteDepth || len(r.lengths) == maxIndefinite {
		return nil, 0, fmt.Errorf("%w: too many indefinite lengths", ErrLimit)
	}
	slot := len(r.lengths)
	r.lengths = append(r.lengths, 0)
	length := 0
	rest = in[h.size:]
	for !h.ended(in, rest) {
		if h.tag == constructedOctets {
			piece, err := readHeader(rest)
			if err != nil {
				return nil, 0, err
			}
			if piece.tag != 0x04 {
				return nil, 0, malformed("piece of an OCTET STRING with tag %#x", piece.tag)
			}
			rest, length = rest[piece.size+piece.length:], length+piece.length
			continue
		}
		var n int
		if rest, n, err = r.measure(rest, depth+1); err != nil {
			return nil, 0, err
		}
		length += n
	}
	if !h.indefinite && len(in)-len(rest) != h.size+h.length {
		return nil, 0, malformed("piece of an OCTET STRING that ends outside of it")
	}
	r.lengths[slot] = length
	return rest[h.trailer():], len(appendHeader(nil, h.tag, length)) + length, nil
}

// emit appends the first element of in, which measure accepted, to out.
func (r *rewriter) emit(out, in []byte) (written, rest []byte) {
	h, _ := readHeader(in)
	if !h.opened() {
		end := h.size + h.length
		return append(out, in[:end]...), in[end:]
	}
	tag := h.tag
	if tag == constructedOctets {
		tag = 0x04
	}
	out = appendHeader(out, tag, r.lengths[r.next])
	r.next++
	rest = in[h.size:]
	for !h.ended(in, rest) {
		if h.tag == constructedOctets {
			piece, _ := readHeader(rest)
			end := piece.size + piece.length
			out, rest = append(out, rest[piece.size:end]...), rest[end:]
			continue
		}
		out, rest = r.emit(out, rest)
	}
	return out, rest[h.trailer():]
}

// header is the identifier and length of an element.
type header struct {
	tag        byte
	indefinite bool
	size       int // of the header
	length     int // of the contents; 0 when indefinite
}

// opened reports whether the element is rewritten rather than copied.
func (h header) opened() bool { return h.indefinite || h.tag == constructedOctets }

// ended reports whether rest, the remainder of the element that starts at in, begins with the element's end.
func (h header) ended(in, rest []byte) bool {
	if h.indefinite {
		return len(rest) >= 2 && rest[0] == 0 && rest[1] == 0
	}
	return len(in)-len(rest) >= h.size+h.length
}

// trailer is the size of the end-of-contents octets.
func (h header) trailer() int {
	if h.indefinite {
		return 2
	}
	return 0
}

// readHeader reads a header and makes sure that contents of a definite length are all there.
func readHeader(in []byte) (header, error) {
	if len(in) < 2 {
		return header{}, malformed("truncated element")
	}
	h := header{tag: in[0], size: 2}
	if h.tag&0x1f == 0x1f {
		return header{}, malformed("tag in more than one byte")
	}
	switch b := in[1]; {
	case b == 0x80:
		if h.tag&0x20 == 0 {
			return header{}, malformed("indefinite length of a primitive element")
		}
		h.indefinite = true
		return h, nil
	case b < 0x80:
		h.length = int(b)
	case b > 0x83 || len(in) < 2+int(b&0x7f): // longer ones are over MaxSize
		return header{}, malformed("length of an element")
	default:
		h.size += int(b & 0x7f)
		for _, octet := range in[2:h.size] {
			h.length = h.length<<8 | int(octet)
		}
		if shortest := h.length >= 0x80 && h.length>>(8*(h.size-3)) != 0; !shortest {
			return header{}, malformed("length of an element")
		}
	}
	if len(in)-h.size < h.length {
		return header{}, malformed("truncated element")
	}
	return h, nil
}

// appendHeader appends a header in DER, for a length below MaxSize.
func appendHeader(out []byte, tag byte, length int) []byte {
	out = append(out, tag)
	switch {
	case length < 0x80:
		return append(out, byte(length))
	case length < 1<<8:
		return append(out, 0x81, byte(length))
	case length < 1<<16:
		return append(out, 0x82, byte(length>>8), byte(length))
	}
	return append(out, 0x83, byte(length>>16), byte(length>>8), byte(length))
}
