package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/test/lab"
	"github.com/xpu-sztp/ztp/test/lab/device"
	"github.com/xpu-sztp/ztp/test/lab/netlab"
	"github.com/xpu-sztp/ztp/test/lab/wire"
)

const (
	// carrierRuns is how often each is measured. What counts is the median: clients wait a random time before they speak,
	// and other processes of the machine disturb single runs.
	carrierRuns    = 7
	carrierTimeout = 30 * time.Second // of one run, from the carrier on
	carrierLimit   = 300              // ms
)

// carrierCost measures how long a daemon that waits for a link takes from its carrier to the first packet to the bootstrap
// server, less the time for which it waited for servers. Link-local addresses are checked for duplicates, as systems do
// unless told otherwise. With stages the packets of each run are printed.
func carrierCost(ctx context.Context, ztp, dir string, stages bool) ([]figure, error) {
	var figures []figure
	worst := 0.0
	for _, family := range []lab.Family{lab.IPv4, lab.IPv6} {
		cost, err := carrierOf(ctx, family, ztp, filepath.Join(dir, string(family)), stages)
		if err != nil {
			return figures, fmt.Errorf("%s: %w", family, err)
		}
		figures = append(figures, figure{"carrier-to-request-" + string(family), cost, "ms", noLimit})
		worst = max(worst, cost)
	}
	return append(figures, figure{"carrier-to-request", worst, "ms", carrierLimit}), nil
}

// carrierOf returns the median of all runs in one family, in milliseconds.
func carrierOf(ctx context.Context, family lab.Family, ztp, dir string, stages bool) (float64, error) {
	l, err := lab.New(lab.Options{Family: family})
	if err != nil {
		return 0, err
	}
	defer l.Close()
	// The servers' side has a carrier of its own, as behind a switch. That of a bridge without ports takes a second to come.
	neighbour, err := netlab.New()
	if err != nil {
		return 0, err
	}
	defer neighbour.Close()
	cable, err := l.Connect(neighbour, "eth0")
	if err != nil {
		return 0, err
	}
	if err := errors.Join(neighbour.Do(func() error { return netlab.Up("eth0") }), cable.Plug()); err != nil {
		return 0, err
	}
	var costs []time.Duration
	for run := range carrierRuns {
		here := filepath.Join(dir, fmt.Sprint(run))
		if err := os.MkdirAll(here, 0o755); err != nil {
			return 0, err
		}
		begun, packets, err := plugIn(ctx, l, device.Options{Dir: here, ZTP: ztp, Serial: fmt.Sprintf("CARRIER-%d", run), FileKey: true})
		if err != nil {
			return 0, err
		}
		cost := ownTime(begun, packets)
		costs = append(costs, cost)
		if !stages {
			continue
		}
		fmt.Printf("%s, run %d: %v of its own\n", family, run+1, cost)
		for _, p := range packets {
			fmt.Printf("  %8.1f ms  %v\n", milliseconds(p.At.Sub(begun)), p)
		}
	}
	slices.Sort(costs)
	return milliseconds(costs[len(costs)/2].Round(100 * time.Microsecond)), nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// plugIn has a new device wait for a link and plugs its cable in. It returns when that was, and the packets from then to the
// first that asks the bootstrap server for a connection.
func plugIn(ctx context.Context, l *lab.Lab, o device.Options) (begun time.Time, packets []wire.Packet, err error) {
	if o.Namespace, err = netlab.New(); err != nil {
		return begun, nil, err
	}
	defer o.Namespace.Close()
	d, err := l.Device(ctx, o)
	if err != nil {
		return begun, nil, err
	}
	defer d.Close()
	cable, err := l.Connect(o.Namespace, "eth0")
	if err != nil {
		return begun, nil, err
	}
	defer cable.Pull()
	var recording *wire.Recording
	err = o.Namespace.Do(func() error {
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		recording, err = wire.Record(eth0.Name, eth0.HardwareAddr)
		return err
	})
	if err != nil {
		return begun, nil, err
	}
	defer recording.Close()
	if err := d.PowerOn(ctx); err != nil {
		return begun, nil, err
	}
	if err := awaitPhase(ctx, d, state.PhaseWaitingForLink); err != nil {
		return begun, nil, fmt.Errorf("%w; its log:\n%s", err, logOf(d))
	}
	begun = time.Now() // the carrier follows within microseconds
	if err := cable.Plug(); err != nil {
		return begun, nil, err
	}
	limited, cancel := context.WithTimeout(ctx, carrierTimeout)
	defer cancel()
	asks := func(p wire.Packet) bool {
		_, to := p.Addresses()
		return p.FromDevice && p.Kind() == "SYN" && slices.Contains(l.RedirectAt.Addresses, to.Addr())
	}
	if _, err := recording.Await(limited, asks); err != nil {
		return begun, nil, fmt.Errorf("%w before the device asked the bootstrap server; its log:\n%s", err, logOf(d))
	}
	packets = recording.Packets()
	packets = packets[:slices.IndexFunc(packets, asks)+1]
	return begun, slices.DeleteFunc(packets, func(p wire.Packet) bool { return p.At.Before(begun) }), nil
}

// ownTime is the time from begun to the last packet, less that between the device's questions and the first answer to each.
// Time in which several are waited for counts once; a question that is repeated counts from its last repetition.
func ownTime(begun time.Time, packets []wire.Packet) time.Duration {
	var waits []waiting
	answered := map[int]bool{}
	for i, answer := range packets {
		for j, question := range slices.Backward(packets[:i]) {
			if answers(question, answer) {
				if !answered[j] {
					waits = append(waits, waiting{question.At, answer.At})
				}
				answered[j] = true
				break
			}
		}
	}
	own, counted := packets[len(packets)-1].At.Sub(begun), begun
	slices.SortFunc(waits, func(a, b waiting) int { return a.from.Compare(b.from) })
	for _, w := range waits {
		if w.from.Before(counted) {
			w.from = counted
		}
		if w.to.After(w.from) {
			own -= w.to.Sub(w.from)
			counted = w.to
		}
	}
	return own
}

// waiting is the time between a question and its answer.
type waiting struct{ from, to time.Time }

// answers reports whether a packet to the device is what it waits for after one of its own.
func answers(question, answer wire.Packet) bool {
	if !question.FromDevice || answer.FromDevice {
		return false
	}
	if q, a := question.DHCP4(), answer.DHCP4(); q != nil && a != nil {
		return q.TransactionID == a.TransactionID
	}
	if q, a := question.DHCP6(), answer.DHCP6(); q != nil && a != nil {
		return q.TransactionID == a.TransactionID
	}
	if q, a := question.DNS(), answer.DNS(); q != nil && a != nil {
		return q.ID == a.ID
	}
	replies := map[string]string{"ARP request": "ARP reply", "NS": "NA", "RS": "RA"}
	return replies[question.Kind()] == answer.Kind()
}
