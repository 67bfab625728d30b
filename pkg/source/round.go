package source

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/xpu-sztp/ztp/pkg/link"
)

// round is one pass over the interfaces.
type round struct {
	*Networks
	visit    func(context.Context, Lead) error
	visiting sync.Mutex // visits are serial
	won      bool       // a visit succeeded; guarded by visiting
	results  chan result
	running  map[int]*tries // by interface index
	findings map[string][]finding
}

// tries are what happens on one interface.
type tries struct {
	life   int // of the interface, when the latest began
	begun  int // how often in this round; bounds what a flapping interface can cause
	active int
	cancel context.CancelCauseFunc // nil once the interface was lost
	join   context.CancelCauseFunc // ends what has not come to a network
	hurry  *time.Timer             // does so
}

const maxTries = 3

// result is how one family on one interface ended.
type result struct {
	index    int
	leased   bool // DHCP answered
	won      bool
	findings []finding // one for each finder that had a try
}

// finding is what one finder came to on one uplink.
type finding struct {
	finder  string
	visited bool // then err is the visitor's
	err     error
}

// patience is how long interfaces may go on looking for a network after another one has led to servers in vain.
const patience = 15 * time.Second

// familyPatience is the same for one IP version after DHCP has answered for the other on the interface, in vain: its port
// forwards, so whoever is silent will stay so.
const familyPatience = 5 * time.Second

// run starts and stops attempts as interfaces come and go, until one has succeeded or all have ended.
func (r *round) run(ctx context.Context, cancel context.CancelFunc) error {
	waiting, stop := context.WithCancelCause(ctx) // ends what has not come to a network
	defer stop(nil)
	defer r.stopTimers()
	var hurry <-chan time.Time
	r.findings = map[string][]finding{}
	succeeded, active, tried := false, r.startSystem(ctx), false
	for {
		links, changed := r.System.Links()
		if ctx.Err() == nil {
			active += r.adjust(ctx, waiting, links)
		}
		if active == 0 {
			break
		}
		select {
		case <-changed:
		case <-hurry:
			stop(errPatience)
		case res := <-r.results:
			active--
			tried = true
			if t := r.running[res.index]; t != nil {
				t.ended(res)
			}
			r.showLinks()
			if res.won {
				succeeded = true
				cancel()
			}
			for _, f := range res.findings {
				r.findings[f.finder] = append(r.findings[f.finder], f)
				if f.visited && hurry == nil {
					hurry = time.After(patience)
				}
			}
		}
	}
	if succeeded {
		return nil
	}
	if !tried {
		return r.conclude(errNoLink)
	}
	return r.conclude(errNotAsked)
}

// ended notes how one family ended, while the other may go on.
func (t *tries) ended(res result) {
	t.active--
	if join := t.join; res.leased && t.active > 0 {
		t.hurry = time.AfterFunc(familyPatience, func() { join(errPatience) })
	}
}

func (r *round) stopTimers() {
	for _, t := range r.running {
		if t.hurry != nil {
			t.hurry.Stop()
		}
	}
}

// startSystem has the finders look through the machine's own network when the agent has no interface to itself.
func (r *round) startSystem(ctx context.Context) (started int) {
	links, _ := r.System.Links()
	if usable, elsewhere := connected(links); usable || !elsewhere {
		return 0
	}
	go func() {
		a := &attempt{round: r}
		r.results <- a.look(ctx, ctx, ownNetwork(r.System))
	}()
	return 1
}

// adjust ends attempts on interfaces that were lost, unless they have come to a visit, starts some on newly usable ones, and
// returns how many it started.
func (r *round) adjust(ctx, waiting context.Context, links []link.Link) (started int) {
	lives := map[int]int{}
	for _, l := range links {
		if l.Usable() {
			lives[l.Index] = l.Life
		}
	}
	for index, t := range r.running {
		if lives[index] != t.life && t.cancel != nil {
			t.cancel(nil)
			t.cancel = nil // the interface may be tried anew once these attempts have ended
		}
	}
	for _, l := range links {
		if l.Usable() && waiting.Err() == nil { // otherwise it is for the next round
			started += r.try(ctx, waiting, l)
		}
	}
	return started
}

// try starts both families on an interface, unless it was tried in its present life or too often.
func (r *round) try(ctx, waiting context.Context, l link.Link) (started int) {
	t := r.running[l.Index]
	if t == nil {
		t = &tries{}
		r.running[l.Index] = t
	}
	if t.active > 0 || t.cancel != nil || t.begun == maxTries {
		return 0
	}
	r.trying(l)
	plugged, cancel := context.WithCancelCause(waiting)
	joining, join := context.WithCancelCause(plugged)
	t.life, t.begun, t.cancel, t.join = l.Life, t.begun+1, cancel, join
	for _, f := range r.families(l) {
		t.active++
		started++
		go func() {
			a := &attempt{round: r, link: l, family: f}
			r.results <- a.run(ctx, plugged, joining)
		}()
	}
	return started
}

// conclude says what each finder came to. Where servers were visited, what the visitor said is all that matters.
// nothing is why a finder has neither visited nor failed.
func (r *round) conclude(nothing error) error {
	e := &FindersError{}
	for _, f := range r.active() {
		var visits, failures []error
		for _, found := range r.findings[f.Name()] {
			if found.visited {
				visits = append(visits, found.err)
			} else {
				failures = append(failures, found.err)
			}
		}
		err := nothing
		if len(visits) > 0 {
			err = errors.Join(visits...)
		} else if len(failures) > 0 {
			err = explain(failures)
		}
		e.Findings = append(e.Findings, Finding{f.Name(), err})
	}
	return e
}
