package systemd

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// What follows is as much of D-Bus as it takes to tell systemd about a unit (D-Bus Specification, "Message Protocol" and
// "Authentication Protocol"; org.freedesktop.systemd1(5)): calls of its manager, replies, and the signal that a job has ended.

// The types of messages, and the codes of header fields.
const (
	typeCall, typeReply, typeError, typeSignal = 1, 2, 3, 4

	fieldPath, fieldInterface, fieldMember, fieldError, fieldReplyTo, fieldDestination, fieldSender, fieldSignature = 1, 2, 3, 4, 5, 6, 7, 8
)

const (
	busName     = "org.freedesktop.DBus"
	busPath     = "/org/freedesktop/DBus"
	managerName = "org.freedesktop.systemd1"
	managerPath = "/org/freedesktop/systemd1"
	managerFace = managerName + ".Manager"
	jobRemoved  = "JobRemoved"
	maxMessage  = 1 << 20 // bytes; replies to what is asked here have some hundreds
)

// nameReadOnly is what systemd calls EROFS.
const nameReadOnly = "System.Error.EROFS"

var errMessage = errors.New("a D-Bus message that makes no sense")

// conn is a connection to systemd, directly or over a bus.
type conn struct {
	net.Conn
	in     *bufio.Reader
	serial uint32
	ended  map[string]string // the results of jobs by who told of them and their paths, as far as they were heard of
	peer   string            // who sent the latest reply: on a bus anybody may send signals
}

// dial connects to the socket at path; bus tells whether a bus listens there rather than systemd itself.
func dial(ctx context.Context, path string, bus bool) (*conn, error) {
	var d net.Dialer
	socket, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: socket, in: bufio.NewReader(socket), ended: map[string]string{}}
	stop := context.AfterFunc(ctx, func() { socket.Close() })
	defer stop()
	if err := c.authenticate(); err != nil {
		socket.Close()
		return nil, err
	}
	if !bus {
		err = c.wake(ctx)
	} else if _, err = c.call(busName, busPath, busName, "Hello", "", nil); err == nil {
		var rule encoder
		rule.string("type='signal',interface='" + managerFace + "',member='" + jobRemoved + "'")
		_, err = c.call(busName, busPath, busName, "AddMatch", "s", rule)
	}
	if err != nil {
		socket.Close()
		return nil, err
	}
	return c, nil
}

// authenticate says which user this is, which the other side can see for itself.
func (c *conn) authenticate() error {
	user := hex.EncodeToString([]byte(strconv.Itoa(os.Geteuid())))
	if _, err := io.WriteString(c, "\x00AUTH EXTERNAL "+user+"\r\n"); err != nil {
		return err
	}
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(string(line), "OK ") {
		return fmt.Errorf("it does not take this user: %q", line)
	}
	_, err = io.WriteString(c, "BEGIN\r\n")
	return err
}

// wakePause is how long an answer to a ping is waited for before another one is sent.
const wakePause = 100 * time.Millisecond

// wake pings until there is an answer. What reaches systemd in one piece with the end of the authentication lies there until more
// comes.
func (c *conn) wake(ctx context.Context) error {
	for {
		c.serial++
		if _, err := c.Write(encode(typeCall, c.serial, "", managerPath, busName+".Peer", "Ping", "", nil)); err != nil {
			return err
		}
		c.SetReadDeadline(time.Now().Add(wakePause))
		_, err := c.in.Peek(1)
		c.SetReadDeadline(time.Time{})
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// manage calls a method of systemd's manager, and returns the first string of the reply, or "".
func (c *conn) manage(method, signature string, body encoder) (string, error) {
	return c.call(managerName, managerPath, managerFace, method, signature, body)
}

func (c *conn) call(to, path, face, method, signature string, body encoder) (string, error) {
	c.serial++
	if _, err := c.Write(encode(typeCall, c.serial, to, path, face, method, signature, body)); err != nil {
		return "", err
	}
	for {
		m, err := c.receive()
		switch {
		case err != nil:
			return "", err
		case m.replyTo != c.serial || m.kind != typeReply && m.kind != typeError:
		case m.kind == typeError:
			err = errors.New(cmp.Or(m.text, m.name))
			if m.name == nameReadOnly {
				err = fmt.Errorf("%w (%w)", err, syscall.EROFS)
			}
			return "", err
		default:
			c.peer = m.sender
			return m.text, nil
		}
	}
}

// result waits for the end of a job of which the latest reply told.
func (c *conn) result(job string) (string, error) {
	for {
		if result, ok := c.ended[c.peer+job]; ok {
			return result, nil
		}
		if _, err := c.receive(); err != nil {
			return "", err
		}
	}
}

// receive returns the next message, of which it notes whether it tells of the end of a job.
func (c *conn) receive() (*message, error) {
	var fixed [16]byte
	if _, err := io.ReadFull(c.in, fixed[:]); err != nil {
		return nil, err
	}
	size, err := sizeOf(fixed[:])
	if err != nil {
		return nil, err
	}
	data := make([]byte, size)
	copy(data, fixed[:])
	if _, err := io.ReadFull(c.in, data[len(fixed):]); err != nil {
		return nil, err
	}
	m, err := decode(data)
	if err == nil && m.kind == typeSignal && m.name == jobRemoved {
		c.ended[m.sender+m.job] = m.result
	}
	return m, err
}

// encoder is a body, or a header, in little endian.
type encoder []byte

func (e *encoder) align(n int) {
	for len(*e)%n != 0 {
		*e = append(*e, 0)
	}
}

func (e *encoder) uint32(n uint32) {
	e.align(4)
	*e = binary.LittleEndian.AppendUint32(*e, n)
}

func (e *encoder) bool(b bool) {
	if b {
		e.uint32(1)
	} else {
		e.uint32(0)
	}
}

func (e *encoder) string(s string) {
	e.uint32(uint32(len(s)))
	*e = append(append(*e, s...), 0)
}

// strings is an array of one string.
func (e *encoder) strings(one string) {
	e.uint32(uint32(4 + len(one) + 1))
	e.string(one)
}

// field is a header field: its code, and a variant.
func (e *encoder) field(code byte, signature, value string) {
	e.align(8)
	*e = append(*e, code, 1, signature[0], 0)
	if signature == "g" {
		*e = append(append(append(*e, byte(len(value))), value...), 0)
		return
	}
	e.string(value)
}

func encode(kind byte, serial uint32, to, path, face, member, signature string, body encoder) []byte {
	e := encoder{'l', kind, 0, 1}
	e.uint32(uint32(len(body)))
	e.uint32(serial)
	e.uint32(0) // the length of the fields, below
	e.field(fieldPath, "o", path)
	e.field(fieldInterface, "s", face)
	e.field(fieldMember, "s", member)
	if to != "" {
		e.field(fieldDestination, "s", to)
	}
	if signature != "" {
		e.field(fieldSignature, "g", signature)
	}
	binary.LittleEndian.PutUint32(e[12:], uint32(len(e)-16))
	e.align(8)
	return append(e, body...)
}

// message is what counts of a message that was received.
type message struct {
	kind        byte
	replyTo     uint32
	sender      string // as the bus knows it
	name        string // the member of a signal, or the name of an error
	text        string // the first string of the body, if it begins with one
	job, result string // of JobRemoved
}

// sizeOf returns the length of the whole message that begins so.
func sizeOf(fixed []byte) (int, error) {
	order, err := orderOf(fixed[0])
	if err != nil {
		return 0, err
	}
	body, fields := order.Uint32(fixed[4:]), order.Uint32(fixed[12:])
	if body > maxMessage || fields > maxMessage {
		return 0, fmt.Errorf("%w: it has more than a megabyte", errMessage)
	}
	return 16 + (int(fields)+7)&^7 + int(body), nil
}

func orderOf(mark byte) (binary.ByteOrder, error) {
	switch mark {
	case 'l':
		return binary.LittleEndian, nil
	case 'B':
		return binary.BigEndian, nil
	}
	return nil, errMessage
}

// decode reads a whole message.
func decode(data []byte) (*message, error) {
	if len(data) < 16 {
		return nil, errMessage
	}
	order, err := orderOf(data[0])
	if err != nil {
		return nil, err
	}
	m := &message{kind: data[1]}
	fields := order.Uint32(data[12:])
	if uint64(fields) > uint64(len(data)-16) {
		return nil, errMessage
	}
	d := &decoder{data: data[:16+fields], at: 16, order: order}
	signature := ""
	for d.at < len(d.data) && !d.bad {
		d.align(8)
		switch code, kind := d.byte(), d.signature(); {
		case kind == "g" && code == fieldSignature:
			signature = d.signature()
		case kind == "g":
			d.signature()
		case kind == "u" && code == fieldReplyTo:
			m.replyTo = d.uint32()
		case kind == "u":
			d.uint32()
		case (kind == "s" || kind == "o") && (code == fieldMember || code == fieldError):
			m.name = d.string()
		case kind == "s" && code == fieldSender:
			m.sender = d.string()
		case kind == "s" || kind == "o":
			d.string()
		default:
			d.bad = true
		}
	}
	if d.bad {
		return nil, errMessage
	}
	d.data = data
	d.align(8)
	switch {
	case strings.HasPrefix(signature, "s"), strings.HasPrefix(signature, "o"):
		m.text = d.string()
	case signature == "uoss" && m.name == jobRemoved:
		d.uint32()
		m.job, _, m.result = d.string(), d.string(), d.string()
	}
	if d.bad {
		return nil, errMessage
	}
	return m, nil
}

// decoder reads on from a place; it is bad once something was not there.
type decoder struct {
	data  []byte
	at    int
	order binary.ByteOrder
	bad   bool
}

func (d *decoder) align(n int) { d.take((n - d.at%n) % n) }

func (d *decoder) take(n int) []byte {
	if d.bad = d.bad || n > len(d.data)-d.at; d.bad {
		return nil
	}
	d.at += n
	return d.data[d.at-n : d.at]
}

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) uint32() uint32 {
	d.align(4)
	if b := d.take(4); b != nil {
		return d.order.Uint32(b)
	}
	return 0
}

func (d *decoder) string() string {
	n := d.uint32()
	if n >= maxMessage {
		d.bad = true
	}
	return d.terminated(int(n))
}

func (d *decoder) signature() string { return d.terminated(int(d.byte())) }

func (d *decoder) terminated(n int) string {
	b := d.take(n + 1)
	if b == nil || b[n] != 0 {
		d.bad = true
		return ""
	}
	return string(b[:n])
}
