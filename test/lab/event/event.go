// Package event is the lab's memory: every server and the simulated device note what they saw, in order, so that a story
// can be told while it happens and a test can wait for a fact instead of sleeping.
package event

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Kind says what sort of thing happened. Tests match on it.
type Kind string

// The kinds, in the order a device usually meets them.
const (
	CableIn   Kind = "cable-in"
	PowerOn   Kind = "power-on"  // firmware chose a slot; Attrs: slot, os-version
	RouterAd  Kind = "router-ad" // a router advertisement answered a solicitation
	DHCP4     Kind = "dhcp4"     // Attrs: message, address
	DHCP6     Kind = "dhcp6"     // Attrs: message, address
	DNS       Kind = "dns"       // Attrs: name, type
	TLS       Kind = "tls"       // a handshake ended; Attrs: serial, or error
	Request   Kind = "request"   // an HTTP request was answered; Attrs: serial, operation, trust, status
	Voucher   Kind = "voucher"   // the MASA issued or refused one; Attrs: serial
	Report    Kind = "report"    // a progress report; Attrs: serial, progress-type, status
	Download  Kind = "download"  // Attrs: path, range, bytes, status
	DeviceLog Kind = "device-log"
	Reboot    Kind = "reboot" // the device asked its platform to reboot
	Exit      Kind = "exit"   // the daemon ended; Attrs: code
)

// Event is one fact.
type Event struct {
	At    time.Time
	Who   string // which server or device noted it, such as "dhcp" or "bootstrap"
	Kind  Kind
	Text  string // one line for people
	Attrs map[string]string
}

// Log keeps events in order. The zero value is ready for use, by many goroutines.
type Log struct {
	// Observe, when set before first use, is called with each event, one at a time and in order.
	Observe func(Event)

	mu      sync.Mutex
	events  []Event
	changed chan struct{}
}

// Add notes an event. attrs are pairs of name and value.
func (l *Log) Add(who string, kind Kind, attrs []string, format string, args ...any) {
	e := Event{At: time.Now(), Who: who, Kind: kind, Text: fmt.Sprintf(format, args...), Attrs: map[string]string{}}
	for i := 0; i+1 < len(attrs); i += 2 {
		e.Attrs[attrs[i]] = attrs[i+1]
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
	if l.Observe != nil {
		l.Observe(e)
	}
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// All returns the events so far.
func (l *Log) All() []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Event(nil), l.events...)
}

// Find returns the events so far that match.
func (l *Log) Find(match func(Event) bool) []Event {
	var found []Event
	for _, e := range l.All() {
		if match(e) {
			found = append(found, e)
		}
	}
	return found
}

// Wait returns the first event that matches, past or future, or the error of ctx.
func (l *Log) Wait(ctx context.Context, match func(Event) bool) (Event, error) {
	for seen := 0; ; {
		l.mu.Lock()
		fresh := l.events[seen:]
		seen = len(l.events)
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed := l.changed
		l.mu.Unlock()
		for _, e := range fresh {
			if match(e) {
				return e, nil
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Event{}, fmt.Errorf("no such event among %d: %w", seen, context.Cause(ctx))
		}
	}
}

// Is returns a matcher for events of kind k whose attributes have the given values.
func Is(k Kind, attrs ...string) func(Event) bool {
	return func(e Event) bool {
		if e.Kind != k {
			return false
		}
		for i := 0; i+1 < len(attrs); i += 2 {
			if e.Attrs[attrs[i]] != attrs[i+1] {
				return false
			}
		}
		return true
	}
}
