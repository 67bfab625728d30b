package lab

import (
	"errors"
	"net"
	"sync"
)

// joined accepts from several listeners.
type joined struct {
	all      []net.Listener
	accepted chan net.Conn
	done     chan struct{}
	once     sync.Once
}

func join(all []net.Listener) net.Listener {
	if len(all) == 1 {
		return all[0]
	}
	j := &joined{all: all, accepted: make(chan net.Conn), done: make(chan struct{})}
	for _, l := range all {
		go j.accept(l)
	}
	return j
}

func (j *joined) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			j.Close()
			return
		}
		select {
		case j.accepted <- conn:
		case <-j.done:
			conn.Close()
			return
		}
	}
}

func (j *joined) Accept() (net.Conn, error) {
	select {
	case conn := <-j.accepted:
		return conn, nil
	case <-j.done:
		return nil, net.ErrClosed
	}
}

func (j *joined) Close() error {
	var errs []error
	j.once.Do(func() {
		close(j.done)
		for _, l := range j.all {
			errs = append(errs, l.Close())
		}
	})
	return errors.Join(errs...)
}

func (j *joined) Addr() net.Addr { return j.all[0].Addr() }
