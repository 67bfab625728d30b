package privsep

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"time"

	"github.com/xpu-sztp/ztp/pkg/onboard"
	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/pkg/storage"
)

// kind is what a message is for.
type kind string

// What the client sends: a request, then answers and perhaps a stop.
const (
	kindChange  kind = "change"  // Change
	kindRecover kind = "recover" //
	kindExecute kind = "execute" // Order; a proof follows
	kindTrial   kind = "trial"   // answered by Trial and Timeout, which is what is left of it
	kindExpire  kind = "expire"  // Last, or nothing
	kindStick   kind = "stick"   // Disk, or Partition and Path
	kindAnswer  kind = "answer"  // ID, and what was asked for or Fault; also of the server, to all requests but execute
	kindStop    kind = "stop"    // end what is being executed
)

// What the server sends while it executes.
const (
	kindBoard  kind = "board"  // Board
	kindReport kind = "report" // ID, Timeout, Report
	kindLookup kind = "lookup" // ID, Timeout, Network, Address
	kindDial   kind = "dial"   // ID, Timeout, Network, Address; the answer brings a descriptor
	kindWhere  kind = "where"  // ID, Timeout
	kindResult kind = "result" // Board, and Outcome or Fault; the last one
)

// message is every message. Which fields count, its kind tells.
type message struct {
	Kind    kind   `json:"kind"`
	ID      uint64 `json:"id,omitempty"`      // of a question and its answer
	Version string `json:"version,omitempty"` // of the client, with a request

	Change    *state.Change      `json:"change,omitempty"`
	Order     *Order             `json:"order,omitempty"`
	Disk      string             `json:"disk,omitempty"`
	Partition *storage.Partition `json:"partition,omitempty"`
	Path      string             `json:"path,omitempty"`
	Last      *state.Reason      `json:"last,omitempty"`

	Board   *sections        `json:"board,omitempty"`
	Report  *progress.Report `json:"report,omitempty"`
	Network string           `json:"network,omitempty"`
	Address string           `json:"address,omitempty"`
	Timeout time.Duration    `json:"timeout,omitempty"` // after which nobody waits for the answer

	Record     *state.Record       `json:"record,omitempty"`
	Partitions []storage.Partition `json:"partitions,omitempty"`
	Addresses  []netip.Addr        `json:"addresses,omitempty"`
	Where      state.Network       `json:"where,omitempty"`
	Outcome    onboard.Outcome     `json:"outcome,omitempty"`
	Trial      *onboard.Trial      `json:"trial,omitempty"`
	Fault      *fault              `json:"fault,omitempty"`
}

var errKind = errors.New("a message of a kind that is not expected")

// decode reads a message from JSON. A pointer that goes with the kind is never nil in what it returns, unless with an error: then
// the version counts, which tells why the rest makes no sense.
func decode(data []byte) (*message, error) {
	m := new(message)
	if err := json.Unmarshal(data, m); err != nil {
		return m, err
	}
	missing := false
	switch m.Kind {
	case kindChange:
		missing = m.Change == nil
	case kindExecute:
		missing = m.Order == nil
	case kindStick:
		missing = m.Partition == nil && m.Disk == ""
	case kindBoard, kindResult:
		missing = m.Board == nil
	case kindReport:
		missing = m.Report == nil
	case kindRecover, kindTrial, kindExpire, kindAnswer, kindStop, kindLookup, kindDial, kindWhere:
	default:
		return m, errKind
	}
	if missing {
		return m, fmt.Errorf("%s without what it is about", m.Kind)
	}
	return m, nil
}

// fault is an error on its way.
type fault struct {
	Code    reason.Code `json:"code"`
	Text    string      `json:"text"`
	Hint    string      `json:"hint,omitempty"`
	Missing bool        `json:"missing,omitempty"` // it is fs.ErrNotExist
}

func faultOf(err error) *fault {
	if err == nil {
		return nil
	}
	code, hint := reason.Of(err)
	return &fault{Code: code, Text: short(err.Error()), Hint: short(hint), Missing: errors.Is(err, fs.ErrNotExist)}
}

func short(s string) string { return s[:min(len(s), maxText)] }

func (f *fault) err() error {
	switch {
	case f == nil:
		return nil
	case f.Missing:
		return fs.ErrNotExist
	}
	return &reason.Error{Code: f.Code, Msg: short(f.Text), Fix: short(f.Hint)}
}

// sections are the parts of the status that onboarding has to tell something about.
type sections struct {
	Phase     state.Phase      `json:"phase,omitempty"`
	Reboots   int              `json:"reboots,omitempty"`
	Downloads []state.Download `json:"downloads,omitempty"`
	Image     *state.Image     `json:"image,omitempty"`
	Slots     *state.Slots     `json:"slots,omitempty"`
	Steps     []state.Step     `json:"steps,omitempty"`
	Reports   []state.Report   `json:"reports,omitempty"`
	Warnings  []state.Warning  `json:"warnings,omitempty"`
}

// sectionsOf shares nothing with s that changes.
func sectionsOf(s *state.Status) *sections {
	x := &sections{s.Phase, s.Reboots, slices.Clone(s.Downloads), nil, s.Slots, slices.Clone(s.Steps), slices.Clone(s.Reports), slices.Clone(s.Warnings)}
	if s.Image != nil {
		image := *s.Image
		x.Image = &image
	}
	return x
}

// show puts the sections into a status, which has shown so many of the warnings, and returns how many it shows now.
func (x *sections) show(s *state.Status, warned int) int {
	s.Downloads, s.Image, s.Steps, s.Reports = x.Downloads, x.Image, x.Steps, x.Reports
	if x.Slots != nil {
		s.Slots = x.Slots
	}
	if x.Phase == state.PhaseRebooting {
		s.Phase, s.Reboots = x.Phase, x.Reboots
	}
	if warned < len(x.Warnings) {
		s.Warnings = append(s.Warnings, x.Warnings[warned:]...)
	}
	return max(warned, len(x.Warnings))
}
