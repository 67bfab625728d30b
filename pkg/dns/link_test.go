package dns_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/xpu-sztp/ztp/pkg/dns"
)

var group = &net.UDPAddr{IP: net.ParseIP("ff02::fb"), Port: 5353}

// neighbours is a link in memory. said gets each question, and to say what is answered to it, from a port.
type neighbours struct {
	said     func(query []byte, say func(port int, answer []byte))
	heard    chan datagram
	deadline time.Time
	changed  chan struct{}
}

type datagram struct {
	from *net.UDPAddr
	data []byte
}

func (n *neighbours) WriteTo(b []byte, to net.Addr) (int, error) {
	if to != group {
		return 0, fmt.Errorf("asked %v", to)
	}
	query := slices.Clone(b)
	n.said(query, func(port int, answer []byte) {
		n.heard <- datagram{&net.UDPAddr{IP: net.ParseIP("fe80::7"), Port: port}, answer}
	})
	return len(b), nil
}

func (n *neighbours) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		select {
		case d := <-n.heard:
			return copy(b, d.data), d.from, nil
		case <-time.After(time.Until(n.deadline)):
			return 0, nil, os.ErrDeadlineExceeded
		case <-n.changed:
		}
	}
}

func (n *neighbours) SetDeadline(t time.Time) error {
	n.changed <- struct{}{}
	return n.SetReadDeadline(t)
}
func (n *neighbours) SetReadDeadline(t time.Time) error { n.deadline = t; return nil }
func (n *neighbours) SetWriteDeadline(time.Time) error  { return nil }
func (n *neighbours) Close() error                      { return nil }
func (n *neighbours) LocalAddr() net.Addr               { return &net.UDPAddr{} }

// TestAskLink takes what neighbours answer, together where several do, and nothing else.
func TestAskLink(t *testing.T) {
	plain := func(texts ...string) func(*testing.T, []byte) []byte {
		return func(t *testing.T, query []byte) []byte {
			return build(t, query, false, func(dnsmessage.Question, dnsmessage.Header, bool) []dnsmessage.Resource {
				var all []dnsmessage.Resource
				for _, s := range texts {
					all = append(all, txt("x.local.", s))
				}
				return all
			}, nil)
		}
	}
	changed := func(change func(*dnsmessage.Message)) func(*testing.T, []byte) []byte {
		return func(t *testing.T, query []byte) []byte {
			return build(t, query, false, func(dnsmessage.Question, dnsmessage.Header, bool) []dnsmessage.Resource {
				return []dnsmessage.Resource{txt("x.local.", "lie")}
			}, change)
		}
	}
	type say struct {
		after  time.Duration
		answer func(*testing.T, []byte) []byte
		port   int
	}
	for title, test := range map[string]struct {
		says []say // to the first question
		want []string
		took time.Duration
	}{
		"nobody":                {nil, nil, 2 * time.Second},
		"one":                   {[]say{{0, plain("a"), 5353}}, []string{"a"}, 250 * time.Millisecond},
		"late":                  {[]say{{1500 * time.Millisecond, plain("a"), 5353}}, []string{"a"}, 1750 * time.Millisecond},
		"two-contradict":        {[]say{{0, plain("a"), 5353}, {200 * time.Millisecond, plain("b"), 5353}}, []string{"a", "b"}, 250 * time.Millisecond},
		"two-say-the-same":      {[]say{{0, plain("a", "b"), 5353}, {0, plain("b", "a"), 5353}}, []string{"a", "b"}, 250 * time.Millisecond},
		"after-settling":        {[]say{{0, plain("a"), 5353}, {300 * time.Millisecond, plain("b"), 5353}}, []string{"a"}, 250 * time.Millisecond},
		"from-another-port":     {[]say{{0, plain("a"), 53530}}, nil, 2 * time.Second},
		"of-another-question":   {[]say{{0, changed(func(m *dnsmessage.Message) { m.ID++ }), 5353}}, nil, 2 * time.Second},
		"about-another-name":    {[]say{{0, changed(func(m *dnsmessage.Message) { m.Questions[0].Name = dnsmessage.MustNewName("y.local.") }), 5353}}, nil, 2 * time.Second},
		"no-answer-but-a-query": {[]say{{0, changed(func(m *dnsmessage.Message) { m.Response = false }), 5353}}, nil, 2 * time.Second},
		"denial-does-not-count": {[]say{{0, changed(func(m *dnsmessage.Message) { m.RCode = dnsmessage.RCodeNameError }), 5353}, {100 * time.Millisecond, plain("a"), 5353}}, []string{"a"},
			350 * time.Millisecond},
		"garbage": {[]say{{0, func(*testing.T, []byte) []byte { return []byte("garbage") }, 5353}, {0, plain("a"), 5353}}, []string{"a"}, 250 * time.Millisecond},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				link := &neighbours{heard: make(chan datagram, 16), changed: make(chan struct{}, 1)}
				link.said = func(query []byte, say func(int, []byte)) {
					if asked++; asked > 1 {
						return
					}
					for _, s := range test.says {
						time.AfterFunc(s.after, func() { say(s.port, s.answer(t, query)) })
					}
				}
				begun := time.Now()
				records, err := dns.AskLink(t.Context(), dns.Packets{PacketConn: link, Group: group}, name(t, "x.local"), dns.TXT)
				took := time.Since(begun)
				var got []string
				for _, r := range records {
					got = append(got, r.Strings...)
				}
				slices.Sort(got)
				if !slices.Equal(got, test.want) || test.want == nil != errors.Is(err, dns.ErrNoAnswer) || took != test.took {
					t.Errorf("%q, %v after %v", got, err, took)
				}
			})
		})
	}
}

// TestAskLinkIsBounded has a neighbour answer ever more.
func TestAskLinkIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		link := &neighbours{heard: make(chan datagram), changed: make(chan struct{}, 1)}
		ended := make(chan struct{})
		flood := func(query []byte) {
			for i := 0; ; i++ {
				var all []dnsmessage.Resource
				for j := range 100 {
					all = append(all, txt("x.local.", fmt.Sprint(i, " ", j)))
				}
				answer := build(t, query, false, func(dnsmessage.Question, dnsmessage.Header, bool) []dnsmessage.Resource { return all }, nil)
				select {
				case link.heard <- datagram{group, answer}:
				case <-ended:
					return
				}
				time.Sleep(time.Millisecond)
			}
		}
		link.said = func(query []byte, _ func(int, []byte)) { go flood(query) }
		begun := time.Now()
		records, err := dns.AskLink(t.Context(), dns.Packets{PacketConn: link, Group: group}, name(t, "x.local"), dns.TXT)
		close(ended)
		if took := time.Since(begun); err != nil || len(records) != 256 || took > time.Second {
			t.Errorf("%d records, %v after %v", len(records), err, took)
		}
	})
}
