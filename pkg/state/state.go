// Package state keeps what outlives the process and shows what it is doing. The durable record (state.json) holds the
// enabled flag, the outcome, the journal of an onboarding in progress and the history of images; it is written so that a
// power cut leaves the old record or the new one. The live status (status.json) is what `ztp status` reads. The daemon and
// the command line may both change the durable record, so every change is made under a lock.
package state

import "time"

// Record is the durable state of the device. The zero value is not valid; a missing file reads as NewRecord.
type Record struct {
	Schema  int                    `json:"schema"`
	Enabled bool                   `json:"enabled"` // RFC 8572 §5.1; factory default true
	Outcome Outcome                `json:"outcome,omitempty"`
	Reason  *Reason                `json:"reason,omitempty"`
	Session *Session               `json:"session,omitempty"` // survives the reboots that belong to it
	Journal []Entry                `json:"journal,omitempty"` // owned by pkg/onboard
	Images  map[string]ImageRecord `json:"images,omitempty"`  // by lowercase hex SHA-256
	Last    *Status                `json:"last,omitempty"`    // final status of the last session, shown when no daemon runs
}

type ImageRecord struct{}
type Session struct {
	Started time.Time `json:"started"`
	Reboots int       `json:"reboots"`
}
type Entry struct{}
