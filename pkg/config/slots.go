package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// Slot is one of two places for images.
type Slot struct {
	Device string `toml:"device"` // block device, or file, that holds the image
	Entry  string `toml:"entry"`  // what the boot loader, or a command, calls it; empty is its name
	// Argument is the parameter in the kernel's command line that tells that it runs, where the boot loader needs one.
	Argument string `toml:"argument"`
}

// EFI is what installer "efi" needs besides the slots.
type EFI struct {
	ESP []string `toml:"esp"` // where the partition with the boot entries is mounted; empty is where it usually is
}

// GRUB is what installer "grub" needs besides the slots.
type GRUB struct {
	Environment []string `toml:"environment"` // the block in which GRUB counts and, with systemd/grub-slots.cfg, the second one
	Variables   string   `toml:"variables"`   // "ztp" with systemd/grub-slots.cfg, "grub" with GRUB's own scripts
	Tries       int      `toml:"tries"`       // boots of a slot on trial
}

// Command is what installer "command" runs; see package command. Each action is a list of argument vectors.
type Command struct {
	Preset     string     `toml:"preset"` // the commands of a usual installer; those below take the place of its own
	Status     [][]string `toml:"status"`
	Running    string     `toml:"running"` // lines in what Status prints, with "(*)" in the place of a slot
	Good       string     `toml:"good"`
	Next       string     `toml:"next"`
	Other      string     `toml:"other"`
	Tries      string     `toml:"tries"`
	Identify   [][]string `toml:"identify"` // prints what slot the image is going to be, where each image has its own
	Install    [][]string `toml:"install"`  // empty: the device writes the slots itself
	Activate   [][]string `toml:"activate"`
	Rearm      [][]string `toml:"rearm"`
	Deactivate [][]string `toml:"deactivate"`
	MarkGood   [][]string `toml:"mark-good"`
	EachBoot   bool       `toml:"each-boot"`
	// InstallTimeout is for Install, Timeout for each of the others.
	InstallTimeout Duration `toml:"install-timeout"`
	Timeout        Duration `toml:"timeout"`
}

// check wants a name that can be one of a file.
func (s *Slot) check(name string) (key string, err error) {
	odd := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r))
	}
	if name == "" || len(name) > 64 || name[0] == '.' || strings.ContainsFunc(name, odd) {
		return "", fmt.Errorf("%q is not a name of letters, digits, dots, hyphens and underscores", name)
	}
	if s.Device != "" {
		if err := absolute(s.Device); err != nil {
			return "device", err
		}
	}
	if err := text(s.Entry); err != nil {
		return "entry", err
	}
	if strings.ContainsAny(s.Argument, " \t\n\"\x00") {
		return "argument", fmt.Errorf("%q is not one parameter of a kernel's command line", s.Argument)
	}
	return "", nil
}

// SlotNames are the names of the slots, in the order of the alphabet.
func (i *Image) SlotNames() []string { return slices.Sorted(maps.Keys(i.Slot)) }

// EntryOf is what the boot loader calls a slot.
func (i *Image) EntryOf(name string) string {
	if entry := i.Slot[name].Entry; entry != "" {
		return entry
	}
	return name
}

// unified tells whether a boot entry of systemd-boot is a unified kernel image.
func unified(entry string) bool { return strings.HasSuffix(entry, ".efi") }

// checkImages judges whether an installer has what it needs. It returns the key that asks for what is missing.
func (c *Config) checkImages() (key, problem, fix string) {
	const installer = "image.installer"
	names := c.Image.SlotNames()
	devices := 0
	for _, name := range names {
		if c.Image.Slot[name].Device != "" {
			devices++
		}
	}
	uses := fmt.Sprintf("is %q", c.Image.Installer)
	switch c.Image.Installer {
	case "efi", "grub":
		if len(names) != 2 {
			return installer, fmt.Sprintf("%s, which needs two slots; there are %d", uses, len(names)),
				"write [image.slot.a] and [image.slot.b] with what belongs to each"
		}
	}
	if key, problem := c.sharedSlot(names); key != "" {
		return key, problem, "give each slot its own"
	}
	switch {
	case c.Image.Installer == "grub" && devices != 2:
		return installer, uses + " while a slot has no device", "set device below each [image.slot.NAME]"
	case c.Image.Installer == "efi" && unified(c.Image.EntryOf(names[0])) != unified(c.Image.EntryOf(names[1])):
		return installer, uses + " while one entry is a unified kernel image and the other is not", "make both slots of one kind"
	case c.Image.Installer == "efi" && unified(c.Image.EntryOf(names[0])) && devices != 0:
		return installer, uses + " while a unified kernel image has a device", "remove device: such an image is its own entry"
	case c.Image.Installer == "efi" && !unified(c.Image.EntryOf(names[0])) && devices != 2:
		return installer, uses + " while a slot has no device", "set device below each [image.slot.NAME]"
	case c.Image.Installer == "grub" && c.GRUB.Variables == "grub" && c.GRUB.Tries != 1:
		return "grub.tries", fmt.Sprintf("is %d while grub.variables is \"grub\", whose scripts try a slot once", c.GRUB.Tries),
			"set grub.tries to 1, or use grub-slots.cfg with grub.variables = \"ztp\""
	case c.Image.Installer == "command" && c.Command.Preset == "" && (len(c.Command.Status) == 0) != c.Command.silent():
		return installer, uses + " while [command] has a status without lines to find in it, or such lines without a status",
			"write status, and running, good, next or other as far as it prints them"
	case c.Image.Installer == "command" && len(names) != 0 && len(names) != 2:
		return installer, fmt.Sprintf("%s while there are %d slots", uses, len(names)), "name both slots, or none"
	case c.Image.Installer == "command" && c.Command.Preset == "" && len(c.Command.Install) == 0 && (len(c.Command.Activate) == 0 || devices != 2):
		return installer, uses + " while [command] has neither a preset nor install, nor activate with two slots that have devices",
			"choose a preset, or write the commands"
	}
	return "", "", ""
}

// silent tells whether nothing is looked for in what the status command prints.
func (c *Command) silent() bool { return c.Running+c.Good+c.Next+c.Other == "" }

// sharedSlot returns the key that gives two slots the same place or name.
func (c *Config) sharedSlot(names []string) (key, problem string) {
	if len(names) != 2 || c.Image.Installer == "file" || c.Image.Installer == "none" {
		return "", ""
	}
	a, b := c.Image.Slot[names[0]], c.Image.Slot[names[1]]
	const at, both = "image.slot.", "is that of the other slot too"
	switch {
	case a.Device != "" && filepath.Clean(a.Device) == filepath.Clean(b.Device):
		return at + names[1] + ".device", both
	case a.Argument != "" && a.Argument == b.Argument:
		return at + names[1] + ".argument", both
	case !strings.EqualFold(c.Image.EntryOf(names[0]), c.Image.EntryOf(names[1])):
	case b.Entry != "":
		return at + names[1] + ".entry", both
	default:
		return at + names[0] + ".entry", both
	}
	return "", ""
}

// commands wants argument vectors that name programs, with no placeholders but these.
func commands(list [][]string, placeholders ...string) error {
	for _, argv := range list {
		if err := command(argv); err != nil {
			return err
		}
		for _, element := range argv {
			for _, name := range strings.Split(element, "{")[1:] {
				name, _, closed := strings.Cut(name, "}")
				if !closed {
					return fmt.Errorf("%q has a { without a }", argv)
				}
				if !slices.Contains(placeholders, name) {
					return fmt.Errorf("there is no placeholder {%.32s} in %q; this command has %s", name, argv,
						cmp.Or(strings.Join(placeholders, ", "), "none"))
				}
			}
		}
	}
	return nil
}

func environment(list []string) error {
	if len(list) != 1 && len(list) != 2 {
		return errors.New("it is one file, or two of which the second is the copy")
	}
	if len(list) == 2 && list[0] == list[1] {
		return errors.New("the copy must be another file: it is what is left when a power cut damages the first")
	}
	return each(list, absolute)
}

func pattern(line string) error {
	if line != "" && strings.Count(line, "(*)") != 1 {
		return fmt.Errorf("%q does not have (*) once, in the place of the slot", line)
	}
	return nil
}
