package faultfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Sweep lets something go wrong at every single operation of a task, in this process. It suits tasks that change files from
// the goroutine they are called on; what was to happen after a fault does not, as if the process had been killed.
type Sweep struct {
	Faults   []Fault
	Seeds    int // how many ways of KillTorn and CutTorn are tried; 0 is 8
	FAT      bool
	Volatile []string

	Setup func(root string) error         // puts onto the disk what was there before
	Task  func(on *FS, root string) error // may fail with faults that are errors
	// Again, if it is not nil, is what another process does after one that was killed, before the power fails.
	Again func(on *FS, root string) error
	// Check looks at the disk afterwards; what the Task returned is ErrDied where it did not come to its end. It may run the Task again.
	Check func(root string, err error) error
}

// ErrDied says that the power failed, or that the process was killed.
var ErrDied = errors.New("died")

// maxFailures bounds the failures that a sweep reports.
const maxFailures = 10

// Run carries out the sweep in folders below dir. It returns how often something went wrong, and what Check found.
func (s Sweep) Run(dir string) (faults int, err error) {
	var failures []error
	for _, what := range s.Faults {
		seeds := 1
		if what == CutTorn || what == KillTorn {
			if seeds = s.Seeds; seeds == 0 {
				seeds = 8
			}
		}
		for at, reached := 0, true; reached; at++ {
			for seed := range seeds {
				faults++
				plan := Plan{What: what, At: at, Seed: uint64(seed)}
				count, op, err := s.once(dir, plan)
				if err != nil {
					failures = append(failures, fmt.Errorf("%s at operation %d (%s), seed %d: %w", what, at, op, seed, err))
				}
				reached = count > at
			}
			if len(failures) >= maxFailures {
				return faults, errors.Join(failures...)
			}
		}
	}
	return faults, errors.Join(failures...)
}

func (s Sweep) once(dir string, plan Plan) (count int, last string, err error) {
	parent, err := os.MkdirTemp(dir, "")
	if err != nil {
		return 0, "", err
	}
	defer os.RemoveAll(parent)
	root := filepath.Join(parent, "disk")
	if err := errors.Join(os.Mkdir(root, 0o755), s.Setup(root)); err != nil {
		return 0, "", err
	}
	log := func(n int, op string) {
		if n == plan.At {
			last = op
		}
	}
	o := Options{Root: root, Volatile: s.Volatile, FAT: s.FAT, Plan: plan, Log: log, Die: func() { panic(ErrDied) }}
	if s.Again != nil {
		o.Memory = filepath.Join(parent, "memory")
	}
	on, err := New(o)
	if err != nil {
		return 0, "", err
	}
	defer func() { err = errors.Join(err, on.Close()) }()
	taskErr := untilDeath(s.Task, on, root)
	switch {
	case on.next == plan.At && plan.What.cuts():
		last = "the end" // the instant behind the last operation
		err = on.Cut(plan.What)
	case plan.What == SyncLost:
		err = on.Cut(CutLost) // shows what was lost
	}
	if err != nil {
		return 0, "", err
	}
	if s.Again != nil && errors.Is(taskErr, ErrDied) {
		taskErr, err = s.again(o)
	}
	if err != nil {
		return 0, "", err
	}
	return on.next, last, s.Check(root, taskErr)
}

// again plays the other process, and cuts the power.
func (s Sweep) again(o Options) (taskErr, err error) {
	o.Plan = Plan{}
	on, err := New(o)
	if err != nil {
		return nil, err
	}
	taskErr = untilDeath(s.Again, on, o.Root)
	return taskErr, errors.Join(on.Cut(CutLost), on.Close())
}

func untilDeath(task func(*FS, string) error, on *FS, root string) (err error) {
	defer func() {
		switch r := recover(); r {
		case nil:
		case error(ErrDied):
			err = ErrDied
		default:
			panic(r)
		}
	}()
	return task(on, root)
}

func (f Fault) cuts() bool {
	switch f {
	case CutKept, CutLost, CutNames, CutData, CutTorn:
		return true
	}
	return false
}
