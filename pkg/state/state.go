// Package state keeps what outlives the process and shows what it is doing. The durable record (state.json) holds the
// enabled flag, the outcome, the journal of an onboarding in progress and the history of images; it is written so that a
// power cut leaves the old record or the new one. The live status (status.json) is what `ztp status` reads. The daemon and
// the command line may both change the durable record, so every change is made under a lock.
package state

import (
	"crypto/rand"
	"io/fs"
	"time"
)

// RecordSchema is the version of Record on disk. Fields are added without raising it; it is raised when one is removed
// or changes its meaning, and a program refuses records newer than it knows.
const RecordSchema = 1

// Record is the durable state of the device. The zero value is not valid; a missing file reads as NewRecord.
type Record struct {
	Schema  int                    `json:"schema"`
	Enabled bool                   `json:"enabled"` // RFC 8572 §5.1; factory default true; change it with SetEnabled
	Outcome Outcome                `json:"outcome,omitempty"`
	Reason  *Reason                `json:"reason,omitempty"`
	Session *Session               `json:"session,omitempty"` // survives the reboots that belong to it
	Journal []Entry                `json:"journal,omitempty"` // owned by pkg/onboard
	Images  map[string]ImageRecord `json:"images,omitempty"`  // by lowercase hex SHA-256; owned by pkg/onboard
	Network Network                `json:"network,omitempty"` // on which the device was provisioned
	Moved   time.Time              `json:"moved,omitzero"`    // when a session last began because the network was another one
	Last    *Status                `json:"last,omitempty"`    // final status of the last session, shown when no daemon runs
}

// Session is one effort to provision the device, from the first look for a lead to success or surrender.
type Session struct {
	ID      string    `json:"id"`
	Started time.Time `json:"started"`
	Reboots int       `json:"reboots"`
	// FlagCleared says that a script or configuration handler of this session, not a person, turned Enabled off; rolling
	// the session back turns it on again.
	FlagCleared bool `json:"flag_cleared,omitempty"`
	// Moved says that the device is provisioned, and that the session began because it is on another network. Unless it
	// succeeds, nothing of Record changes but Session and Last.
	Moved bool `json:"moved,omitempty"`
}

// StepName is a part of onboarding information that changes the device and can be undone.
type StepName string

// The steps, in the order of RFC 8572 §5.6. Installing an image is not among them: it changes nothing that runs, and
// what became of it is kept in Record.Images.
const (
	StepPreScript     StepName = "pre-script"
	StepConfiguration StepName = "configuration"
	StepPostScript    StepName = "post-script"
)

// Entry is one step of an onboarding in progress. It is durable before the step has its effect, and it is removed when
// the effect was undone or, together with all others, when the onboarding was acknowledged. An entry therefore means:
// the effect may be there, wholly or in part, and this is what takes it back.
type Entry struct {
	Step    StepName  `json:"step"`
	Session string    `json:"session"` // Session.ID, which marks the processes of the step
	At      time.Time `json:"at"`
	Undos   int       `json:"undos,omitempty"` // failed attempts to undo it

	// Staged is the file, in the private folder of pkg/onboard, with the script or the configuration data.
	Staged string `json:"staged,omitempty"`
	// Command is the argument vector of an external configuration handler, which undoes its own work, or what is run after a
	// seed of cloud-init was changed or put back.
	Command []string `json:"command,omitempty"`
	// File is what a configuration file was before it was changed.
	File *FileBackup `json:"file,omitempty"`
	// Seed is what a seed of cloud-init was before it was changed.
	Seed *SeedBackup `json:"seed,omitempty"`
}

// SeedBackup is what the folder with a seed of cloud-init was before another one took its place. The old one is kept beside it.
type SeedBackup struct {
	Path    string   `json:"path"`              // the folder, symbolic links resolved
	Old     string   `json:"old,omitempty"`     // digest of the old seed; empty when there was none
	New     string   `json:"new"`               // digest of the new one
	Folders []string `json:"folders,omitempty"` // made for it, outermost first
}

// FileBackup is what a file was before it was changed.
type FileBackup struct {
	Path    string      `json:"path"` // the file, symbolic links resolved
	Existed bool        `json:"existed"`
	Backup  string      `json:"backup,omitempty"` // its content, in the private folder of pkg/onboard
	SHA256  string      `json:"sha256,omitempty"` // of the backup, lowercase hex
	Mode    fs.FileMode `json:"mode,omitempty"`
	UID     int         `json:"uid,omitempty"`
	GID     int         `json:"gid,omitempty"`
	Folders []string    `json:"folders,omitempty"` // made for the file, outermost first
}

// ImageState is how far a boot image got. It is durable before what it names happens; pkg/onboard has the table of what
// may follow what.
type ImageState string

// The states of an image. A refused image is not installed again for a day.
const (
	ImageNone      ImageState = ""          // nothing of it is on the device
	ImageFetching  ImageState = "fetching"  // Slot is being filled with it
	ImageWritten   ImageState = "written"   // verified bytes are in Slot; the boot loader does not know yet
	ImageActivated ImageState = "activated" // the boot loader is told to start Slot next
	ImageTrial     ImageState = "trial"     // the device reboots into it or runs it, and nobody has said yet that it is right
	ImageRunning   ImageState = "running"   // it runs and is the one that was demanded; the session is not at its end
	ImageGood      ImageState = "good"      // the device was provisioned while running it
	ImageFellBack  ImageState = "fell-back" // the boot loader returned to the other slot; see Reason
	ImageRefused   ImageState = "refused"   // it was tried too often; see Reason
)

// ImageRecord is the history of one boot image.
type ImageRecord struct {
	OSName    string     `json:"os_name,omitempty"`
	OSVersion string     `json:"os_version,omitempty"`
	Slot      string     `json:"slot,omitempty"` // where its bytes are; empty when they were overwritten
	State     ImageState `json:"state"`
	Attempts  int        `json:"attempts,omitempty"` // complete installs
	Reboots   int        `json:"reboots,omitempty"`  // asked for on behalf of this image
	Expired   int        `json:"expired,omitempty"`  // trials in a row whose time ran out
	Reason    *Reason    `json:"reason,omitempty"`   // why it is refused, or what its last trial came to
	Signer    string     `json:"signer,omitempty"`   // who signed it; empty when no signature was asked for
	Updated   time.Time  `json:"updated"`
}

// NewRecord returns the state a device leaves the factory with: enabled, nothing done yet.
func NewRecord() *Record {
	return &Record{Schema: RecordSchema, Enabled: true}
}

// NewSession returns a session that starts at now, with an identifier nothing else on the device has.
func NewSession(now time.Time) *Session {
	return &Session{ID: rand.Text(), Started: now.UTC()}
}

// SetEnabled turns the flag of RFC 8572 §5.1 on or off. session is empty when a person does so, and the value of the
// environment variable ZTP_SESSION when a script or configuration handler does: what a session did to the flag is taken
// back when the session is, what a person did is not.
func (r *Record) SetEnabled(on bool, session string) {
	byScript := session != "" && r.Session != nil && r.Session.ID == session
	if r.Session != nil {
		r.Session.FlagCleared = byScript && !on && (r.Enabled || r.Session.FlagCleared)
	}
	r.Enabled = on
	if on && r.Outcome == OutcomeNone {
		r.Reason = nil // it told why the device was disabled
	}
}

// StartOver forgets how the last session ended, and which images were refused, so that a new session begins with every
// chance. The journal stays, and the session that it belongs to: what it names still has to be undone.
func (r *Record) StartOver() {
	r.Outcome, r.Reason = OutcomeNone, nil
	if len(r.Journal) == 0 {
		r.Session = nil
	}
	for key := range r.Images {
		r.forgive(key)
	}
}
