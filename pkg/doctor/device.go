package doctor

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/xpu-sztp/ztp/pkg/state"
)

// Privileges says what is missing to somebody who is not root.
func (l Lines) Privileges(root bool) {
	if !root {
		l.say("", warn+Privileges+" "+NotRoot, "not run as root: keys, folders and the network cannot be looked at as the agent would"+do+
			"run it as root, or with sudo")
	}
}

// Configuration is about the configuration's files: those that were read, or why they cannot be.
func (l Lines) Configuration(files []string, err error) {
	text := "valid: #1"
	switch {
	case err != nil:
		l.because(Configuration, err, "correct the configuration")
		return
	case len(files) == 0:
		text = "there is no configuration file, the defaults hold"
	}
	l.say("", pass+Configuration, text, strings.Join(files, ", "))
}

// Device tells what the device is doing, from its status or why that cannot be had.
func (l Lines) Device(s *state.Status, err error) {
	if err != nil {
		l.because(Device, err, "look at what `ztp status` says")
		return
	}
	r := state.Reason{Message: "it is not known why"}
	if s.Reason != nil {
		r = *s.Reason
	}
	kind, text := pass+Device, "enabled, not provisioned yet"
	switch exit := s.ExitCode(); {
	case s.PID != 0:
		text = "the agent runs (process #3, #4): nothing that could disturb it is done, and `ztp status` has what it found"
	case exit == state.ExitProvisioned:
		text = "provisioned: the agent does not run again by itself, `ztp run` provisions it anew"
	case exit == state.ExitDisabled && s.Reason != nil:
		kind, text = warn+Device+" "+Disabled, "provisioning is disabled on this device: #1"+do+"#2"
	case exit == state.ExitDisabled:
		kind, text = warn+Device+" "+Disabled, "provisioning is disabled on this device"+do+"turn it on with `ztp enable`"
	case exit == state.ExitFailed || s.Reason != nil:
		kind, text = warn+Device+" "+cmp.Or(r.Code, Failed), "not provisioned yet, the last session failed: #1"+do+"#2"
	}
	l.say("", kind, text, r.Message, cmp.Or(r.Hint, "`ztp status --verbose` and `journalctl -u ztp` tell more"),
		strconv.Itoa(s.PID), strings.ReplaceAll(string(s.Phase), "-", " "))
}

// UnitFacts are what the files of systemd say.
type UnitFacts struct {
	Systemd bool   // it runs this machine
	File    string // of the unit; empty without one
	Masked  bool
	Enabled bool   // something wants it at boot
	Needed  bool   // the device is enabled and not provisioned
	Lacks   string // another one that it requires, which is missing or masked
	AtRest  string // a file by which systemd does not start it
}

// Unit tells whether the agent is started at boot.
func (l Lines) Unit(f *UnitFacts) {
	kind, text := pass+Unit, "#1 is started at boot"
	switch {
	case f.Masked:
		kind, text = fail+Unit+" "+UnitMasked, "the unit ztp.service is masked: it cannot be started"+do+"systemctl unmask ztp.service"
	case f.File == "" && f.Systemd:
		kind, text = fail+Unit+" "+UnitMissing, "systemd runs this machine, and has no unit ztp.service"+do+"install the unit that comes with ztp"
	case f.File == "":
		kind, text = warn+Unit+" "+UnitMissing, "there is no unit ztp.service, so that something else has to start the agent"+do+
			"install the unit that comes with ztp, or have `ztp daemon` started at boot"
	case f.Lacks != "":
		kind, text = fail+Unit+" "+UnitIncomplete, "#1 cannot be started without #2, which is missing or masked"+do+
			"install the units that come with ztp, or systemctl unmask #2"
	case f.AtRest != "" && f.Needed:
		kind, text = fail+Unit+" "+UnitAtRest, "#1 is not started, because #3 says that there is nothing to do; the record has been replaced without it"+do+
			"`ztp enable`, which takes the file away"
	case !f.Enabled && f.Needed:
		kind, text = warn+Unit+" "+UnitDisabled, "the unit #1 is not started at boot"+do+"`ztp enable`, or systemctl preset ztp.service on an image"
	case !f.Enabled:
		text = "#1 is not started at boot, and need not be"
	}
	l.Mildly(!f.Needed).say("", kind, text, f.File, f.Lacks, f.AtRest)
}

// User judges what the user may not use whom the agent runs as.
func (l Lines) User(name string, denied []string) {
	kind, text := pass+User, "the agent runs as #1, who may use its configuration, trust anchors and identity"
	if len(denied) > 0 {
		kind, text = fail+User+" "+UserDenied, "the agent runs as #1, who may not use what it needs: #2 (or a folder above)"+do+
			"let the group #1 read files and folders, and use the device of the TPM (60-ztp.rules of udev gives it to the group tss)"
	}
	l.say("", kind, text, name, strings.Join(denied, ", "))
}

// FolderFacts are what is known of a folder without writing to it.
type FolderFacts struct {
	Path       string
	Existing   string // it, or the closest one above it that there is
	FileSystem string // its type, as far as it matters
	Free       int64  // bytes
	Err        error  // why it cannot be written to
}

// Types of file systems that matter: what is on them is lost at the next boot, or may be.
const (
	InMemory = "tmpfs"
	Overlay  = "overlay"
)

// leastRoom is what a folder needs for records and staged scripts, in bytes.
const leastRoom = 16 << 20

// Folder judges a folder that the agent writes to; durable says that it must outlast a reboot.
func (l Lines) Folder(check string, f *FolderFacts, durable bool) {
	kind, code, text, why := pass, "", "#1 can be written to, #2 free", ""
	switch {
	case f.Err != nil:
		kind, code, text, why = fail, " "+FolderReadOnly, "#1 cannot be written to: #3"+do+
			"mount it for writing, make it root's, and see what the unit may write to", f.Err.Error()
	case durable && f.FileSystem == InMemory:
		kind, code, text = fail, " "+FolderVolatile, "#1 is in memory: the device would forget at each boot that it was provisioned"+do+
			"put #1 on a file system that outlasts reboots, and changes of the slot"
	case f.Free < leastRoom:
		kind, code, text = warn, " "+FolderFull, "#1 has only #2 free"+do+"make room there"
	case durable && f.FileSystem == Overlay:
		kind, code, text = warn, " "+FolderOverlay, "#1 is an overlay: whether it outlasts a reboot depends on where its upper folder is"+do+
			"see that the upper folder (`findmnt -T #4`) is on durable storage that both slots share"
	}
	l.say("", kind+check+code, text, f.Path, size(f.Free), why, f.Existing)
}

// Scripts judges what scripts, and the reboot after an image, need: programs that were not found. Where the scripts lie matters
// less: the agent starts their interpreters itself.
func (l Lines) Scripts(missing []string) {
	kind, text := pass+Scripts, "there is a shell, and what reboots the device"
	if len(missing) > 0 {
		kind, text = warn+Scripts+" "+ProgramMissing, "not found: #1"+do+"install what most scripts begin with, and what reboot.command names"
	}
	l.say("", kind, text, strings.Join(missing, ", "))
}

func size(n int64) string {
	unit := " KiB"
	if n >>= 10; n >= 10<<10 {
		n, unit = n>>10, " MiB"
	}
	if n >= 10<<10 {
		n, unit = n>>10, " GiB"
	}
	return strconv.FormatInt(n, 10) + unit
}
