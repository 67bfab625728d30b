package dhcp

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"time"
)

// retransmission says when a message is sent again. A zero limit means none.
type retransmission struct {
	initial  time.Duration // before the first repetition
	max      time.Duration // longest wait
	jitter   float64       // part of each wait by which it varies, both ways
	tries    int
	duration time.Duration // of the whole exchange
	// halving, when positive, replaces all that by half of what is left of duration, but no less than it says (RFC 2131 §4.4.5).
	halving time.Duration
}

// wait returns the wait that follows prev; prev 0 is the first. elapsed is how long the exchange takes already.
func (r retransmission) wait(prev, elapsed time.Duration, rnd *rand.Rand) time.Duration {
	next := r.initial
	if prev > 0 {
		next = 2 * prev
	}
	if r.max > 0 && next > r.max {
		next = r.max
	}
	if r.halving > 0 {
		next = max((r.duration-elapsed)/2, r.halving)
	}
	return next + time.Duration(r.jitter*(2*random(rnd).Float64()-1)*float64(next))
}

// verdict is what the receiver of a packet thinks of it.
type verdict struct {
	done   bool
	settle time.Duration // when positive: finish after this time at the latest, counted from the first such verdict
}

var (
	errUnanswered = errors.New("no answer")
	errSocket     = errors.New("the socket failed")
)

// datagram is one datagram and its sender.
type datagram struct {
	data []byte
	from net.Addr
}

// maxPacket bounds what is read of one datagram.
const maxPacket = 4096

// receive delivers the packets of conn until it is closed. Read errors such as ENETDOWN after a lost carrier pass; a
// socket that does nothing but fail is given up.
func receive(conn net.PacketConn) <-chan datagram {
	ch := make(chan datagram, 16)
	go func() {
		defer close(ch)
		buf := make([]byte, maxPacket)
		for failures := 0; failures < 8; {
			n, from, err := conn.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				failures++
				continue
			}
			failures = 0
			select {
			case ch <- datagram{append([]byte(nil), buf[:n]...), from}:
			default: // a flood; retransmission recovers what was lost
			}
		}
	}()
	return ch
}

// exchange sends what build returns, again and again as r says, and shows every packet to accept. It returns nil once accept
// is done or its settling time is over, errUnanswered when r is exhausted, or the context's error. build gets the time since
// the exchange began.
func exchange(ctx context.Context, in <-chan datagram, r retransmission, rnd *rand.Rand,
	send func(elapsed time.Duration) error, accept func(datagram, time.Duration) verdict) error {
	start := time.Now()
	var settled, limit <-chan time.Time
	if r.duration > 0 {
		t := time.NewTimer(r.duration)
		defer t.Stop()
		limit = t.C
	}
	again := time.NewTimer(0)
	defer again.Stop()
	var wait time.Duration
	for tries := 0; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-limit:
			return errUnanswered
		case <-settled:
			return nil
		case <-again.C:
			if r.tries > 0 && tries == r.tries {
				return errUnanswered
			}
			tries++
			// A failed transmission (no route yet, queue full, carrier gone) is as good as a lost packet.
			_ = send(time.Since(start))
			wait = r.wait(wait, time.Since(start), rnd)
			again.Reset(wait)
		case p, ok := <-in:
			if !ok {
				return errSocket
			}
			v := accept(p, time.Since(start))
			if v.done {
				return nil
			}
			if v.settle > 0 && settled == nil {
				t := time.NewTimer(v.settle)
				defer t.Stop()
				settled = t.C
			}
		}
	}
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// random returns r, or a generator seeded by the runtime. r decides about timing and transaction ids, not about secrets.
func random(r *rand.Rand) *rand.Rand {
	if r == nil {
		r = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	return r
}

// randomly returns a time below limit.
func randomly(r *rand.Rand, limit time.Duration) time.Duration {
	return time.Duration(random(r).Int64N(int64(limit)))
}

func logger(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}
