package ztp

import (
	"context"
	"net"
	"os"
	"time"

	"github.com/xpu-sztp/ztp/cmd/internal/command"
	"github.com/xpu-sztp/ztp/pkg/daemon"
	"github.com/xpu-sztp/ztp/systemd"
)

// onboardIdle is how long the privileged process waits for the next request: longer than the first waits between rounds.
const onboardIdle = 30 * time.Second

func (a *app) onboard() *command.Command {
	var socket string
	return &command.Command{
		Name:  "onboard",
		Short: "Do what needs privileges for a daemon without; this is what ztp-onboard.service runs",
		Long: "Do what needs privileges for a daemon without any (`ztp daemon --onboard-socket`): keep the record, execute onboarding\n" +
			"information that it has judged itself, mount removable storage, reboot. Undoes what an interrupted session has left, and\n" +
			"ends when nothing was asked for half a minute. systemd listens for it, or it does so itself with --socket.",
		Flags: []command.Flag{{Name: "socket", Arg: "FILE", Text: &socket, Usage: "listen here, for the user who runs this"}},
		Run: func(ctx context.Context, _ []string) error {
			ctx, stop := untilStopped(ctx)
			defer stop()
			o := daemon.ServeOptions{Options: a.daemonOptions(), Idle: onboardIdle}
			var l *net.UnixListener
			var err error
			if socket == "" {
				l, o.Client, err = systemd.Listener()
			} else {
				l, err = listen(socket)
				o.Client, o.Idle = uint32(os.Geteuid()), 0
			}
			if err != nil {
				return err
			}
			defer l.Close()
			return daemon.Serve(ctx, o, l)
		},
	}
}

// listen makes a socket that only this user can use.
func listen(path string) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}
