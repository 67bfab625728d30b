package dns

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"
)

// Errors of Ask and AskLink, besides those of the network.
var (
	ErrNoSuchName = errors.New("no such name")   // the name does not exist
	ErrNoData     = errors.New("no such record") // the name exists, without records of that type
	ErrRefused    = errors.New("the name server does not answer this question")
	ErrNoAnswer   = errors.New("no answer")
)

// Dial connects to a name server; network is "udp" or "tcp".
type Dial func(ctx context.Context, network string) (net.Conn, error)

// transaction returns an id that who cannot see the question cannot guess.
func transaction() uint16 {
	var b [2]byte
	rand.Read(b[:]) // never fails
	return binary.BigEndian.Uint16(b[:])
}

// Times of asking. A name server that has to ask others first may take seconds.
const (
	udpTries = 3
	udpWait  = 2 * time.Second
	tcpWait  = 5 * time.Second
)

// Ask asks one name server, by UDP and, when the answer is too long for that, by TCP (RFC 7766). It returns the records of
// type t that name has, by way of aliases too.
func Ask(ctx context.Context, dial Dial, name Name, t Type) ([]Record, error) {
	q := question{name, t}
	m, err := askUDP(ctx, dial, q, true)
	if err == nil && (m.rcode() == 1 || m.rcode() == 4) { // a server that does not know EDNS
		m, err = askUDP(ctx, dial, q, false)
	}
	if err == nil && m.truncated() {
		m, err = askTCP(ctx, dial, q)
	}
	if err != nil {
		return nil, err
	}
	return m.answer(q)
}

func askUDP(ctx context.Context, dial Dial, q question, extended bool) (*message, error) {
	conn, err := dial(ctx, "udp")
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	buf := make([]byte, 4096)
	id := transaction() // of all tries, so that what comes late still counts
	var failure error
	for range udpTries {
		if _, err := conn.Write(query(id, q, true, extended)); err != nil {
			return nil, cmp.Or(ctx.Err(), err)
		}
		conn.SetReadDeadline(time.Now().Add(udpWait))
		for {
			n, err := conn.Read(buf)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err != nil {
				failure = err
				break
			}
			if m, err := parse(buf[:n]); err == nil && m.replies(id, q) {
				return m, nil
			}
		}
		var timeout net.Error
		if !errors.As(failure, &timeout) || !timeout.Timeout() {
			return nil, failure // the port is closed, or there is no way to the server
		}
	}
	return nil, ErrNoAnswer
}

func askTCP(ctx context.Context, dial Dial, q question) (*message, error) {
	ctx, cancel := context.WithTimeout(ctx, tcpWait)
	defer cancel()
	conn, err := dial(ctx, "tcp")
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	id := transaction()
	b := query(id, q, true, true)
	if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)); err != nil {
		return nil, cmp.Or(ctx.Err(), err)
	}
	size := make([]byte, 2)
	if _, err := io.ReadFull(conn, size); err != nil {
		return nil, cmp.Or(ctx.Err(), err)
	}
	answer := make([]byte, binary.BigEndian.Uint16(size))
	if _, err := io.ReadFull(conn, answer); err != nil {
		return nil, cmp.Or(ctx.Err(), err)
	}
	m, err := parse(answer)
	if err != nil {
		return nil, err
	}
	if !m.replies(id, q) || m.truncated() {
		return nil, errMessage
	}
	return m, nil
}

// replies reports whether m is a reply to the question q that was asked with that id.
func (m *message) replies(id uint16, q question) bool {
	return m.response() && m.id == id && m.question.kind == q.kind && m.question.name.Equal(q.name)
}

// maxAliases bounds chains of CNAME records.
const maxAliases = 8

// answer picks the records that answer q.
func (m *message) answer(q question) ([]Record, error) {
	switch m.rcode() {
	case 0:
	case 3:
		return nil, ErrNoSuchName
	default:
		return nil, fmt.Errorf("%w (RCODE %d)", ErrRefused, m.rcode())
	}
	name := q.name
	for range maxAliases {
		var found []Record
		alias := slices.IndexFunc(m.answers, func(r Record) bool { return r.Type == CNAME && r.Name.Equal(name) })
		for _, r := range m.answers {
			if r.Type == q.kind && r.Name.Equal(name) {
				found = append(found, r)
			}
		}
		switch {
		case len(found) > 0:
			return found, nil
		case alias < 0:
			return nil, ErrNoData
		}
		name = m.answers[alias].Target
	}
	return nil, ErrNoData
}

// Times of asking on a link (RFC 6762 §5.2, §6): responders wait up to 120 ms so that they do not all speak at once, and
// wireless links lose what is sent to many.
var linkTries = []time.Duration{time.Second, time.Second}

// linkSettle is how long others may still answer after the first.
const linkSettle = 250 * time.Millisecond

// Packets is a UDP socket from which multicast DNS is asked, and the group to ask: 224.0.0.251 or ff02::fb, port 5353, on one
// interface. Since its own port is another, responders answer it directly (RFC 6762 §6.7).
type Packets struct {
	net.PacketConn
	Group net.Addr
}

// AskLink asks everybody on a link and returns the different records that came back. It takes 2 s to find out that nobody
// knows.
func AskLink(ctx context.Context, conn Packets, name Name, t Type) ([]Record, error) {
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	q := question{name, t}
	var found []Record
	buf := make([]byte, 9000) // RFC 6762 §17
	id := transaction()
	for _, wait := range linkTries {
		if _, err := conn.WriteTo(query(id, q, false, false), conn.Group); err != nil {
			return nil, err
		}
		conn.SetReadDeadline(time.Now().Add(wait))
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				break
			}
			m, err := parse(buf[:n])
			if err != nil || !m.replies(id, q) || port(from) != port(conn.Group) { // RFC 6762 §6
				continue
			}
			records, err := m.answer(q)
			if err != nil {
				continue
			}
			if found == nil {
				conn.SetReadDeadline(time.Now().Add(linkSettle))
			}
			found = merge(found, records)
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if found != nil {
			return found, nil
		}
	}
	return nil, ErrNoAnswer
}

// port returns the port of a UDP address, or 0.
func port(a net.Addr) int {
	if udp, ok := a.(*net.UDPAddr); ok {
		return udp.Port
	}
	return 0
}

// merge adds the records that are not there yet, within bounds.
func merge(found, more []Record) []Record {
	for _, r := range more {
		same := func(o Record) bool {
			return r.Addr == o.Addr && r.Target.Equal(o.Target) && slices.Equal(r.Strings, o.Strings) && r.Priority == o.Priority &&
				r.Weight == o.Weight && r.Port == o.Port
		}
		if len(found) < maxRecords && !slices.ContainsFunc(found, same) {
			found = append(found, r)
		}
	}
	return found
}
