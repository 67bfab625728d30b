package privsep

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/pkg/onboard"
	"github.com/xpu-sztp/ztp/pkg/state"
)

func dialled(t testing.TB, client *Client) *net.UnixConn {
	t.Helper()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: client.Socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// write sends messages.
func write(t testing.TB, c io.Writer, bodies ...string) {
	t.Helper()
	for _, body := range bodies {
		if _, err := c.Write(frame(body)); err != nil {
			t.Fatal(err)
		}
	}
}

func frame(body string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

// TestHostileClient sends what no client sends: the server says nothing, has done nothing, and serves the next one.
func TestHostileClient(t *testing.T) {
	for name, raw := range map[string][]byte{
		"nothing":                   {},
		"half a length":             {0, 0},
		"less than announced":       append(binary.BigEndian.AppendUint32(nil, 100), "{}"...),
		"a request cut short":       append(binary.BigEndian.AppendUint32(nil, 100), `{"kind":"recover"}`...),
		"a proof without an order":  append(frame(`{"kind":"execute"}`), frame("{}")...),
		"larger than anything":      binary.BigEndian.AppendUint32(nil, 1<<32-1),
		"empty":                     frame(""),
		"no JSON":                   frame("\x00\x01"),
		"no object":                 frame("[]"),
		"no kind":                   frame("{}"),
		"unknown kind":              frame(`{"kind":"bless"}`),
		"change of nothing":         frame(`{"kind":"change"}`),
		"change that is null":       frame(`{"kind":"change","change":null}`),
		"execute without an order":  frame(`{"kind":"execute"}`),
		"execute without a proof":   frame(`{"kind":"execute","order":{}}`),
		"proof that is no JSON":     append(frame(`{"kind":"execute","order":{}}`), frame("x")...),
		"proof that is too large":   append(frame(`{"kind":"execute","order":{}}`), 0xff, 0xff, 0xff, 0xff),
		"stick of nothing":          frame(`{"kind":"stick"}`),
		"answer to nothing":         frame(`{"kind":"answer","id":1}`),
		"stop of nothing":           frame(`{"kind":"stop"}`),
		"result":                    frame(`{"kind":"result","board":{},"outcome":1}`),
		"board":                     frame(`{"kind":"board","board":{}}`),
		"depth":                     frame(strings.Repeat(`{"change":`, 20000)),
		"number that is no number":  frame(`{"kind":"change","id":-1,"change":{}}`),
		"partition that is a path ": frame(`{"kind":"stick","partition":"/etc"}`),
	} {
		t.Run(name, func(t *testing.T) {
			h := &hand{}
			client, _ := serve(t, h)
			c := dialled(t, client)
			if _, err := c.Write(raw); err != nil {
				t.Fatal(err)
			}
			c.CloseWrite()
			if said, _ := io.ReadAll(c); len(said) > 0 {
				t.Errorf("the server said %q", said)
			}
			if called := h.called(); len(called) > 0 {
				t.Errorf("the server did %v", called)
			}
			if err := client.Recover(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestHostileAnswers has a client answer the server's questions with what is of no use: it gets an error for each.
func TestHostileAnswers(t *testing.T) {
	pipe, other, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	defer other.Close()
	file, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	listening, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listening.Close()
	for name, sent := range map[string]syscall.Conn{
		"nothing": nil, "a pipe": pipe, "a file": file, "UDP": udp.(*net.UDPConn), "a socket that listens": listening.(*net.TCPListener),
	} {
		t.Run(name, func(t *testing.T) {
			got := make(chan error, 1)
			h := &hand{execute: func(ctx context.Context, _ Order, r onboard.Request, _ onboard.Board) (onboard.Outcome, error) {
				c, err := r.Network.DialContext(ctx, "tcp", "192.0.2.1:443")
				if err == nil {
					_, err = c.Read(make([]byte, 1))
					c.Close()
				}
				got <- err
				return 0, err
			}}
			client, stop := serve(t, h)
			before := descriptors(t)
			c := &conn{unix: dialled(t, client)}
			write(t, c.unix, `{"kind":"execute","order":{}}`, `{}`)
			m, _, err := c.receive()
			if err != nil || m.Kind != kindDial {
				t.Fatalf("%+v, %v", m, err)
			}
			// Answers to questions that were not asked come first, with a descriptor each.
			for id := uint64(100); id < 110; id++ {
				if err := c.send(&message{Kind: kindAnswer, ID: id}, file); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.send(&message{Kind: kindAnswer, ID: m.ID}, sent); err != nil {
				t.Fatal(err)
			}
			if err := <-got; err == nil {
				t.Error("the server takes that for a connection")
			}
			c.Close()
			stop()
			if after := descriptors(t); after > before {
				t.Errorf("%d descriptors are open, before %d", after, before)
			}
		})
	}
}

// TestTalkingOutOfTurn: what a client must not say while its order is executed ends the execution.
func TestTalkingOutOfTurn(t *testing.T) {
	ended := make(chan error, 1)
	h := &hand{execute: func(ctx context.Context, _ Order, _ onboard.Request, _ onboard.Board) (onboard.Outcome, error) {
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return onboard.Complete, nil
	}}
	client, _ := serve(t, h)
	c := dialled(t, client)
	write(t, c, `{"kind":"execute","order":{}}`, `{}`, `{"kind":"change","change":{"kind":"end"}}`)
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "must not") {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"execute"}, h.called()); diff != "" {
		t.Error(diff)
	}
}

// TestClientThatTakesNothing does not keep an execution from going on, nor the next client from its turn.
func TestClientThatTakesNothing(t *testing.T) {
	done := make(chan struct{})
	h := &hand{execute: func(_ context.Context, _ Order, _ onboard.Request, b onboard.Board) (onboard.Outcome, error) {
		for range 10000 {
			b.Update(func(s *state.Status) {
				s.Reports = append(s.Reports[:min(99, len(s.Reports))], state.Report{Detail: strings.Repeat("x", 1000)})
			})
		}
		close(done)
		return onboard.Complete, nil
	}}
	client, _ := serve(t, h)
	c := dialled(t, client)
	write(t, c, `{"kind":"execute","order":{}}`, `{}`)
	<-done
	c.Close()
	if _, err := client.Change(t.Context(), state.Change{}); err != nil {
		t.Error(err)
	}
}

// TestStrangers: another user's connection is closed, whatever the mode of the socket.
func TestStrangers(t *testing.T) {
	dir, err := os.MkdirTemp("", "privsep")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unix"})
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err == nil {
		err = os.Chmod(l.Addr().String(), 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	h := &hand{}
	const nobody = 65534
	s := &Server{Handler: h, Logger: slog.New(slog.DiscardHandler), Client: nobody - 1}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	said := make(chan string, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread has another user, and ends
		if os.Geteuid() == 0 {
			if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
				said <- "" // whoever runs this has no other users
				return
			}
		}
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err == nil {
			defer unix.Close(fd)
			err = unix.Connect(fd, &unix.SockaddrUnix{Name: l.Addr().String()})
		}
		if err != nil {
			said <- err.Error()
			return
		}
		unix.Write(fd, frame(`{"kind":"recover"}`))
		b := make([]byte, 100)
		n, _ := unix.Read(fd, b)
		said <- string(b[:max(n, 0)])
	}()
	if got := <-said; got != "" {
		t.Errorf("a stranger was told %q", got)
	}
	cancel()
	if err := <-done; err != nil || len(h.called()) > 0 {
		t.Errorf("%v, %v", err, h.called())
	}
}

// FuzzMessage: what is decoded is encoded to what decodes the same, and has what its kind promises.
func FuzzMessage(f *testing.F) {
	for _, seed := range []string{
		`{"kind":"change","change":{"kind":"end","last":{"phase":"done","outcome":"provisioned"}}}`,
		`{"kind":"execute","order":{"level":1,"reports":true,"stick":{"Name":"sda1","Device":"8:1"}}}`,
		`{"kind":"result","board":{"steps":[{"name":"pre-script","exit":1}],"image":{"state":"trial"}},"fault":{"code":"x","missing":true}}`,
		`{"kind":"answer","id":3,"addresses":["192.0.2.1","fe80::1%eth0"],"record":{"schema":1}}`,
		`{"kind":"execute"}`, `{"kind":"report"}`, `{"kind":"board"}`, `{"kind":"answer","fault":{"code":"x","text":"` + strings.Repeat("x", 2*maxText) + `"}}`,
		`{"kind":"report","id":1,"timeout":1,"report":{"Type":"informational","SSHHostKeys":[{"KeyData":"AA=="}]}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := decode(data)
		if err != nil {
			return
		}
		if m.Board != nil {
			m.Board.show(&state.Status{}, 0)
		}
		if err := m.Fault.err(); err != nil && len(err.Error()) > maxText {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
		if m.Kind == kindExecute && m.Order == nil || m.Kind == kindReport && m.Report == nil || (m.Kind == kindBoard || m.Kind == kindResult) && m.Board == nil {
			t.Errorf("%+v without what it is about", m)
		}
		again, err := json.Marshal(m)
		if err != nil {
			return // a time that JSON has no form for
		}
		twice, err := decode(again)
		if err != nil {
			t.Fatalf("%v in %s", err, again)
		}
		if third, _ := json.Marshal(twice); !bytes.Equal(again, third) {
			t.Errorf("%s\n%s", again, third)
		}
	})
}

// FuzzServer lets a client say anything: nothing is done without an order and a proof, and the server goes on.
func FuzzServer(f *testing.F) {
	f.Add(frame(`{"kind":"recover"}`))
	f.Add(append(frame(`{"kind":"execute","order":{"reports":true}}`), append(frame(`{"bundle":{}}`), frame(`{"kind":"answer","id":1}`)...)...))
	f.Add(frame(`{"kind":"stick","partition":{"Name":"sda1"},"path":"x"}`))
	h := &hand{execute: func(ctx context.Context, _ Order, r onboard.Request, _ onboard.Board) (onboard.Outcome, error) {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
		defer cancel()
		if c, err := r.Network.DialContext(ctx, "tcp", "x"); err == nil {
			c.Close()
		}
		return 0, nil
	}}
	client, _ := serve(f, h)
	f.Fuzz(func(t *testing.T, raw []byte) {
		c := dialled(t, client)
		c.Write(raw)
		c.CloseWrite()
		io.Copy(io.Discard, c)
		if _, err := client.Change(t.Context(), state.Change{}); err != nil {
			t.Error(err)
		}
	})
}
