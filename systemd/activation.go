package systemd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"
)

// firstListened is the number of the first descriptor that systemd passes (sd_listen_fds(3)).
const firstListened = 3

// Listener returns the unix socket on which systemd listens for this process, and the user to whom the socket belongs.
func Listener() (*net.UnixListener, uint32, error) {
	if pid, err := strconv.Atoi(os.Getenv("LISTEN_PID")); err != nil || pid != os.Getpid() || os.Getenv("LISTEN_FDS") != "1" {
		return nil, 0, errors.New("systemd has passed no socket")
	}
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} { // not for scripts
		os.Unsetenv(name)
	}
	file := os.NewFile(firstListened, "listened")
	defer file.Close()
	l, err := net.FileListener(file)
	if err != nil {
		return nil, 0, fmt.Errorf("what systemd has passed is no socket that listens: %w", err)
	}
	socket, ok := l.(*net.UnixListener)
	if !ok {
		l.Close()
		return nil, 0, fmt.Errorf("systemd has passed a %T", l)
	}
	owner, err := Owner(socket.Addr().String())
	if err != nil {
		socket.Close()
		return nil, 0, err
	}
	return socket, owner, nil
}

// Owner returns the user to whom a file belongs.
func Owner(path string) (uint32, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return 0, err
	}
	return info.Sys().(*syscall.Stat_t).Uid, nil
}
