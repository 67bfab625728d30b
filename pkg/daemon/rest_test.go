package daemon

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/slot"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// TestIdle: no daemon is started at boot on a device that is provisioned or disabled, unless something is left to be done.
func TestIdle(t *testing.T) {
	provisioned := func(r *state.Record) { r.Outcome = state.OutcomeProvisioned }
	disabled := func(r *state.Record) { r.Enabled = false }
	entry := func(r *state.Record) { r.Journal = []state.Entry{{Step: state.StepPreScript}} }
	session := func(r *state.Record) { r.Session = &state.Session{ID: "x"} }
	good := func(r *state.Record) {
		r.Images = map[string]state.ImageRecord{"aa": {State: state.ImageGood, Slot: "b"}}
	}
	tests := map[string]struct {
		record  []func(*state.Record)
		policy  string
		blessed bool
		want    bool
	}{
		"fresh":                              {nil, "never", true, false},
		"in a session":                       {[]func(*state.Record){session}, "never", true, false},
		"failed":                             {[]func(*state.Record){func(r *state.Record) { r.Outcome = state.OutcomeFailed }}, "never", true, false},
		"provisioned":                        {[]func(*state.Record){provisioned}, "never", true, true},
		"provisioned and disabled":           {[]func(*state.Record){provisioned, disabled}, "never", true, true},
		"disabled":                           {[]func(*state.Record){disabled}, "never", true, true},
		"disabled in a session":              {[]func(*state.Record){disabled, session}, "never", true, true},
		"watches":                            {[]func(*state.Record){provisioned}, "on-network-change", true, false},
		"would watch, but disabled":          {[]func(*state.Record){provisioned, disabled}, "on-network-change", true, true},
		"a session on another network":       {[]func(*state.Record){provisioned, session}, "never", true, false},
		"something to undo":                  {[]func(*state.Record){provisioned, entry}, "never", true, false},
		"disabled with something to undo":    {[]func(*state.Record){disabled, entry}, "never", true, false},
		"a blessing is owed":                 {[]func(*state.Record){provisioned}, "never", false, false},
		"disabled, and a blessing is owed":   {[]func(*state.Record){disabled, good}, "never", false, false},
		"disabled on a trial of its own":     {[]func(*state.Record){disabled}, "never", false, true},
		"disabled, with an image once found": {[]func(*state.Record){disabled, good}, "never", true, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := state.NewRecord()
			for _, change := range tt.record {
				change(r)
			}
			if got := idle(r, tt.policy, tt.blessed); got != tt.want {
				t.Errorf("got %t", got)
			}
		})
	}
}

// described is a back end that can only tell.
type described struct {
	slot.Backend
	is  slot.Description
	err error
}

func (d described) Describe(context.Context) (slot.Description, error) { return d.is, d.err }

// TestBlessed asks the boot loader, and takes nothing for granted where it does not tell or wants to hear at each boot.
func TestBlessed(t *testing.T) {
	good := described{is: slot.Description{Running: "a", Good: "a"}}
	tests := map[string]struct {
		slots  slot.Backend
		config config.Config
		want   bool
	}{
		"no slots":   {nil, config.Config{}, true},
		"good":       {good, config.Config{}, true},
		"on trial":   {described{is: slot.Description{Running: "b", Good: "a"}}, config.Config{}, false},
		"not told":   {described{err: errors.New("no answer")}, config.Config{}, false},
		"each boot":  {good, config.Config{Image: config.Image{Installer: "command"}, Command: config.Command{EachBoot: true}}, false},
		"preset":     {good, config.Config{Image: config.Image{Installer: "command"}, Command: config.Command{Preset: "rauc"}}, false},
		"not in use": {good, config.Config{Image: config.Image{Installer: "efi"}, Command: config.Command{Preset: "rauc"}}, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d := &daemon{slots: tt.slots}
			if got := d.blessed(t.Context(), &tt.config); got != tt.want {
				t.Errorf("got %t", got)
			}
		})
	}
}

// TestRest has the word that a daemon leaves carry the name of the system, and be left by none that could not read the
// configuration.
func TestRest(t *testing.T) {
	for name, tt := range map[string]struct {
		invalid error
		want    int
	}{"nothing to do": {nil, 2}, "who knows": {errors.New("invalid"), 0}} {
		t.Run(name, func(t *testing.T) {
			paths, err := config.NewPaths(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			store, err := state.Open(paths.State)
			if err != nil {
				t.Fatal(err)
			}
			if err := store.Update(func(r *state.Record) error { r.Enabled = false; return nil }); err != nil {
				t.Fatal(err)
			}
			release := paths.Below("/etc/os-release")
			if err := os.MkdirAll(filepath.Dir(release), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(release, []byte("ID=\"lab os\"\nVERSION_ID=2\nBUILD_ID='7'\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			store.As(paths.Release())
			d := &daemon{Options: Options{Logger: slog.New(slog.DiscardHandler)}, paths: paths, store: store}
			d.rest(t.Context(), &config.Config{Reprovision: config.Reprovision{Policy: "never"}}, tt.invalid)
			found, err := filepath.Glob(filepath.Join(paths.State, "at-rest.*"))
			if err != nil || len(found) != tt.want || tt.want > 0 && filepath.Base(found[1]) != "at-rest.lab os-2--7" {
				t.Errorf("found %q, %v", found, err)
			}
		})
	}
}
