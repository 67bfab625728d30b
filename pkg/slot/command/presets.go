package command

import (
	"encoding/json"
	"errors"
	"strings"
)

// Presets are the names that Preset knows.
func Presets() []string { return []string{"mlxbf-bootctl", "rauc", "sonic-installer", "swupdate"} }

// Preset returns the commands of a usual installer, or nil.
func Preset(name string) *Tool {
	switch name {
	case "rauc":
		return RAUC()
	case "swupdate":
		return SWUpdate()
	case "sonic-installer":
		return SONiC()
	case "mlxbf-bootctl":
		return BlueField()
	}
	return nil
}

// commands reads the commands of a preset: an action and the argument vector in each line, and no argument with a space.
func commands(text string) *Tool {
	t := &Tool{}
	for line := range strings.Lines(text) {
		name, command, _ := strings.Cut(strings.TrimSpace(line), ": ")
		argvs := t.action(name)
		*argvs = append(*argvs, strings.Fields(command))
	}
	return t
}

// RAUC installs a bundle. It verifies its signature with a keyring of its own, marks the slot bad before it writes to it, and
// has it started next in the end. Falling back is up to the boot loader, which counts attempts: U-Boot, barebox, GRUB and EFI
// do as far as their scripts are those of RAUC's manual; with bootloader=noop nothing falls back. RAUC's own
// rauc-mark-good.service must be disabled, since it marks good whatever starts; instead this marks each boot of a device that
// is provisioned. "rauc install" only asks the service: one that takes too long goes on in it.
//
// Sources: rauc(1); docs/using.rst and docs/integration.rst ("Identification of Booted Slot", "mark-good") of
// github.com/rauc/rauc; the JSON is that of r_status_formatter_json in src/main.c, since version 1.0.
func RAUC() *Tool {
	t := commands(`status: rauc status --output-format=json
		install: rauc install {image}
		activate: rauc status mark-active {slot}
		deactivate: rauc status mark-active {good}
		mark-good: rauc status mark-good {slot}`)
	t.EachBoot, t.parse = true, parseRAUC
	return t
}

// parseRAUC reads a status of RAUC: the booted slot, the one that boots next, and another one of the booted one's class.
func parseRAUC(output []byte) (*answer, error) {
	type state struct {
		Class    string `json:"class"`
		State    string `json:"state"`
		BootName string `json:"bootname"`
	}
	var status struct {
		Primary string              `json:"boot_primary"`
		Slots   []map[string]*state `json:"slots"`
	}
	if err := json.Unmarshal(output, &status); err != nil {
		return nil, err
	}
	a := &answer{next: status.Primary}
	class := ""
	for _, one := range status.Slots {
		for name, s := range one {
			if s != nil && s.State == "booted" {
				a.running, class = name, s.Class
			}
		}
	}
	if a.running == "" {
		return a, errors.New("RAUC does not know which slot it was booted from")
	}
	for _, one := range status.Slots {
		for name, s := range one {
			if s != nil && s.Class == class && name != a.running && s.BootName != "" {
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
func SWUpdate() *Tool {
	t := commands(`status: swupdate --get-root
		install: swupdate --image {image} --select stable,{slot}
		mark-good: fw_setenv ustate 0
		mark-good: fw_setenv upgrade_available 0
		mark-good: fw_setenv bootcount 0`)
	t.Answer.Running, t.needsSlots = place, true
	return t
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
func SONiC() *Tool {
	// An image that is there already is not installed again, whatever it holds; cleanup removes it. The default alone does not
	// take back what was to be started once.
	t := commands(`status: sonic-installer list
		identify: sonic-installer binary-version {image}
		install: sonic-installer cleanup -y
		install: sonic-installer install -y {image}
		activate: sonic-installer set-default {good}
		activate: sonic-installer set-next-boot {slot}
		deactivate: sonic-installer set-default {good}
		deactivate: sonic-installer set-next-boot {good}
		mark-good: sonic-installer set-default {slot}`)
	t.Answer.Running, t.Answer.Next = "Current: "+place, "Next: "+place
	return t
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
func BlueField() *Tool {
	// --swap toggles, and without --watchdog-swap beside it ends the watchdog.
	t := commands(`status: mlxbf-bootctl
		install: mlxbf-bootctl --bootstream {image}
		activate: mlxbf-bootctl --swap --watchdog-swap 180
		rearm: mlxbf-bootctl --watchdog-swap 180
		deactivate: mlxbf-bootctl --swap --nowatchdog-swap
		mark-good: mlxbf-bootctl --nowatchdog-swap`)
	t.Answer.Next, t.Answer.Other = "primary: "+place, "backup: "+place // in the next boot, not in this one
	return t
}
