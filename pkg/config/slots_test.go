package config_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/config"
)

const twoSlots = "[image.slot.a]\ndevice = \"/dev/a\"\n[image.slot.b]\ndevice = \"/dev/b\"\nentry = \"other\"\nargument = \"root=LABEL=b\"\n"

func TestSlots(t *testing.T) {
	c, root := load(t, map[string]string{config.AdminFile: twoSlots + "[image]\ninstaller = \"grub\"\n[grub]\nenvironment = [\"/boot/grubenv\"]\n"})
	want := map[string]config.Slot{
		"a": {Device: filepath.Join(root, "dev/a")},
		"b": {Device: filepath.Join(root, "dev/b"), Entry: "other", Argument: "root=LABEL=b"},
	}
	if diff := cmp.Diff(want, c.Image.Slot); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{filepath.Join(root, "boot/grubenv")}, c.GRUB.Environment); diff != "" {
		t.Error(diff)
	}
	if c.Image.EntryOf("a") != "a" || c.Image.EntryOf("b") != "other" {
		t.Error("wrong entries")
	}
	// A file replaces the slots of those before it, all of them.
	c, _ = load(t, map[string]string{config.AdminFile: twoSlots, "/etc/ztp/ztp.toml.d/1.toml": "[image.slot.c]\n"})
	if diff := cmp.Diff([]string{"c"}, c.Image.SlotNames()); diff != "" {
		t.Error(diff)
	}
}

// TestInstallersNeed names for each installer what it lacks.
func TestInstallersNeed(t *testing.T) {
	for name, tt := range map[string]struct{ file, want string }{
		"grub without slots":       {"[image]\ninstaller = \"grub\"\n", ":2: image.installer: is \"grub\", which needs two slots; there are 0"},
		"grub with three":          {"[image]\ninstaller = \"grub\"\n" + twoSlots + "[image.slot.c]\n", "there are 3"},
		"grub without a device":    {"[image]\ninstaller = \"grub\"\n[image.slot.a]\ndevice = \"/dev/a\"\n[image.slot.b]\n", "a slot has no device"},
		"efi without devices":      {"[image]\ninstaller = \"efi\"\n[image.slot.a]\n[image.slot.b]\n", "a slot has no device"},
		"efi of two kinds":         {"[image]\ninstaller = \"efi\"\n[image.slot.a]\nentry = \"a.efi\"\n[image.slot.b]\n", "unified kernel image and the other is not"},
		"efi with useless devices": {"[image]\ninstaller = \"efi\"\n[image.slot.a]\nentry = \"a.efi\"\ndevice = \"/dev/a\"\n[image.slot.b]\nentry = \"b.efi\"\n", "unified kernel image has a device"},
		"command without any":      {"[image]\ninstaller = \"command\"\n", "neither a preset nor install"},
		"command without devices":  {"[image]\ninstaller = \"command\"\n[command]\nactivate = [[\"x\"]]\n", "neither a preset nor install"},
		"command with one slot":    {"[image]\ninstaller = \"command\"\n[command]\npreset = \"rauc\"\n[image.slot.a]\n", "there are 1 slots"},
		"name with a slash":        {"[image.slot.\"a/b\"]\n", ":1: image.slot.\"a/b\": \"a/b\" is not a name"},
		"hidden name":              {"[image.slot.\"..\"]\n", "is not a name"},
		"relative device":          {"[image.slot.a]\ndevice = \"sda1\"\n", ":2: image.slot.a.device: \"sda1\" is not an absolute path"},
		"two arguments":            {"[image.slot.a]\nargument = \"a b\"\n", ":2: image.slot.a.argument: "},
		"unknown key of a slot":    {"[image.slot.a]\ndevise = \"/x\"\n", "did you mean image.slot.a.device?"},
		"three environments":       {"[grub]\nenvironment = [\"/a\", \"/b\", \"/c\"]\n", "the second is the copy"},
		"no program":               {"[command]\ninstall = [[]]\n", ":2: command.install: is empty"},
		"unknown placeholder":      {"[command]\ninstall = [[\"rauc\", \"install\", \"{img}\"]]\n", ":2: command.install: there is no placeholder {img} in"},
		"open placeholder":         {"[command]\ninstall = [[\"rauc\", \"{image\"]]\n", ":2: command.install: [\"rauc\" \"{image\"] has a { without a }"},
		"placeholder of another":   {"[command]\nactivate = [[\"x\", \"{image}\"]]\n", ":2: command.activate: there is no placeholder {image} in [\"x\" \"{image}\"]; this command has slot, good, device"},
		"placeholder in status":    {"[command]\nstatus = [[\"x\", \"{slot}\"]]\n", "this command has none"},
		"unknown preset":           {"[command]\npreset = \"rauk\"\n", ":2: command.preset: \"rauk\" is none of rauc, swupdate"},
		"status unread":            {"[image]\ninstaller = \"command\"\n[command]\ninstall = [[\"x\"]]\nstatus = [[\"x\"]]\n", "status without lines to find"},
		"lines without status":     {"[image]\ninstaller = \"command\"\n[command]\ninstall = [[\"x\"]]\nrunning = \"(*)\"\n", "lines without a status"},
		"one device":               {"[image]\ninstaller = \"grub\"\n[image.slot.a]\ndevice = \"/dev/a\"\n[image.slot.b]\ndevice = \"/dev//a\"\n", ":6: image.slot.b.device: is that of the other slot too"},
		"one entry":                {"[image]\ninstaller = \"grub\"\n[image.slot.a]\ndevice = \"/dev/a\"\nentry = \"x\"\n[image.slot.b]\ndevice = \"/dev/b\"\nentry = \"X\"\n", ":8: image.slot.b.entry: is that of the other slot too"},
		"entry like a name":        {"[image]\ninstaller = \"grub\"\n[image.slot.a]\ndevice = \"/dev/a\"\nentry = \"b\"\n[image.slot.b]\ndevice = \"/dev/b\"\n", ":5: image.slot.a.entry: is that"},
		"one argument":             {"[image]\ninstaller = \"grub\"\n[image.slot.a]\ndevice = \"/dev/a\"\nargument = \"x\"\n[image.slot.b]\ndevice = \"/dev/b\"\nargument = \"x\"\n", ":8: image.slot.b.argument: is that"},
		"one environment twice":    {"[grub]\nenvironment = [\"/a\", \"/a\"]\n", ":2: grub.environment: the copy must be another file"},
		"tries of GRUB's scripts":  {"[image]\ninstaller = \"grub\"\n" + twoSlots + "[grub]\ntries = 2\nvariables = \"grub\"\n", ":10: grub.tries: is 2 while"},
		"not a list of lists":      {"[command]\ninstall = [\"rauc\", \"install\"]\n", ":2: command.install: want a list of lists of strings"},
		"pattern without a place":  {"[command]\nrunning = \"Current:\"\n", "(*) once"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := config.Load(write(t, map[string]string{config.AdminFile: tt.file}))
			if err == nil {
				t.Fatal("accepted")
			}
			text := err.Error()
			if hint, ok := err.(interface{ Hint() string }); ok {
				text += " " + hint.Hint()
			}
			if !strings.Contains(text, tt.want) {
				t.Errorf("got %s, want %q in it", text, tt.want)
			}
		})
	}
	for name, file := range map[string]string{
		"file":           "[image]\ninstaller = \"file\"\n",
		"grub":           "[image]\ninstaller = \"grub\"\n" + twoSlots,
		"efi type 1":     "[image]\ninstaller = \"efi\"\n" + twoSlots,
		"efi unified":    "[image]\ninstaller = \"efi\"\n[image.slot.a]\nentry = \"a.efi\"\n[image.slot.b]\nentry = \"b.efi\"\n",
		"preset":         "[image]\ninstaller = \"command\"\n[command]\npreset = \"rauc\"\n",
		"own commands":   "[image]\ninstaller = \"command\"\n[command]\ninstall = [[\"a\", \"{image}\"], [\"b\"]]\n",
		"loader by hand": "[image]\ninstaller = \"command\"\n" + twoSlots + "[command]\nactivate = [[\"x\"]]\n",
	} {
		t.Run(name, func(t *testing.T) { load(t, map[string]string{config.AdminFile: file}) })
	}
}
