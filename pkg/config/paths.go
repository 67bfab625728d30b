package config

import (
	"path/filepath"
	"strings"
)

// Paths says where the agent keeps its own files. All of them lie below Root.
type Paths struct {
	Root    string // "/" on a device
	State   string // folder of what survives a reboot: /var/lib/ztp
	Runtime string // folder of what does not: /run/ztp
	Status  string // live status: /run/ztp/status.json
	Trial   string // when in this boot the trial of the system began, if it is on one: /run/ztp-trial
	Onboard string // private folder of an onboarding in progress: /var/lib/ztp/onboard
}

// NewPaths returns the paths below root; an empty root is "/". root is made absolute, so that a later change of the
// working directory does not move the files.
func NewPaths(root string) (Paths, error) {
	if root == "" {
		root = "/"
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return Paths{}, err
	}
	p := Paths{Root: root}
	p.State = p.Below("/var/lib/ztp")
	p.Runtime = p.Below("/run/ztp")
	p.Status = p.Below("/run/ztp/status.json")
	p.Trial = p.Below("/run/ztp-trial")
	p.Onboard = p.Below("/var/lib/ztp/onboard")
	return p, nil
}

// Below relocates a path of the device below the root. Everything that names a file is relocated: device nodes, folders
// of trust anchors, globs, and the socket in "unix:PATH". Commands are not, since what they run is the system's affair.
func (p Paths) Below(path string) string {
	if socket, ok := strings.CutPrefix(path, unixPrefix); ok {
		return unixPrefix + p.Below(socket)
	}
	return filepath.Join(p.Root, filepath.Clean("/"+path)) // cleaned first: "/.." is "/", not the root's parent
}

const unixPrefix = "unix:"

// relocate moves every path of c below its root.
func (c *Config) relocate() {
	move := func(path *string) {
		if strings.HasPrefix(strings.TrimPrefix(*path, unixPrefix), "/") {
			*path = c.Paths.Below(*path)
		}
	}
	move(&c.Identity.TPM)
	move(&c.Identity.Key)
	move(&c.Identity.Certificate)
	move(&c.Identity.DecryptKey)
	move(&c.Identity.DecryptCertificate)
	move(&c.Image.Slots)
	move(&c.Image.Cache)
	for name, slot := range c.Image.Slot {
		move(&slot.Device)
		c.Image.Slot[name] = slot
	}
	move(&c.Configuration.Path)
	move(&c.Configuration.Seed)
	lists := [][]string{
		c.Trust.BootstrapServers, c.Trust.Vouchers, c.Image.Anchors, c.Image.Signers, c.EFI.ESP, c.GRUB.Environment, c.Report.SSHHostKeys,
	}
	for _, list := range lists {
		for i := range list {
			move(&list[i])
		}
	}
}
