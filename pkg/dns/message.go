package dns

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// Type is a type of record.
type Type uint16

// The types that are read. OPT is EDNS's (RFC 6891).
const (
	A     Type = 1
	CNAME Type = 5
	PTR   Type = 12
	TXT   Type = 16
	AAAA  Type = 28
	SRV   Type = 33

	opt Type = 41
)

// Record is one record of an answer. Which fields are set depends on the type.
type Record struct {
	Name     Name
	Type     Type
	Addr     netip.Addr // A, AAAA
	Target   Name       // CNAME, PTR, SRV
	Strings  []string   // TXT: character strings of up to 255 octets each
	Priority uint16     // SRV, RFC 2782
	Weight   uint16
	Port     uint16
}

// Bounds of what is read, far above what anybody needs.
const (
	maxMessage = 0xffff
	maxRecords = 256
)

const (
	classIN       = 1
	cacheFlush    = 0x8000 // of a class, in multicast DNS (RFC 6762 §10.2)
	flagResponse  = 0x8000
	flagTruncated = 0x0200
	flagRecurse   = 0x0100
	payload       = 1232 // of UDP, which no path fragments
)

var errMessage = errors.New("not a DNS message")

// message is what was received.
type message struct {
	id       uint16
	flags    uint16
	question question // the only one, or the zero value
	answers  []Record // of the answer section and, last, the additional one; unknown types and classes are left out
}

type question struct {
	name Name
	kind Type
}

func (m *message) response() bool  { return m.flags&flagResponse != 0 }
func (m *message) truncated() bool { return m.flags&flagTruncated != 0 }
func (m *message) rcode() int      { return int(m.flags & 0xf) }

// query writes the message that asks q. extended offers EDNS.
func query(id uint16, q question, recurse, extended bool) []byte {
	var flags, additional uint16
	if recurse {
		flags = flagRecurse
	}
	if extended {
		additional = 1
	}
	b := make([]byte, 0, 12+len(q.name)+4+11)
	for _, v := range []uint16{id, flags, 1, 0, 0, additional} {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	b = append(b, q.name...)
	b = binary.BigEndian.AppendUint16(b, uint16(q.kind))
	b = binary.BigEndian.AppendUint16(b, classIN)
	if extended {
		b = append(b, 0, 0, byte(opt), payload>>8, payload&0xff, 0, 0, 0, 0, 0, 0)
	}
	return b
}

// parse reads a whole message.
func parse(b []byte) (*message, error) {
	if len(b) > maxMessage {
		return nil, errMessage
	}
	r := &reader{message: b, end: len(b)}
	m := &message{id: r.uint16(), flags: r.uint16()}
	questions, total := r.uint16(), int(r.uint16())+int(r.uint16())+int(r.uint16())
	if questions > 1 || total > maxRecords {
		return nil, errMessage
	}
	if questions == 1 {
		m.question = question{r.name(), Type(r.uint16())}
		r.failed = r.failed || r.uint16() != classIN
	}
	for range total {
		if r.failed {
			break
		}
		start := r.pos
		record, known := r.record()
		if r.failed && m.truncated() && start > 0 {
			return m, nil // what is missing is asked for anew by TCP
		}
		if known {
			m.answers = append(m.answers, record)
		}
	}
	if r.failed {
		return nil, errMessage
	}
	return m, nil
}

// reader reads a part of a message. After a failure it returns zero values.
type reader struct {
	message  []byte // whole, for names that point back
	pos, end int
	failed   bool
}

// bytes returns the next n octets.
func (r *reader) bytes(n int) []byte {
	if r.failed || n > r.end-r.pos {
		r.failed = true
		return nil
	}
	r.pos += n
	return r.message[r.pos-n : r.pos]
}

func (r *reader) uint8() int {
	if b := r.bytes(1); b != nil {
		return int(b[0])
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.bytes(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

// record reads a record. known is false for types and classes that nobody here reads.
func (r *reader) record() (rec Record, known bool) {
	rec.Name, rec.Type = r.name(), Type(r.uint16())
	class := r.uint16()
	r.bytes(4) // the time to live; nothing is kept
	size := int(r.uint16())
	data := &reader{message: r.message, pos: r.pos, end: r.pos + size}
	if r.bytes(size); r.failed || class&^cacheFlush != classIN {
		return rec, false
	}
	switch rec.Type {
	case A:
		rec.Addr, known = netip.AddrFromSlice(data.bytes(4))
	case AAAA:
		rec.Addr, known = netip.AddrFromSlice(data.bytes(16))
	case CNAME, PTR:
		rec.Target, known = data.name(), true
	case SRV:
		rec.Priority, rec.Weight, rec.Port, known = data.uint16(), data.uint16(), data.uint16(), true
		rec.Target = data.name()
	case TXT:
		for known = true; data.pos < data.end && !data.failed; {
			rec.Strings = append(rec.Strings, string(data.bytes(data.uint8())))
		}
	default:
		return rec, false
	}
	r.failed = data.failed || data.pos != data.end
	return rec, known && !r.failed
}

// name reads a name, which may end in a pointer to an earlier place of the message (RFC 1035 §4.1.4). Every pointer leads
// further back than the one before, so that reading ends.
func (r *reader) name() Name {
	var out []byte
	in, begin := r, r.pos
	for !r.failed {
		size := in.uint8()
		switch {
		case in.failed, size >= 64 && size < 192:
			r.failed = true
		case size >= 192:
			to := (size&63)<<8 | in.uint8()
			if in.failed || to >= begin {
				r.failed = true
			}
			in, begin = &reader{message: r.message, pos: to, end: begin}, to
		case len(out)+1+size > maxName:
			r.failed = true
		default:
			out = append(append(out, byte(size)), in.bytes(size)...)
			if r.failed = r.failed || in.failed; size == 0 && !r.failed {
				return Name(out)
			}
		}
	}
	return ""
}
