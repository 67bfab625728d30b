package agent_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/agent"
	"github.com/xpu-sztp/ztp/pkg/onboard"
	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/restconf"
	"github.com/xpu-sztp/ztp/pkg/source"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// storm is many devices powered on in the same second, each the real Agent.Run, and one server. Time is the bubble's.
type storm struct {
	t       *testing.T
	devices int
	seed    uint64
	begun   time.Time
	server  func(at time.Duration) error // answers a request that arrives at a time since begun
	carrier *carrier                     // of all devices; nil when it is always there

	mu       sync.Mutex
	arrivals []time.Duration // of all requests
	served   []time.Duration
}

// carrier is that of a switch to which all devices are connected.
type carrier struct {
	mu      sync.Mutex
	back    chan struct{} // closed while there is carrier
	devices []chan struct{}
}

func newCarrier() *carrier {
	c := &carrier{back: make(chan struct{})}
	close(c.back)
	return c
}

func (c *carrier) lose() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.back = make(chan struct{})
}

// restore tells all devices, whether they wait for it or for something else.
func (c *carrier) restore() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.back)
	for _, wake := range c.devices {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
}

func (c *carrier) plug() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	wake := make(chan struct{}, 1)
	c.devices = append(c.devices, wake)
	return wake
}

// cable is the source of a device on a switch.
type cable struct {
	leads
	*carrier
	device *agent.Agent
}

// Discover waits for a carrier like source.Networks.
func (c *cable) Discover(ctx context.Context, visit func(context.Context, source.Lead) error) error {
	c.mu.Lock()
	back := c.back
	c.mu.Unlock()
	select {
	case <-back:
	default:
		<-back
		time.Sleep(c.device.Spread())
	}
	return c.leads.Discover(ctx, visit)
}

// run powers all devices on and returns when each has been served.
func (s *storm) run() {
	s.begun = time.Now()
	w := newWorld(s.t)
	ca := newAuthority(s.t, "CA")
	anchor := ca.anchor()
	evidence, err := artifacts.AuthenticateServer(ca.serverChain(s.t, "bs.example"), "bs.example", []artifacts.TrustAnchor{anchor}, w.clock)
	if err != nil {
		s.t.Fatal(err)
	}
	lead := source.Lead{Source: "test", Trusted: true, Servers: []artifacts.BootstrapServer{at("192.0.2.1", anchor)}}
	output := &restconf.Output{Bundle: artifacts.Bundle{ConveyedInformation: onboardingNamed(s.t, "x")}, Level: progress.Minimal}

	random := rand.New(rand.NewPCG(s.seed, 0))
	var devices sync.WaitGroup
	for range s.devices {
		a := w.agent(leads{lead})
		a.Board, a.Onboarder = blind{}, content{}
		a.Nonce = func() ([]byte, error) { return make([]byte, 32), nil }
		a.Connect = func(context.Context, agent.Target) (agent.Session, error) { return &stormed{s, evidence, output}, nil }
		a.Retry = agent.Backoff{Initial: 10 * time.Second, Max: 10 * time.Minute} // the defaults of [retry]
		if s.carrier != nil {
			a.Wake, a.Sources = s.carrier.plug(), []source.Source{&cable{leads{lead}, s.carrier, a}}
		}
		phase, powered := random.Float64(), time.Duration(random.Float64()*float64(time.Second))
		a.Random = func() float64 { return phase }
		devices.Go(func() {
			time.Sleep(powered)
			if outcome, err := a.Run(s.t.Context()); err != nil || outcome != onboard.Complete {
				s.t.Errorf("a device ended with %v, %v", outcome, err)
			}
		})
	}
	devices.Wait()
	slices.Sort(s.arrivals)
	slices.Sort(s.served)
}

// bucket is the time in which requests are counted: about as long as a server's queue evens out. Much shorter ones would
// measure chance, at some twenty requests a second.
const bucket = 10 * time.Second

// peakToMean holds the requests of the busiest bucket after a moment against their average until all devices were served.
func (s *storm) peakToMean(after time.Duration) float64 {
	counts := map[time.Duration]int{}
	all, peak := 0, 0
	for _, at := range s.arrivals {
		if at >= after {
			i := (at - after) / bucket
			counts[i]++
			all++
			peak = max(peak, counts[i])
		}
	}
	return float64(peak) / (float64(all) * float64(bucket) / float64(s.drained()-after))
}

// drained is when the last device was served.
func (s *storm) drained() time.Duration { return s.served[len(s.served)-1] }

// stormed is a session with the server of a storm.
type stormed struct {
	*storm
	evidence *artifacts.ServerEvidence
	output   *restconf.Output
}

func (s *stormed) Evidence() *artifacts.ServerEvidence                   { return s.evidence }
func (s *stormed) Certificate() string                                   { return "" }
func (s *stormed) Close() error                                          { return nil }
func (s *stormed) ReportProgress(context.Context, progress.Report) error { return nil }

func (s *stormed) GetBootstrappingData(context.Context, restconf.Input) (*restconf.Output, error) {
	now := time.Since(s.begun)
	s.mu.Lock()
	s.arrivals = append(s.arrivals, now)
	s.mu.Unlock()
	if err := s.server(now); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.served = append(s.served, time.Since(s.begun))
	s.mu.Unlock()
	return s.output, nil
}

// blind is a board, content an onboarder, that do nothing.
type blind struct{}

func (blind) Update(func(*state.Status)) {}

type content struct{}

func (content) Execute(context.Context, onboard.Request) (onboard.Outcome, error) {
	return onboard.Complete, nil
}
func (content) ReportParsingError(context.Context, onboard.Reporter, progress.Level, error) {}

var errDown = &reason.Error{Code: restconf.CodeConnectFailed, Msg: "connection refused"}

// comeBack is a server's answer to come back later.
func comeBack(after time.Duration) error { return &restconf.Error{Status: 503, RetryAfter: after} }

// downUntil refuses everything until a moment.
func downUntil(end time.Duration) func(time.Duration) error {
	return func(at time.Duration) error {
		if at < end {
			return errDown
		}
		return nil
	}
}

// herd is how many devices there are in one building.
const herd = 10_000

// TestStorm is what `make bench` measures: the server is down for ten minutes when everything is powered on.
func TestStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const down = 10 * time.Minute
		s := &storm{t: t, devices: herd, seed: 1, server: downUntil(down)}
		s.run()
		ratio := s.peakToMean(down)
		t.Attr("storm-peak-to-mean", strconv.FormatFloat(ratio, 'f', 2, 64))
		if ratio > 2 {
			t.Errorf("the busiest %v have %.2f times the mean", bucket, ratio)
		}
		if late := s.drained() - down; late > 10*time.Minute {
			t.Errorf("the last device was served %v after the server was back", late)
		}
	})
}

// TestStormOfAnyLength: no length of an outage makes devices return together, and nobody waits for longer than it lasted,
// or ten minutes.
func TestStormOfAnyLength(t *testing.T) {
	for _, down := range []time.Duration{90 * time.Second, 16 * time.Minute, 2 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			s := &storm{t: t, devices: herd / 5, seed: 2, server: downUntil(down)}
			s.run()
			if ratio := s.peakToMean(down); ratio > 2 {
				t.Errorf("down for %v: the busiest %v have %.2f times the mean", down, bucket, ratio)
			}
			if late := s.drained() - down; late > min(down, 10*time.Minute) {
				t.Errorf("down for %v: the last device was served %v later", down, late)
			}
		})
	}
}

// TestStormOnSilentServer has connections time out, each after another time, as lost packets and several addresses make it.
func TestStormOnSilentServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const down = 10 * time.Minute
		s := &storm{t: t, devices: herd / 4, seed: 3}
		s.server = func(at time.Duration) error {
			if at >= down {
				return nil
			}
			time.Sleep(10*time.Second + at%(50*time.Second))
			return errDown
		}
		s.run()
		if ratio := s.peakToMean(down + time.Minute); ratio > 2 {
			t.Errorf("the busiest %v have %.2f times the mean", bucket, ratio)
		}
	})
}

// TestStormToldToComeBack: a server that answers all devices the same does not get them all back in the same second.
func TestStormToldToComeBack(t *testing.T) {
	for _, wish := range []time.Duration{time.Minute, 20 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			s := &storm{t: t, devices: herd / 4, seed: 4}
			s.server = func(at time.Duration) error {
				if at < time.Minute {
					return comeBack(wish)
				}
				return nil
			}
			s.run()
			first := s.served[0]
			if first < wish {
				t.Errorf("asked for %v, a device was back after %v", wish, first)
			}
			if ratio := s.peakToMean(wish); ratio > 2 {
				t.Errorf("asked for %v: the busiest %v have %.2f times the mean", wish, bucket, ratio)
			}
			if s.drained() > wish+11*time.Minute {
				t.Errorf("asked for %v, the last device was back after %v", wish, s.drained())
			}
		})
	}
}

// TestStormDrains: a server that cannot serve all at once serves all in the end, not much later than it could at best.
func TestStormDrains(t *testing.T) {
	const (
		perSecond = 50
		devices   = herd / 4
		best      = devices / perSecond * time.Second
	)
	servers := map[string]struct {
		server func() func(time.Duration) error
		most   time.Duration
	}{
		"turns away whom it cannot serve": {func() func(time.Duration) error { return shedding(perSecond, 0) }, 3 * best},
		"tells them when to come back":    {func() func(time.Duration) error { return shedding(perSecond, 30*time.Second) }, 4 * best},
		"works for those who have left":   {func() func(time.Duration) error { return queueing(perSecond, 10*time.Second) }, 10 * best},
	}
	for name, tt := range servers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &storm{t: t, devices: devices, seed: 5, server: tt.server()}
				s.run()
				t.Log("drained after", s.drained(), "requests", len(s.arrivals))
				if s.drained() > tt.most {
					t.Errorf("the last device was served after %v, which at best takes %v", s.drained(), best)
				}
			})
		})
	}
}

// shedding serves so many requests in each second, and answers the others 503.
func shedding(perSecond int, retryAfter time.Duration) func(time.Duration) error {
	var mu sync.Mutex
	served := map[time.Duration]int{}
	return func(at time.Duration) error {
		mu.Lock()
		defer mu.Unlock()
		second := at.Truncate(time.Second)
		if served[second] == perSecond {
			return comeBack(retryAfter)
		}
		served[second]++
		return nil
	}
}

// queueing serves one request after the other, also those whose devices no longer wait for the answer. That is how servers
// stay overloaded although the load is gone.
func queueing(perSecond int, patience time.Duration) func(time.Duration) error {
	var mu sync.Mutex
	var free time.Duration
	return func(at time.Duration) error {
		mu.Lock()
		free = max(free, at) + time.Second/time.Duration(perSecond)
		wait := free - at
		mu.Unlock()
		if wait > patience {
			time.Sleep(patience)
			return &restconf.Error{}
		}
		time.Sleep(wait)
		return nil
	}
}

// TestStormOfCarriers: the switch of devices that have failed for an hour reboots, which takes it five minutes. Half of them
// wait for their next try then, the others for a carrier; all see it come back in the same instant.
func TestStormOfCarriers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lost, back = time.Hour, time.Hour + 5*time.Minute
		s := &storm{t: t, devices: herd / 4, seed: 6, server: downUntil(back), carrier: newCarrier()}
		time.AfterFunc(lost, s.carrier.lose)
		time.AfterFunc(back, s.carrier.restore)
		s.run()
		if n, _ := slices.BinarySearch(s.arrivals, back+time.Second); n > len(s.arrivals)-s.devices+s.devices/20 {
			t.Errorf("%d of %d devices come in the first second", n-(len(s.arrivals)-s.devices), s.devices)
		}
		if late := s.drained() - back; late > time.Minute {
			t.Errorf("a device is late by %v", late)
		}
	})
}
