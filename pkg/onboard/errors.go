package onboard

import (
	"errors"

	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

// Reason codes of this package. Failed transfers and slots keep the codes of the packages that found them.
const (
	ReasonUntrusted reason.Code = "onboarding-untrusted" // the onboarding information is not a validated one
	ReasonReport    reason.Code = "report-refused"       // the server did not acknowledge a report that it must
	ReasonStaging   reason.Code = "onboarding-storage"   // scripts, data or backups cannot be kept
	ReasonRollback  reason.Code = "rollback-failed"      // a step could not be undone

	ReasonImageNowhere     reason.Code = "image-unobtainable" // neither the running version nor a URI to get it from
	ReasonImageNoInstaller reason.Code = "image-no-installer" // this device cannot install images
	ReasonImageRefused     reason.Code = "image-refused"      // installed too often without the demanded version coming up
	ReasonImageFellBack    reason.Code = "image-fell-back"    // the boot loader returned from it to the other slot
	ReasonImageExpired     reason.Code = "image-trial-over"   // it ran for image.trial-timeout without an acknowledged end
	ReasonReboot           reason.Code = "reboot-failed"      // the reboot command failed

	ReasonScriptNoInterpreter reason.Code = "script-no-interpreter" // no usable "#!" line, or its interpreter is missing
	ReasonScriptFailed        reason.Code = "script-failed"         // ended with an exit code that means error
	ReasonScriptKilled        reason.Code = "script-killed"         // ended by a signal
	ReasonScriptTimeout       reason.Code = "script-timeout"        // ran longer than scripts.timeout
	ReasonScriptStart         reason.Code = "script-start"          // could not be started

	ReasonConfigNoHandler reason.Code = "config-no-handler" // this device takes no configuration
	ReasonConfigMerge     reason.Code = "config-merge"      // the configuration cannot be merged into the present one
	ReasonConfigFormat    reason.Code = "config-format"     // the configuration is not of the kind that the handler takes
	ReasonConfigFile      reason.Code = "config-file"       // the configuration file cannot be read or replaced
	ReasonConfigFailed    reason.Code = "config-failed"     // the handler ended with an exit code that means error
	ReasonConfigKilled    reason.Code = "config-killed"     // the handler was ended by a signal
	ReasonConfigTimeout   reason.Code = "config-timeout"    // the handler ran longer than configuration.timeout
	ReasonConfigStart     reason.Code = "config-start"      // the handler could not be started
)

// failure is an error together with the report that tells the server of it.
type failure struct {
	report progress.Type
	err    error
	output string // of a script or handler; for the report alone, never for logs and status
}

func (f *failure) Error() string { return f.err.Error() }

func (f *failure) Unwrap() error { return f.err }

// asFailure gives errors that belong to no step the report that belongs to the whole.
func asFailure(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	return &failure{report: progress.BootstrapError, err: err}
}
