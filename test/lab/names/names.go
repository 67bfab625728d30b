// Package names is a small authoritative DNS server, over UDP and TCP, for the names of one laboratory network. On a socket
// of the multicast group it answers as a neighbour does (RFC 6762 §6.7).
package names

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/xpu-sztp/ztp/test/lab/event"
)

const (
	ttl      = 60 // seconds
	idleTime = 10 * time.Second
)

// Server answers questions about hosts, services (SRV) and texts (TXT), which must not change while it serves. Keys are
// lowercase names without final dot.
type Server struct {
	Hosts    map[string][]netip.Addr
	Services map[string][]dnsmessage.SRVResource
	Texts    map[string][][]string // of each record, its strings of at most 255 octets
	Datagram int                   // longest answer by UDP, in octets; default 512
	Log      *event.Log

	mu      sync.Mutex
	closers []io.Closer
	closed  bool
}

// Serve answers on a UDP socket and a TCP listener, either of which may be nil, until Close.
func (s *Server) Serve(udp net.PacketConn, tcp net.Listener) error {
	s.mu.Lock()
	if s.Log == nil {
		s.Log = &event.Log{}
	}
	if s.Datagram == 0 {
		s.Datagram = 512
	}
	s.mu.Unlock()
	errs := make(chan error, 2)
	if udp != nil {
		s.track(udp)
		go func() { errs <- s.serveUDP(udp) }()
	}
	if tcp != nil {
		s.track(tcp)
		go func() { errs <- s.serveTCP(tcp) }()
	}
	err := <-errs
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	return err
}

// Close ends Serve.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, c := range s.closers {
		c.Close()
	}
	return nil
}

func (s *Server) track(c io.Closer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closers = append(s.closers, c)
	if s.closed {
		c.Close()
	}
}

func (s *Server) serveUDP(conn net.PacketConn) error {
	buf := make([]byte, 4096)
	for {
		n, peer, err := conn.ReadFrom(buf)
		if err != nil {
			return err
		}
		if reply, err := s.answer(buf[:n]); err == nil {
			conn.WriteTo(s.truncate(reply), peer)
		}
	}
}

func (s *Server) serveTCP(l net.Listener) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go s.serveConn(conn)
	}
}

func (s *Server) serveConn(conn net.Conn) {
	defer conn.Close()
	for {
		conn.SetDeadline(time.Now().Add(idleTime))
		var size [2]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(conn, query); err != nil {
			return
		}
		reply, err := s.answer(query)
		if err != nil {
			return
		}
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)); err != nil {
			return
		}
	}
}

func (s *Server) answer(query []byte) ([]byte, error) {
	var p dnsmessage.Parser
	header, err := p.Start(query)
	if err != nil {
		return nil, err
	}
	q, err := p.Question()
	if err != nil {
		return nil, err
	}
	name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
	bodies, known := s.bodies(name, q.Type)
	reply := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: header.ID, Response: true, Authoritative: true, RecursionDesired: header.RecursionDesired,
			RecursionAvailable: true,
		},
		Questions: []dnsmessage.Question{q},
	}
	if !known {
		reply.RCode = dnsmessage.RCodeNameError
	}
	var texts []string
	for _, body := range bodies {
		texts = append(texts, describe(body))
		reply.Answers = append(reply.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: ttl}, Body: body,
		})
	}
	kind := strings.TrimPrefix(q.Type.String(), "Type")
	result := fmt.Sprint(strings.Join(texts, ", "))
	if result == "" {
		result = "nothing"
	}
	s.Log.Add("dns", event.DNS, []string{"name", name, "type", kind, "answers", fmt.Sprint(len(texts))}, "%s %s → %s", name, kind, result)
	return reply.Pack()
}

// bodies are the records of a name of one type; known tells whether the name has any.
func (s *Server) bodies(name string, t dnsmessage.Type) (bodies []dnsmessage.ResourceBody, known bool) {
	addrs, texts, services := s.Hosts[name], s.Texts[name], s.Services[name]
	for _, a := range addrs {
		switch {
		case t == dnsmessage.TypeA && a.Is4():
			bodies = append(bodies, &dnsmessage.AResource{A: a.As4()})
		case t == dnsmessage.TypeAAAA && a.Is6():
			bodies = append(bodies, &dnsmessage.AAAAResource{AAAA: a.As16()})
		}
	}
	if t == dnsmessage.TypeTXT {
		for _, strings := range texts {
			bodies = append(bodies, &dnsmessage.TXTResource{TXT: strings})
		}
	}
	if t == dnsmessage.TypeSRV {
		for i := range services {
			bodies = append(bodies, &services[i])
		}
	}
	return bodies, len(addrs)+len(texts)+len(services) > 0
}

func describe(body dnsmessage.ResourceBody) string {
	switch b := body.(type) {
	case *dnsmessage.AResource:
		return netip.AddrFrom4(b.A).String()
	case *dnsmessage.AAAAResource:
		return netip.AddrFrom16(b.AAAA).String()
	case *dnsmessage.SRVResource:
		return fmt.Sprintf("%s port %d", b.Target, b.Port)
	case *dnsmessage.TXTResource:
		return fmt.Sprintf("a text of %d octets", len(strings.Join(b.TXT, "")))
	}
	return ""
}

// truncate cuts an answer that is too long for UDP down to its header, with the TC flag.
func (s *Server) truncate(reply []byte) []byte {
	if len(reply) <= s.Datagram {
		return reply
	}
	short := append([]byte(nil), reply[:12]...)
	short[2] |= 0x02
	clear(short[4:12])
	return short
}
