package dns_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/xpu-sztp/ztp/pkg/dns"
)

func name(t *testing.T, s string) dns.Name {
	t.Helper()
	n, err := dns.ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestNames(t *testing.T) {
	for in, want := range map[string]string{"example.com": "example.com.", "example.com.": "example.com.", "": ".", "a_b.local": "a_b.local."} {
		if got := name(t, in).String(); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
	for _, bad := range []string{"a..b", ".a", strings.Repeat("a", 64) + ".com", strings.Repeat("abcdefg.", 32)} {
		if n, err := dns.ParseName(bad); err == nil {
			t.Errorf("%q is %q", bad, n)
		}
	}
	dotted, err := name(t, "lab.test").Below("A.1", "_sztp")
	if err != nil || dotted.String() != `A\.1._sztp.lab.test.` || dotted.Host() != "" {
		t.Errorf("%q, %v", dotted, err)
	}
	if !name(t, "Example.COM").Equal(name(t, "eXample.com")) || name(t, "example.com").Equal(name(t, "example.org")) {
		t.Error("comparison")
	}
	if h := name(t, "bs-1.lab.test").Host(); h != "bs-1.lab.test" {
		t.Error(h)
	}
	if _, err := name(t, strings.Repeat("abcdefg.", 30)).Below("0123456789", "_sztp"); err == nil {
		t.Error("too long a name")
	}
}

// reply is what a server answers to a query.
type reply func(q dnsmessage.Question, h dnsmessage.Header, tcp bool) []dnsmessage.Resource

func build(t *testing.T, query []byte, tcp bool, r reply, change func(*dnsmessage.Message)) []byte {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil || len(m.Questions) != 1 {
		t.Errorf("the query is malformed: %v", err)
		return nil
	}
	m.Additionals = nil
	m.Response = true
	m.Answers = r(m.Questions[0], m.Header, tcp)
	if change != nil {
		change(&m)
	}
	b, err := m.Pack()
	if err != nil {
		t.Error(err)
	}
	return b
}

func txt(n string, texts ...string) dnsmessage.Resource {
	return dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(n), Class: dnsmessage.ClassINET},
		Body: &dnsmessage.TXTResource{TXT: texts}}
}

func cname(n, target string) dnsmessage.Resource {
	return dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(n), Class: dnsmessage.ClassINET},
		Body: &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(target)}}
}

// server answers on pipes. handle gets each query and the way to answer it.
func server(t *testing.T, handle func(query []byte, tcp bool, write func([]byte))) dns.Dial {
	return func(ctx context.Context, network string) (net.Conn, error) {
		here, there := net.Pipe()
		go func() {
			defer there.Close()
			buf := make([]byte, 4096)
			for {
				n, err := there.Read(buf)
				if err != nil {
					return
				}
				query := slices.Clone(buf[:n])
				if network == "tcp" {
					query = query[2:]
				}
				handle(query, network == "tcp", func(b []byte) {
					if network == "tcp" {
						b = append([]byte{byte(len(b) >> 8), byte(len(b))}, b...)
					}
					there.Write(b)
				})
			}
		}()
		return here, nil
	}
}

func TestAsk(t *testing.T) {
	const n = "x.test."
	one := func(dnsmessage.Question, dnsmessage.Header, bool) []dnsmessage.Resource {
		return []dnsmessage.Resource{txt(n, "hello")}
	}
	tests := []struct {
		name   string
		reply  reply
		change func(*dnsmessage.Message)
		want   error
	}{
		{"answer", one, nil, nil},
		{"other-case", func(dnsmessage.Question, dnsmessage.Header, bool) []dnsmessage.Resource {
			return []dnsmessage.Resource{txt("X.TEST.", "hello")}
		}, nil, nil},
		{"alias", func(dnsmessage.Question, dnsmessage.Header, bool) []dnsmessage.Resource {
			return []dnsmessage.Resource{txt("z.test.", "hello"), cname(n, "y.test."), cname("y.test.", "z.test.")}
		}, nil, nil},
		{"alias-loop", func(dnsmessage.Question, dnsmessage.Header, bool) []dnsmessage.Resource {
			return []dnsmessage.Resource{cname(n, "y.test."), cname("y.test.", n)}
		}, nil, dns.ErrNoData},
		{"nothing", func(dnsmessage.Question, dnsmessage.Header, bool) []dnsmessage.Resource { return nil }, nil, dns.ErrNoData},
		{"about-another", func(dnsmessage.Question, dnsmessage.Header, bool) []dnsmessage.Resource {
			return []dnsmessage.Resource{txt("other.test.", "hello")}
		}, nil, dns.ErrNoData},
		{"no-such-name", one, func(m *dnsmessage.Message) { m.RCode = dnsmessage.RCodeNameError }, dns.ErrNoSuchName},
		{"refused", one, func(m *dnsmessage.Message) { m.RCode = dnsmessage.RCodeRefused }, dns.ErrRefused},
		{"other-id", one, func(m *dnsmessage.Message) { m.ID++ }, dns.ErrNoAnswer},
		{"other-question", one, func(m *dnsmessage.Message) { m.Questions[0].Name = dnsmessage.MustNewName("y.test.") }, dns.ErrNoAnswer},
		{"no-question", one, func(m *dnsmessage.Message) { m.Questions = nil }, dns.ErrNoAnswer},
		{"no-response", one, func(m *dnsmessage.Message) { m.Response = false }, dns.ErrNoAnswer},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dial := server(t, func(query []byte, tcp bool, write func([]byte)) { write(build(t, query, tcp, tt.reply, tt.change)) })
				records, err := dns.Ask(t.Context(), dial, name(t, n), dns.TXT)
				if !errors.Is(err, tt.want) || err == nil && (len(records) != 1 || !slices.Equal(records[0].Strings, []string{"hello"})) {
					t.Errorf("%+v, %v", records, err)
				}
			})
		})
	}
}

// TestTruncated has an answer that does not fit a datagram.
func TestTruncated(t *testing.T) {
	long := strings.Repeat("x", 255)
	var asked []bool
	dial := server(t, func(query []byte, tcp bool, write func([]byte)) {
		asked = append(asked, tcp)
		b := build(t, query, tcp, func(dnsmessage.Question, dnsmessage.Header, bool) []dnsmessage.Resource {
			return []dnsmessage.Resource{txt("x.test.", slices.Repeat([]string{long}, 40)...)}
		}, func(m *dnsmessage.Message) { m.Truncated = !tcp })
		if !tcp {
			b = b[:512]
		}
		write(b)
	})
	records, err := dns.Ask(t.Context(), dial, name(t, "x.test"), dns.TXT)
	if err != nil || len(records) != 1 || len(records[0].Strings) != 40 || !slices.Equal(asked, []bool{false, true}) {
		t.Errorf("%d records, %v, asked by TCP: %v", len(records), err, asked)
	}
}

// TestServerWithoutEDNS refuses what it does not know.
func TestServerWithoutEDNS(t *testing.T) {
	dial := server(t, func(query []byte, tcp bool, write func([]byte)) {
		extended := query[11] == 1
		write(build(t, query, tcp, func(dnsmessage.Question, dnsmessage.Header, bool) []dnsmessage.Resource {
			return []dnsmessage.Resource{txt("x.test.", "hello")}
		}, func(m *dnsmessage.Message) {
			if extended {
				m.RCode, m.Answers = dnsmessage.RCodeFormatError, nil
			}
		}))
	})
	if records, err := dns.Ask(t.Context(), dial, name(t, "x.test"), dns.TXT); err != nil || len(records) != 1 {
		t.Errorf("%+v, %v", records, err)
	}
}

// TestLostPackets loses the first query.
func TestLostPackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queries := 0
		dial := server(t, func(query []byte, tcp bool, write func([]byte)) {
			if queries++; queries == 2 {
				write([]byte("garbage"))
				write(build(t, query, tcp, func(dnsmessage.Question, dnsmessage.Header, bool) []dnsmessage.Resource {
					return []dnsmessage.Resource{txt("x.test.", "hello")}
				}, nil))
			}
		})
		begun := time.Now()
		if records, err := dns.Ask(t.Context(), dial, name(t, "x.test"), dns.TXT); err != nil || len(records) != 1 {
			t.Errorf("%+v, %v", records, err)
		}
		if took := time.Since(begun); took != 2*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestCancelled(t *testing.T) {
	dial := server(t, func([]byte, bool, func([]byte)) {})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := dns.Ask(ctx, dial, name(t, "x.test"), dns.TXT); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// FuzzAnswer holds what is read of a message against golang.org/x/net, which is stricter about what surrounds the answer.
func FuzzAnswer(f *testing.F) {
	srv := dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("x.test."), Class: dnsmessage.ClassINET},
		Body: &dnsmessage.SRVResource{Priority: 1, Weight: 2, Port: 8443, Target: dnsmessage.MustNewName("bs.x.test.")}}
	a := dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("x.test."), Class: dnsmessage.ClassINET},
		Body: &dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}}}
	aaaa := dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("x.test."), Class: dnsmessage.ClassINET},
		Body: &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr("2001:db8::1").As16()}}
	for _, r := range []dnsmessage.Resource{txt("x.test.", "ci=0"), srv, a, aaaa, cname("x.test.", "y.test.")} {
		m := dnsmessage.Message{Answers: []dnsmessage.Resource{r, txt("x.test.", "a", "")}}
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[12:], uint16(2))
	}
	f.Add(bytes.Repeat([]byte("\xc0\x0c\x00\x10\x00\x01\x00\x00\x00\x00\x00\x01\x00"), 257), uint16(257)) // an empty text, once too often
	f.Fuzz(func(t *testing.T, answers []byte, count uint16) {
		for _, kind := range []dnsmessage.Type{dnsmessage.TypeTXT, dnsmessage.TypeSRV, dnsmessage.TypeA, dnsmessage.TypeAAAA} {
			head := append([]byte{0, 0, 0x80, 0, 0, 1, byte(count >> 8), byte(count), 0, 0, 0, 0}, "\x01x\x04test\x00\x00\x00\x00\x01"...)
			head[21] = byte(kind)
			raw := append(head, answers...)
			if len(raw) > 4096 {
				return
			}
			records, err := answered(t, raw, kind)
			var m dnsmessage.Message
			if m.Unpack(raw) != nil {
				continue
			}
			if count > 256 {
				if err == nil {
					t.Fatalf("%d records of %d, which are too many: %x", len(records), count, raw)
				}
				continue
			}
			want := 0
			for _, r := range m.Answers {
				same := strings.EqualFold(r.Header.Name.String(), "x.test.") && r.Header.Type == kind
				if same && r.Header.Class&0x7fff == dnsmessage.ClassINET {
					want++
				}
			}
			if err == nil && want > 0 && len(records) != want {
				t.Fatalf("%d records, want %d: %x", len(records), want, raw)
			}
			clean, err := m.Pack() // pointers lead back, as they must
			if err != nil || len(clean) > 4096 {
				continue
			}
			records, err = answered(t, clean, kind)
			if want > 0 && len(records) != want || want == 0 && err != nil && !errors.Is(err, dns.ErrNoData) {
				t.Fatalf("%d records, %v, want %d: %x", len(records), err, want, clean)
			}
		}
	})
}

// answered is what Ask makes of an answer, which gets the right id.
func answered(t *testing.T, answer []byte, kind dnsmessage.Type) ([]dns.Record, error) {
	dial := func(context.Context, string) (net.Conn, error) {
		here, there := net.Pipe()
		go func() {
			defer there.Close()
			buf := make([]byte, 512)
			if _, err := there.Read(buf); err == nil {
				there.Write(append(slices.Clone(buf[:2]), answer[2:]...))
			}
		}()
		return eager{here}, nil
	}
	return dns.Ask(t.Context(), dial, name(t, "x.test"), dns.Type(kind))
}

// eager is a connection on which nobody waits for what has not come yet.
type eager struct{ net.Conn }

func (e eager) Read(b []byte) (int, error) {
	n, err := e.Conn.Read(b)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
