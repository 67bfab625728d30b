package image_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/pkg/image"
)

var cutsSeed = flag.Uint64("cuts-seed", 0, "repeat TestThousandCuts with this seed")

// scissors is a file server at several addresses that cuts connections at random bytes, so many times.
type scissors struct {
	t       *testing.T
	content []byte

	mu     sync.Mutex
	random *rand.Rand
	left   int             // cuts to come
	gone   map[string]bool // addresses without the image, for now
	onCut  func(kind int)
	cuts   map[string]int // how many of which kind
	inAll  atomic.Int64   // bytes that clients read, headers included
}

func (s *scissors) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return nil, errors.New("addresses only")
}

// DialContext counts what is received.
func (s *scissors) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &counting{conn, &s.inAll}, nil
}

type counting struct {
	net.Conn
	n *atomic.Int64
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// inMemory keeps a checkpoint without the delays of a disk, so that what a power cut costs does not depend on the machine.
type inMemory struct{ at *image.Checkpoint }

func (s *inMemory) Load() (*image.Checkpoint, error) { return s.at, nil }
func (s *inMemory) Save(at image.Checkpoint) error   { s.at = &at; return nil }
func (s *inMemory) Clear() error                     { s.at = nil; return nil }

// listen starts a mirror.
func (s *scissors) listen() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { listener.Close() })
	address := listener.Addr().String()
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go s.answer(c, address)
		}
	}()
	return "http://" + address + "/os.img"
}

// The ways in which a transfer ends too early.
const (
	closed = iota // the server closes the connection
	reset         // or resets it
	vanish        // and has the image no more
	stop          // the process is told to stop
	kill          // or killed, and the power fails
)

// answer serves a range of the image, up to the next cut.
func (s *scissors) answer(c net.Conn, address string) {
	defer c.Close()
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	tag := fmt.Sprintf(`"of %s"`, address)
	var from int
	if span := r.Header.Get("Range"); span != "" && (r.Header.Get("If-Range") == "" || r.Header.Get("If-Range") == tag) {
		fmt.Sscanf(span, "bytes=%d-", &from)
	}
	if s.gone[address] {
		say(c, nil, "HTTP/1.1 404 Not Found", "Content-Length: 0")
		return
	}
	header := []string{"HTTP/1.1 200 OK"}
	if from > 0 {
		header = []string{"HTTP/1.1 206 Partial Content", fmt.Sprintf("Content-Range: bytes %d-%d/%d", from, len(s.content)-1, len(s.content))}
	}
	header = append(header, "ETag: "+tag, fmt.Sprint("Content-Length: ", len(s.content)-from))
	// Of the size that leaves cuts for the rest of the image, on average.
	budget := s.random.IntN(1 + 2*(len(s.content)-from)/(s.left+1))
	if s.left == 0 || budget >= len(s.content)-from {
		say(c, s.content[from:], header...)
		return
	}
	s.left--
	say(c, s.content[from:from+budget], header...)
	kind, name := closed, "closed"
	switch n := s.random.IntN(1000); {
	case n < 15:
		kind, name = kill, "kill"
	case n < 70:
		kind, name = stop, "stop"
	case n < 150:
		kind, name = vanish, "vanish"
		clear(s.gone)
		s.gone[address] = true
	case n < 500:
		kind, name = reset, "reset"
	}
	s.cuts[name]++
	if kind == reset {
		c.(*net.TCPConn).SetLinger(0)
	}
	s.onCut(kind)
}

// A thousand cuts of one download, at random bytes, some of which make the mirror vanish, stop the process or fail the power,
// lead to the right bytes, and cost next to nothing in transfer.
func TestThousandCuts(t *testing.T) {
	seed := *cutsSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("repeat with -cuts-seed=%d", seed)
	const cuts = 1000
	s := &scissors{t: t, content: content(64 << 20), left: cuts, random: rand.New(rand.NewPCG(seed, 0)), gone: map[string]bool{}, cuts: map[string]int{}}
	d, store := &disk{}, &inMemory{}
	r := request(s.content)
	for range 4 {
		r.URIs = append(r.URIs, s.listen())
	}
	r.Network, r.MaxSize, r.CheckpointBytes = s, 1<<30, 64<<10
	r.Checkpoints = survivor{store, d}
	processes, failures := 0, 0
	for {
		ctx, cancel := context.WithCancel(t.Context())
		s.mu.Lock()
		s.onCut = func(kind int) {
			if kind == kill {
				d.kill()
			}
			if kind >= stop {
				cancel()
			}
		}
		s.mu.Unlock()
		processes++
		_, err := image.Fetch(ctx, r, d)
		stopped := ctx.Err() != nil
		cancel()
		if err == nil {
			break
		}
		if !stopped {
			failures++
		}
		if failures > cuts/10 {
			t.Fatalf("%d processes gave up; the last one: %v", failures, err)
		}
		s.mu.Lock()
		d.reopen()
		s.mu.Unlock()
	}
	if !bytes.Equal(d.content, s.content) {
		t.Fatalf("%d bytes with SHA-256 %x, want %d with %x", len(d.content), digest(d.content), len(s.content), digest(s.content))
	}
	wantNoCheckpoint(t, store)
	if s.left > 0 {
		t.Errorf("%d of %d cuts are left", s.left, cuts)
	}
	ratio := float64(s.inAll.Load()) / float64(len(s.content))
	t.Logf("%v cuts, %d processes of which %d gave up, %d resets of the sink; received %.4f times the image", s.cuts, processes, failures, d.resets, ratio)
	if ratio > 1.05 {
		t.Errorf("received %.4f times the image", ratio)
	}
}
