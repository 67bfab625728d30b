package link

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/pkg/durable"
)

// ErrInUse is why Open refuses: another process changes the network, with the same record.
var ErrInUse = errors.New("another process of ztp uses the network")

// turnPause is how often a process that waits looks whether it is its turn.
const turnPause = 20 * time.Millisecond

// takeTurn makes the caller the only process that changes the network by a record, until the file is closed or the process
// ends. It waits for another one as long as patience.
func takeTurn(record string, patience time.Duration) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(record), 0o755); err != nil {
		return nil, err
	}
	f, err := durable.OpenShared(record + ".lock")
	if err != nil {
		return nil, err
	}
	for until := time.Now().Add(patience); ; time.Sleep(turnPause) {
		err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
		switch held := errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES); {
		case err == nil:
			return f, nil
		case !held || !time.Now().Before(until):
			f.Close()
			if held {
				err = ErrInUse
			}
			return nil, err
		}
	}
}
