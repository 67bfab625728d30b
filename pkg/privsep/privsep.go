// Package privsep lets the agent run as two processes: one that speaks with the network and has hardly any privileges, and one
// that has them and speaks with nobody but the first. The client stands in for the record, for the executor of onboarding
// information and for removable storage; the server does these things, and comes back for what only the network-facing process
// can do: progress reports, name lookups, connections for images, and the status that people see. A connection carries one request
// and what belongs to it. The server believes its client as little as it can: what is to be executed crosses as the artifacts it
// came in and is judged again, changes of the record are few and named, files are read from removable storage only. What remains
// the client's word is that a TLS handshake took place, that a server took a report, and by what the network is known.
//
//	client                             server
//	change, recover, trial, expire, stick ──▶ answer
//	execute, then a proof ───────────▶ board … report, lookup, dial, where
//	answer, stop ────────────────────▶ result
package privsep

import (
	"context"
	"os"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/onboard"
	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/pkg/storage"
)

// Reason codes of this package.
const (
	CodeUnreachable reason.Code = "onboarding-unreachable" // the privileged process cannot be reached
	CodeLost        reason.Code = "onboarding-lost"        // it ended before it was done
	CodeProtocol    reason.Code = "onboarding-protocol"    // one of the two processes does not keep to the protocol
	CodeVersion     reason.Code = "onboarding-version"     // the two processes are not of one version
	CodeRefused     reason.Code = "onboarding-refused"     // the record does not allow what the client asked for
)

// Bounds of what either side reads, in bytes, and waits for.
const (
	maxMessage = 8 << 20  // also a record, or a report with all that a script printed
	maxProof   = 64 << 20 // a reply of a bootstrap server, and the redirects that led to it
	maxText    = 4 << 10  // of an error
	maxParts   = 1 << 16  // values of either: three bytes can become a kilobyte

	maxClients   = 8                // connections at a time
	maxQuestions = 16               // answered at a time
	patience     = 10 * time.Second // for the first message, and for the peer to take one
)

// Order is what the client wants to have executed.
type Order struct {
	Level   progress.Level `json:"level"`
	Reports bool           `json:"reports,omitempty"` // the server of the data takes reports
	Where   bool           `json:"where,omitempty"`   // the data came by a network
	// Stick is the part of removable storage that the data came from; nil when it came from elsewhere.
	Stick *storage.Partition `json:"stick,omitempty"`

	Proof artifacts.Proof `json:"-"` // crosses after the rest
}

// Handler does what needs privileges. Its errors are explained.
type Handler interface {
	// Change makes a change, unless it is one that the configuration does not allow, and returns the record after it.
	Change(state.Change) (*state.Record, error)
	// Recover undoes what an interrupted session has left.
	Recover(context.Context) error
	// Trial tells what runs on trial and what is left of its time, which begins with the first call in a boot.
	Trial(context.Context) (onboard.Trial, time.Duration, error)
	// Expire has the device leave a system whose time on trial is over; last is why the client was not provisioned, or nil.
	Expire(ctx context.Context, last *state.Reason) error
	// Execute judges o.Proof and executes what it conveys. Of r, it only has to fill in what comes from the proof: r.Info,
	// r.Warnings, r.Files; and to take away r.Reporter where no server was authenticated.
	Execute(ctx context.Context, o Order, r onboard.Request, board onboard.Board) (onboard.Outcome, error)
	// Partitions returns the parts of the removable disk with this storage.Disk.Key.
	Partitions(key string) ([]storage.Partition, error)
	// Open opens a file on removable storage; without a path it only sees whether there could be one, and returns nil.
	Open(p storage.Partition, path string) (*os.File, error)
}
