package daemon

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/doctor"
	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/systemd"
)

// socketUnit is where the privileged process is asked, where there are two.
const socketUnit = "ztp-onboard.socket"

// unitFacts looks at the files of systemd, as an image that does not run has them too. user is whom the unit runs the agent as; ""
// is root.
func unitFacts(paths config.Paths) (f doctor.UnitFacts, user string) {
	f.Systemd = paths.Root == "/" && systemd.Running()
	f.File, f.Masked, f.Enabled = unitFile(paths, string(unit))
	for line := range strings.Lines(unitText(paths, f.File)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch {
		case key == "User":
			user = value
		case key == "Requires" && slices.Contains(strings.Fields(value), socketUnit):
			if file, masked, _ := unitFile(paths, socketUnit); file == "" || masked {
				f.Lacks = socketUnit
			}
		}
	}
	f.AtRest = state.AtRest(paths.State, paths.Release())
	return f, user
}

// unitPlaces are the folders of units, strongest first.
func unitPlaces() []string {
	return []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}
}

// unitText is the file of a unit and, below it, its drop-ins in the order of their names.
func unitText(paths config.Paths, file string) string {
	var drops []string
	for _, place := range unitPlaces() {
		found, _ := filepath.Glob(filepath.Join(paths.Below(place), filepath.Base(file)+".d", "*.conf"))
		drops = append(drops, found...)
	}
	slices.SortFunc(drops, func(a, b string) int { return strings.Compare(filepath.Base(a), filepath.Base(b)) })
	all := ""
	for _, part := range append([]string{file}, drops...) {
		text, _ := os.ReadFile(part)
		all += string(text) + "\n"
	}
	return all
}

// unitFile finds the file of a unit that counts, and whether another unit wants it.
func unitFile(paths config.Paths, name string) (file string, masked, wanted bool) {
	for _, place := range unitPlaces() {
		here := filepath.Join(paths.Below(place), name)
		if _, err := os.Lstat(here); err == nil && file == "" {
			file = here
			target, _ := os.Readlink(here)
			masked = target == os.DevNull
		}
		links, _ := filepath.Glob(filepath.Join(paths.Below(place), "*.[wr]*", name)) // .wants and .requires
		wanted = wanted || len(links) > 0
	}
	return file, masked, wanted
}
