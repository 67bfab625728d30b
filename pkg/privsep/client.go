package privsep

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/xpu-sztp/ztp/pkg/onboard"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// Client asks the privileged process. Whatever it asks starts that process, where systemd listens for it.
type Client struct {
	Socket  string // path
	Version string // of this program, which must be the server's
	Logger  *slog.Logger
}

// dialPatience is how long connecting is tried: systemd may be starting the process, or about to listen again.
const dialPatience = 10 * time.Second

func (c *Client) dial(ctx context.Context) (*conn, error) {
	var d net.Dialer
	limited, cancel := context.WithTimeout(ctx, dialPatience)
	defer cancel()
	for {
		connected, err := d.DialContext(limited, "unix", c.Socket)
		if err == nil {
			return &conn{unix: connected.(*net.UnixConn)}, nil
		}
		select {
		case <-limited.Done():
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			return nil, &reason.Error{Code: CodeUnreachable, Msg: "the process that does what needs privileges cannot be reached at " + c.Socket,
				Fix: "see `systemctl status ztp-onboard.socket ztp-onboard.service`", Err: err}
		case <-time.After(dialPatience / 100):
		}
	}
}

// ask sends a request to which there is one answer, and a file perhaps. It waits as long as the server takes, or ctx allows.
func (c *Client) ask(ctx context.Context, m *message) (*message, *os.File, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	m.Version = c.Version
	if err := conn.send(m, nil); err != nil {
		return nil, nil, lost(ctx, err)
	}
	got, file, err := conn.receive()
	switch {
	case err != nil:
		return nil, nil, lost(ctx, err)
	case got.Kind != kindAnswer:
		err = lost(ctx, errKind)
	default:
		err = got.Fault.err()
	}
	if err != nil && file != nil {
		file.Close()
	}
	return got, file, err
}

func lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return &reason.Error{Code: CodeLost, Msg: "the process that does what needs privileges ended before it was done",
		Fix: "it begins again by itself; `journalctl -u ztp-onboard` tells why it ended", Err: err}
}

// Change makes a change of the record and returns the record, as far as the client may know it.
func (c *Client) Change(ctx context.Context, what state.Change) (*state.Record, error) {
	got, _, err := c.ask(ctx, &message{Kind: kindChange, Change: &what})
	if err == nil && got.Record == nil {
		err = lost(ctx, errors.New("no record"))
	}
	if err != nil {
		return nil, err
	}
	return got.Record, nil
}

// Recover has what an interrupted session left undone, which may take as long as scripts and handlers do.
func (c *Client) Recover(ctx context.Context) error {
	_, _, err := c.ask(ctx, &message{Kind: kindRecover})
	return err
}

// Trial tells what runs on trial, if anything does, and what is left of its time.
func (c *Client) Trial(ctx context.Context) (onboard.Trial, time.Duration, error) {
	got, _, err := c.ask(ctx, &message{Kind: kindTrial})
	if err == nil && got.Trial == nil {
		err = lost(ctx, errors.New("no trial"))
	}
	if err != nil {
		return onboard.Trial{}, 0, err
	}
	return *got.Trial, got.Timeout, nil
}

// Expire has the device leave a system whose time on trial is over.
func (c *Client) Expire(ctx context.Context, last *state.Reason) error {
	_, _, err := c.ask(ctx, &message{Kind: kindExpire, Last: last})
	return err
}
