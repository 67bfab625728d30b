package daemon

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/slot"
	"github.com/xpu-sztp/ztp/pkg/slot/command"
	"github.com/xpu-sztp/ztp/pkg/slot/efi"
	"github.com/xpu-sztp/ztp/pkg/slot/grub"
	"github.com/xpu-sztp/ztp/pkg/slot/unpack"
)

// slotsOf returns what installs images as the configuration says; nil where nothing does.
func slotsOf(cfg *config.Config) (slot.Backend, error) {
	o := slotOptions(cfg.Image)
	names := cfg.Image.SlotNames()
	var slots [2]slot.Slot
	for i := range min(len(names), 2) {
		slots[i] = slot.Slot{Name: names[i], Path: cfg.Image.Slot[names[i]].Device}
	}
	switch cfg.Image.Installer {
	case "file":
		return slot.NewFile(o), nil
	case "grub":
		return slot.NewAB(grubOf(cfg, names), slots, o), nil
	case "efi":
		loader, err := efiOf(cfg, names)
		if err != nil {
			return nil, err
		}
		return slot.NewAB(loader, slots, o), nil
	case "command":
		return commandOf(cfg, names, slots, o)
	}
	return nil, nil
}

// commandOf is an external installer, or external programs that tell the boot loader about slots that the device writes itself.
func commandOf(cfg *config.Config, names []string, slots [2]slot.Slot, o slot.Options) (slot.Backend, error) {
	tool := toolOf(cfg.Command)
	c := command.Options{
		Tool: *tool, Dir: o.Dir, Image: filepath.Join(cfg.Image.Cache, "image"), MaxSize: o.MaxSize,
		Limits:      command.Limits{Install: time.Duration(cfg.Command.InstallTimeout), Other: time.Duration(cfg.Command.Timeout)},
		CommandLine: cfg.Paths.Below("/proc/cmdline"), BootID: cfg.Paths.Below("/proc/sys/kernel/random/boot_id"),
	}
	for _, name := range names {
		entry := cfg.Image.Slot[name]
		c.Slots = append(c.Slots, command.Slot{Name: name, Device: cmp.Or(entry.Entry, entry.Device), Argument: entry.Argument})
	}
	if len(tool.Install) == 0 {
		loader, err := command.NewLoader(c)
		if err != nil {
			return nil, unusable(cfg, "command", err)
		}
		return slot.NewAB(loader, slots, o), nil
	}
	installer, err := command.NewInstaller(c)
	if err != nil {
		return nil, unusable(cfg, "command", err)
	}
	return installer, nil
}

// toolOf is the preset with what the configuration has instead.
func toolOf(c config.Command) *command.Tool {
	tool := command.Preset(c.Preset)
	if tool == nil {
		tool = &command.Tool{}
	}
	instead := func(to *[][]string, own [][]string) {
		if len(own) > 0 {
			*to = own
		}
	}
	instead(&tool.Status, c.Status)
	instead(&tool.Identify, c.Identify)
	instead(&tool.Install, c.Install)
	instead(&tool.Activate, c.Activate)
	instead(&tool.Rearm, c.Rearm)
	instead(&tool.Deactivate, c.Deactivate)
	instead(&tool.MarkGood, c.MarkGood)
	if answer := (command.Answer{Running: c.Running, Good: c.Good, Next: c.Next, Other: c.Other, Tries: c.Tries}); answer != (command.Answer{}) {
		tool.Answer = answer
	}
	tool.EachBoot = tool.EachBoot || c.EachBoot
	return tool
}

// slotOptions is how slots are written that the device writes itself.
func slotOptions(i config.Image) slot.Options {
	o := slot.Options{Dir: i.Slots, MaxSize: int64(i.MaxSize), KeepBlocks: !i.Discard}
	if i.Spool {
		o.Spool = i.Cache
	}
	switch i.Decompress {
	case "auto":
	case "none":
		o.Format = unpack.Raw
	default:
		o.Format = unpack.Format(i.Decompress)
	}
	return o
}

func efiOf(cfg *config.Config, names []string) (slot.Loader, error) {
	o := efi.Options{ESP: cfg.EFI.ESP, Vars: cfg.Paths.Below("/sys/firmware/efi/efivars"), Entries: map[string]string{}}
	if len(o.ESP) == 0 {
		for _, place := range efi.StandardPlaces() {
			o.ESP = append(o.ESP, cfg.Paths.Below(place))
		}
	}
	for _, name := range names {
		o.Entries[name] = cfg.Image.EntryOf(name)
	}
	loader, err := efi.New(o)
	if err != nil {
		return nil, unusable(cfg, "image.slot", err)
	}
	return loader, nil
}

// unusable is what package config cannot know about the configuration.
func unusable(cfg *config.Config, table string, err error) error {
	return &reason.Error{
		Code: config.Invalid, Msg: fmt.Sprintf("%s: [%s] does not suit image.installer %q", strings.Join(cfg.Files, ", "), table, cfg.Image.Installer),
		Fix: "see the commented default file ztp.toml for these keys", Err: err,
	}
}

func grubOf(cfg *config.Config, names []string) slot.Loader {
	o := grub.Options{Main: cfg.GRUB.Environment[0], Tries: cfg.GRUB.Tries, CommandLine: cfg.Paths.Below("/proc/cmdline")}
	if len(cfg.GRUB.Environment) > 1 {
		o.Copy = cfg.GRUB.Environment[1]
	}
	if cfg.GRUB.Variables == "grub" {
		o.Names = grub.GRUBNames()
	}
	for i, name := range names {
		o.Slots[i] = grub.Slot{Name: name, Entry: cfg.Image.EntryOf(name), Argument: cfg.Image.Slot[name].Argument}
	}
	return grub.New(o)
}
