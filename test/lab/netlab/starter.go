package netlab

import (
	"runtime"
	"sync"
)

// starter starts all child processes. The kernel ties a child's parent-death signal to the thread that made it, so that
// thread must live as long as the process does.
var starter lastingThread

type lastingThread struct {
	once sync.Once
	work chan func()
}

func (t *lastingThread) do(f func() error) error {
	t.once.Do(func() {
		t.work = make(chan func())
		go func() {
			runtime.LockOSThread()
			for w := range t.work {
				w()
			}
		}()
	})
	done := make(chan error, 1)
	t.work <- func() { done <- f() }
	return <-done
}
