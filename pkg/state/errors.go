package state

import "github.com/xpu-sztp/ztp/pkg/reason"

// Reason codes of this package.
const (
	ReasonCorrupt     reason.Code = "state-corrupt"     // the durable record cannot be read; it was moved aside
	ReasonSchema      reason.Code = "state-schema"      // the durable record was written by a newer version
	ReasonAccess      reason.Code = "state-access"      // the state folder cannot be used or read
	ReasonWrite       reason.Code = "state-write"       // the durable record cannot be written for good; what was there is intact
	ReasonLocked      reason.Code = "state-locked"      // another program keeps the record locked
	ReasonTooLarge    reason.Code = "state-too-large"   // a record beyond MaxRecord was not written
	ReasonRunning     reason.Code = "already-running"   // another daemon runs
	ReasonInterrupted reason.Code = "interrupted"       // the daemon ended in the middle of a session
	ReasonNoReboot    reason.Code = "reboot-overdue"    // the reboot that was asked for has not happened
	ReasonStatus      reason.Code = "status-unreadable" // the live status cannot be read
)
