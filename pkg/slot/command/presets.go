package command

import (
	"encoding/json"
	"errors"
)

// Presets are the names that Preset knows.
func Presets() []string { return []string{"mlxbf-bootctl", "rauc", "sonic-installer", "swupdate"} }

// Preset returns the commands of a usual installer.
func Preset(name string) (Tool, bool) {
	switch name {
	case "rauc":
		return RAUC(), true
	case "swupdate":
		return SWUpdate(), true
	case "sonic-installer":
		return SONiC(), true
	case "mlxbf-bootctl":
		return BlueField(), true
	}
	return Tool{}, false
}

// RAUC installs a bundle. It verifies its signature with a keyring of its own, marks the slot bad before it writes to it, and
// has it started next in the end. Falling back is up to the boot loader, which counts attempts: U-Boot, barebox, GRUB and EFI
// do as far as their scripts are those of RAUC's manual; with bootloader=noop nothing falls back. RAUC's own
// rauc-mark-good.service must be disabled, since it marks good whatever starts; instead this marks each boot of a device that
// is provisioned. "rauc install" only asks the service: one that takes too long goes on in it.
//
// Sources: rauc(1); docs/using.rst and docs/integration.rst ("Identification of Booted Slot", "mark-good") of
// github.com/rauc/rauc; the JSON is that of r_status_formatter_json in src/main.c, since version 1.0.
func RAUC() Tool {
	return Tool{
		Status:     [][]string{{"rauc", "status", "--output-format=json"}},
		Install:    [][]string{{"rauc", "install", "{image}"}},
		Activate:   [][]string{{"rauc", "status", "mark-active", "{slot}"}},
		Deactivate: [][]string{{"rauc", "status", "mark-active", "{good}"}},
		MarkGood:   [][]string{{"rauc", "status", "mark-good", "{slot}"}},
		EachBoot:   true,
		parse:      parseRAUC,
	}
}

// parseRAUC reads a status of RAUC: the booted slot, the one that boots next, and another one of the booted one's class.
func parseRAUC(output []byte) (answer, error) {
	type state struct {
		Class    string `json:"class"`
		State    string `json:"state"`
		BootName string `json:"bootname"`
	}
	var status struct {
		Primary string             `json:"boot_primary"`
		Slots   []map[string]state `json:"slots"`
	}
	if err := json.Unmarshal(output, &status); err != nil {
		return answer{}, err
	}
	a := answer{next: status.Primary}
	class := ""
	for _, one := range status.Slots {
		for name, s := range one {
			if s.State == "booted" {
				a.running, class = name, s.Class
			}
		}
	}
	if a.running == "" {
		return a, errors.New("RAUC does not know which slot it was booted from")
	}
	for _, one := range status.Slots {
		for name, s := range one {
			if s.Class == class && name != a.running && s.BootName != "" {
				if a.other != "" {
					return a, errors.New("there are more than two slots to boot from")
				}
				a.other = name
			}
		}
	}
	return a, nil
}

// SWUpdate installs a .swu file with the set of images "stable" for the slot that does not run; Slots are the modes of its
// sw-description, such as copy1 and copy2, with the devices of their root file systems. It verifies signatures if it was
// built and configured to. The file itself says what is started next, so that nothing can be taken back. Falling back is up to
// the boot loader: it has to count attempts while the variable ustate (or upgrade_available) is 1, as U-Boot does with
// bootlimit and altbootcmd; without that nothing falls back. Other programs than U-Boot's need another mark-good.
//
// Sources: doc/source/swupdate.rst (--image, --select, --get-root), swupdate-best-practise.rst (ustate) of
// github.com/sbabic/swupdate; doc/api/bootcount.rst of U-Boot.
func SWUpdate() Tool {
	return Tool{
		Status:  [][]string{{"swupdate", "--get-root"}},
		Answer:  Answer{Running: "(*)"},
		Install: [][]string{{"swupdate", "--image", "{image}", "--select", "stable,{slot}"}},
		MarkGood: [][]string{
			{"fw_setenv", "ustate", "0"}, {"fw_setenv", "upgrade_available", "0"}, {"fw_setenv", "bootcount", "0"},
		},
		needsSlots: true,
	}
}

// SONiC installs a SONiC image as the only one beside the running one; images are slots. The tool makes it the default by
// itself and for ever; only Activate restores the old default and has the new image started once. A power cut in between
// starts the new image, verified and complete, without a way back; one while it is installed may meet the boot loader's
// configuration half written, which the tool rewrites in place. After a failed trial GRUB and U-Boot start the default, but
// something has to reset the device: a watchdog, or panic= on the kernel's command line. An image with the version of the
// running one cannot be installed beside it and is refused.
//
// Source: sonic_installer/main.py (list, binary-version, install, cleanup, set-default, set-next-boot) and sonic_installer/bootloader of
// github.com/sonic-net/sonic-utilities.
func SONiC() Tool {
	return Tool{
		Status:   [][]string{{"sonic-installer", "list"}},
		Answer:   Answer{Running: "Current: (*)", Next: "Next: (*)"},
		Identify: [][]string{{"sonic-installer", "binary-version", "{image}"}},
		// An image that is there already is not installed again, whatever it holds; cleanup removes it.
		Install:  [][]string{{"sonic-installer", "cleanup", "-y"}, {"sonic-installer", "install", "-y", "{image}"}},
		Activate: [][]string{{"sonic-installer", "set-default", "{good}"}, {"sonic-installer", "set-next-boot", "{slot}"}},
		// The default alone does not take back what was to be started once.
		Deactivate: [][]string{{"sonic-installer", "set-default", "{good}"}, {"sonic-installer", "set-next-boot", "{good}"}},
		MarkGood:   [][]string{{"sonic-installer", "set-default", "{slot}"}},
	}
}

// BlueField writes a boot stream (ATF and UEFI, not an operating system) into the eMMC boot partition that is not used. After
// the next reset it is started, and a watchdog of three minutes and every further reset swap the partitions back until it is
// marked good. Linux must refresh the watchdog (sbsa_gwdt). What is to happen after a reset is kept by the chip, not by the
// eMMC: when the power is cut between Activate and the reset, the new boot stream is started without a way back. While the
// tool writes, the eMMC forgets which partition to boot from until it is told again, so that a power cut then may start the
// one that is being written, if that is the first.
//
// Sources: mlxbf-bootctl(8), README.md ("Safely Updating from the ARM Cores") and mlxbf-bootctl.c of
// github.com/Mellanox/mlxbf-bootctl; Documentation/ABI/testing/sysfs-platform-mellanox-bootctl of Linux.
func BlueField() Tool {
	return Tool{
		Status:  [][]string{{"mlxbf-bootctl"}},
		Answer:  Answer{Next: "primary: (*)", Other: "backup: (*)"}, // the one of the next boot, and its opposite
		Install: [][]string{{"mlxbf-bootctl", "--bootstream", "{image}"}},
		// --swap toggles, and without --watchdog-swap beside it ends the watchdog.
		Activate:   [][]string{{"mlxbf-bootctl", "--swap", "--watchdog-swap", "180"}},
		Rearm:      [][]string{{"mlxbf-bootctl", "--watchdog-swap", "180"}},
		Deactivate: [][]string{{"mlxbf-bootctl", "--swap", "--nowatchdog-swap"}},
		MarkGood:   [][]string{{"mlxbf-bootctl", "--nowatchdog-swap"}},
	}
}
