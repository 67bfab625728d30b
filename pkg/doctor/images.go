package doctor

import (
	"strings"

	"github.com/xpu-sztp/ztp/pkg/slot"
)

// ImageFacts are what an image would find.
type ImageFacts struct {
	Installer string
	Err       error // why no image could be installed now
	Slots     slot.Description
	Outlook   slot.Outlook // empty where the installer decides
	Missing   []string     // programs
	InUse     bool         // by the agent that runs; then only Slots is known, if that
}

// Images judges whether an image could be installed.
func (l Lines) Images(f *ImageFacts) {
	s := &f.Slots
	kind, text, room := pass+Images, "slot #1 runs and is good, the next image goes to slot #3, which takes #4", "what fits"
	if f.Outlook.Room > 0 {
		room = size(f.Outlook.Room)
	}
	switch {
	case f.Installer == "none":
		kind, text = warn+Images+" "+NoInstaller, "image.installer is \"none\": onboarding information that demands an image is refused"+do+
			"set image.installer, unless this device never gets images"
	case f.InUse && s.Running == "":
		text = "the agent has the slots, and they are not looked at"
	case f.InUse:
		text = "the agent has the slots: #1 runs, #2 is good"
	case len(f.Missing) > 0:
		kind, text = fail+Images+" "+ProgramMissing, "not found: #5"+do+"install what the configuration names in [command], or correct it"
	case s.Running != "" && s.Trial():
		kind, text = warn+Images+" "+SlotOnTrial, "slot #1 is on trial, slot #2 is the only one to fall back to: no image can be installed before the next boot"+do+
			"have the session end that installed it, or reboot the device: it returns to slot #2"
	case f.Err != nil:
		l.because(Images, f.Err, "look at [image] in the configuration")
		return
	case f.Outlook.Room < f.Outlook.Running:
		kind, text = warn+Images+" "+SlotSmall, "slot #3, for the next image, takes #4, while slot #1 has #6: what runs now would not fit"+do+
			"make both slots as large, or see to it that images stay below that"
	}
	l.say("", kind, text, s.Running, s.Good, s.Target, room, strings.Join(f.Missing, ", "), size(f.Outlook.Running))
}

// usualImage is what a folder for downloads should hold at least, in bytes.
const usualImage = 512 << 20

// ImageCache judges the folder of what is downloaded of images that may be as large as maxSize, in bytes.
func (l Lines) ImageCache(f *FolderFacts, maxSize int64) {
	if f.Err == nil && f.Free < min(usualImage, maxSize) {
		l.say("", warn+ImageCache+" "+FolderFull, "#1 has only #2 free for what is downloaded of an image"+do+"make room there, or set image.cache to a folder with more",
			f.Path, size(f.Free))
		return
	}
	l.Folder(ImageCache, f, false)
}

// HandlerFacts are what commits configurations.
type HandlerFacts struct {
	Handler string
	Program string       // that it runs; may be empty
	Missing error        // why that cannot be run
	Folder  *FolderFacts // that it writes to; may be nil
}

// Handler judges whether a configuration could be committed.
func (l Lines) Handler(f *HandlerFacts) {
	kind, text, why := pass+ConfigHandler, "#1 runs #2", ""
	switch {
	case f.Handler == "none":
		kind, text = warn+ConfigHandler+" "+NoHandler, "configuration.handler is \"none\": onboarding information with a configuration is refused"+do+
			"set configuration.handler, unless this device never gets one"
	case f.Missing != nil:
		kind, text, why = fail+ConfigHandler+" "+ProgramMissing, "configuration.command cannot be run: #3"+do+
			"install the program, make it executable, or correct configuration.command", f.Missing.Error()
	case f.Folder != nil:
		l.Folder(ConfigHandler, f.Folder, false)
		return
	}
	l.say("", kind, text, f.Handler, f.Program, why)
}
