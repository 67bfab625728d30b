package e2e

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/test/lab"
	"github.com/xpu-sztp/ztp/test/lab/device"
	"github.com/xpu-sztp/ztp/test/lab/event"
)

// TestKilledAtAnyTime kills the daemon with SIGKILL at one event of the story after another, as servers and the device's log
// tell them, and lets init start it again. The end must be that of a run that nobody disturbed.
func TestKilledAtAnyTime(t *testing.T) {
	events := storyWithKill(t, 0, device.Options{}, (*device.Device).Kill)
	t.Logf("an undisturbed story has %d events", events)
	if events < 20 {
		t.Fatalf("only %d events: what is killed at them proves little", events)
	}
	for at := 1; at <= events; at++ {
		t.Run(fmt.Sprintf("event %d", at), func(t *testing.T) { storyWithKill(t, at, device.Options{}, (*device.Device).Kill) })
	}
}

// storyWithKill plays the story, killing one process once at the event with that number, and returns how many events there
// were. Number 0 never comes. Every other time the platform stops the daemon while its reboot command still runs, as systemd
// does.
func storyWithKill(t *testing.T, at int, o device.Options, kill func(*device.Device) int) int {
	t.Helper()
	ctx := within(t, time.Minute)
	var seen atomic.Int64
	reached := make(chan struct{})
	var once sync.Once
	log := &event.Log{Observe: func(e event.Event) {
		if (fromNetwork(e) || e.Kind == event.DeviceLog) && seen.Add(1) == int64(at) {
			once.Do(func() { close(reached) })
		}
	}}
	l := newLab(t, lab.Options{Family: lab.IPv4, Log: log})
	defer l.Close()
	l.Onboard(onboarding(l), "verbose")
	o.EagerReboot, o.Config = at%2 == 0, "[retry]\ninitial = \"100ms\"\n"
	d := newDevice(t, l, o)
	go func() {
		select {
		case <-reached:
			kill(d)
		case <-ctx.Done():
		}
	}()
	if err := d.PowerOn(ctx); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		end, err := d.Wait(ctx)
		switch {
		case err != nil:
			t.Fatal(err)
		case end.Reboot:
			err = d.PowerOn(ctx)
		case end.Exit == 0:
			wantProvisioned(t, l, d)
			return int(seen.Load())
		default:
			err = d.StartDaemon()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("the device does not come to an end")
	return 0
}
