package daemon

import (
	"context"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/pkg/doctor"
	"github.com/xpu-sztp/ztp/pkg/process"
	"github.com/xpu-sztp/ztp/pkg/slot"
)

// execution is what executing onboarding information needs.
func (d *diagnosis) execution(ctx context.Context, l doctor.Lines) {
	i := &d.cfg.Image
	l.Images(d.imageFacts(ctx))
	if i.Installer == "command" || i.Installer != "none" && i.Spool {
		l.ImageCache(folder(i.Cache), int64(i.MaxSize))
	}
	l.Handler(d.handlerFacts())
	l.Scripts(notFound([][]string{{"/bin/sh"}, d.cfg.Reboot.Command}))
}

func (d *diagnosis) imageFacts(ctx context.Context) *doctor.ImageFacts {
	f := &doctor.ImageFacts{Installer: d.cfg.Image.Installer, InUse: d.running}
	switch {
	case f.Installer == "none":
		return f
	case f.InUse: // tools and boot loaders are the agent's
		if s := d.status.Slots; s != nil {
			f.Slots.Running, f.Slots.Good = s.Running, s.Good
		}
		return f
	case f.Installer == "command":
		t := toolOf(d.cfg.Command)
		f.Missing = notFound(slices.Concat(t.Status, t.Identify, t.Install, t.Activate, t.Rearm, t.Deactivate, t.MarkGood))
		if len(f.Missing) > 0 {
			return f
		}
	}
	backend, err := slotsOf(d.cfg)
	if err == nil {
		f.Slots, err = backend.Describe(ctx)
	}
	if pair, ok := backend.(*slot.AB); ok && err == nil {
		f.Outlook, err = pair.Look(ctx)
	}
	f.Err = err
	return f
}

// notFound returns the programs of argument vectors that cannot be run.
func notFound(commands [][]string) (missing []string) {
	for _, argv := range commands {
		if len(argv) > 0 && findProgram(argv[0]) != nil && !slices.Contains(missing, argv[0]) {
			missing = append(missing, argv[0])
		}
	}
	return missing
}

// findProgram looks where the agent will, whatever the environment of whoever asks.
func findProgram(name string) (err error) {
	folders := filepath.SplitList(process.Path)
	if strings.Contains(name, "/") {
		folders = []string{""}
	}
	for _, folder := range folders {
		if _, err = exec.LookPath(filepath.Join(folder, name)); err == nil {
			return nil
		}
	}
	return err
}

func (d *diagnosis) handlerFacts() *doctor.HandlerFacts {
	c := &d.cfg.Configuration
	f := &doctor.HandlerFacts{Handler: c.Handler}
	if (c.Handler == "exec" || c.Handler == "cloud-init") && len(c.Command) > 0 {
		f.Program = c.Command[0]
		f.Missing = findProgram(f.Program)
	}
	switch c.Handler {
	case "file":
		f.Folder = folder(filepath.Dir(c.Path))
	case "cloud-init":
		f.Folder = folder(filepath.Dir(c.Seed))
	}
	return f
}

// folder looks at a folder, or at where it would be made.
func folder(path string) *doctor.FolderFacts {
	f := &doctor.FolderFacts{Path: path, Existing: path}
	for {
		if _, err := os.Stat(f.Existing); err == nil || f.Existing == filepath.Dir(f.Existing) {
			break
		}
		f.Existing = filepath.Dir(f.Existing)
	}
	const writeAndSearch = 2 | 1 // access(2)
	f.Err = syscall.Access(f.Existing, writeAndSearch)
	var fs unix.Statfs_t
	if err := unix.Statfs(f.Existing, &fs); err != nil {
		f.Err = err
		return f
	}
	switch fs.Type {
	case unix.TMPFS_MAGIC, unix.RAMFS_MAGIC:
		f.FileSystem = doctor.InMemory
	case unix.OVERLAYFS_SUPER_MAGIC:
		f.FileSystem = doctor.Overlay
	}
	if f.Free = int64(fs.Bavail) * fs.Bsize; fs.Blocks == 0 { // one in memory that has no limit
		f.Free = math.MaxInt64
	}
	return f
}
