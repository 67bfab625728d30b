package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/restconf"
)

// Bounds on what hostile name servers, servers that answer one byte at a time, and redirects to ever more servers can
// cost. Looking for data is bounded, executing it is not. Each server of a lead has a budget of its own, so that one
// cannot use up the chances of those after it; a lead has an end, so that other networks get their turn.
const (
	maxAddresses = 16 // of one host name
	maxVisits    = 64 // connections to one server of a lead and to all servers that it led to

	resolveTime = 30 * time.Second // for one host name
	visitTime   = 5 * time.Minute  // for one connection, until the data is there
	serverTime  = 15 * time.Minute // for one server of a lead and all servers that it led to
	leadTime    = time.Hour        // for one lead
)

// budget is what may still be spent on one server of a lead and all servers that it leads to.
type budget struct {
	visits int
	ends   time.Time
}

// newBudget returns a full one that ends with the lead.
func newBudget(ends time.Time) *budget {
	if own := time.Now().Add(serverTime); own.Before(ends) {
		ends = own
	}
	return &budget{visits: maxVisits, ends: ends}
}

// check returns an error when nothing is left.
func (b *budget) check() error {
	const fix = "shorten the list of bootstrap servers and their redirects, and take out those that do not answer"
	switch {
	case b.visits == 0:
		return &reason.Error{Code: CodeSearchTooLong, Fix: fix, Msg: fmt.Sprintf("%d connections led to no bootstrapping data", maxVisits)}
	case !time.Now().Before(b.ends):
		return &reason.Error{Code: CodeSearchTooLong, Fix: fix, Msg: "the search for bootstrapping data took too long"}
	}
	return nil
}

// take spends one connection.
func (b *budget) take() error {
	err := b.check()
	if err == nil {
		b.visits--
	}
	return err
}

// limit bounds the time of one connection.
func (b *budget) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	left := min(visitTime, time.Until(b.ends))
	return context.WithTimeoutCause(ctx, left, &reason.Error{Code: restconf.CodeServerTimeout,
		Msg: fmt.Sprintf("the server did not send bootstrapping data within %v", left.Round(time.Second)),
		Fix: "check the server's load and the network's speed"})
}
