package http1_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xpu-sztp/ztp/pkg/http1"
)

// answering is a connection on which reading is busy with an answer to the server, as crypto/tls is when a server asks for new
// keys and then reads nothing: closing waits for that.
type answering struct {
	net.Conn
	busy chan struct{}
}

func (a *answering) Read(p []byte) (int, error) {
	a.busy <- struct{}{}
	defer func() { <-a.busy }()
	return a.Conn.Read(p)
}

func (a *answering) Close() error {
	a.busy <- struct{}{}
	defer func() { <-a.busy }()
	return a.Conn.Close()
}

func (a *answering) NetConn() net.Conn { return a.Conn }

// TestServerThatReadsNothing: whatever TLS waits for, an exchange ends in time.
func TestServerThatReadsNothing(t *testing.T) {
	for name, sent := range map[string]string{"no reply": "", "no body": "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"} {
		for _, limits := range []http1.Limits{{}, {Wait: time.Second}} {
			t.Run(name+" in "+limits.Wait.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					client, server := net.Pipe()
					defer server.Close()
					go func() {
						_, _ = io.WriteString(server, sent)
						_, _ = io.Copy(io.Discard, server)
					}()
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					c := http1.NewConn(&answering{client, make(chan struct{}, 1)}, limits)
					resp, err := c.RoundTrip(ctx, &http1.Request{Method: "GET", URL: &url.URL{Scheme: "https", Host: "mirror"}})
					if err == nil {
						_, err = io.ReadAll(resp.Body)
						resp.Body.Close()
					}
					var late net.Error
					if !errors.Is(err, context.DeadlineExceeded) && !(errors.As(err, &late) && late.Timeout()) {
						t.Errorf("ended with %v", err)
					}
				})
			})
		}
	}
}
