package main

import (
	"context"
	"fmt"
	"time"

	"github.com/xpu-sztp/ztp/test/lab"
)

// scenario is one story. Its play returns an error when the story did not go as it must.
type scenario struct {
	name  string
	about string
	plan
	play func(context.Context, *rig) error
}

const (
	systemdBoot = "systemd-boot"
	newerBoot   = "systemd-boot of a newer release"
	grub        = "grub"
)

// scenarios are all that are played, those that take longest first.
func (o *options) scenarios() []scenario {
	if o.soak > 0 {
		var rounds []scenario
		for i := range o.soak {
			rounds = append(rounds, cutting(fmt.Sprintf("cuts-%d", i+1), o.seed+uint64(i)))
		}
		return rounds
	}
	return []scenario{
		{"hung", "GRUB; a new image that freezes, then one that works; the clock's battery is empty",
			plan{family: lab.IPv4, loader: grub, template: "H-2", image: once, clock: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)}, hung},
		cutting("cuts", o.seed),
		{"unbootable", "newer systemd-boot; a new image that does not boot, then one that does",
			plan{family: lab.IPv4, loader: newerBoot, template: "H-2", image: once}, unbootable},
		{"offline", "a new image that finds no network; the device leaves it in time",
			plan{family: lab.IPv4, loader: systemdBoot, template: "H-2", image: impatient}, offline},
		{"disable", "ztp disable amid a download, enable and run; run again once provisioned",
			plan{family: lab.IPv4, loader: systemdBoot, template: "H-2"}, disabled},
		{"carton", "systemd-boot, DHCPv4, RSA identity; from the carton to service",
			plan{family: lab.IPv4, loader: systemdBoot, template: "H-1"}, fromCarton},
		{"ipv6", "newer systemd-boot, no IPv4, ECC identity, everything encrypted; from the carton to service",
			plan{family: lab.IPv6, loader: newerBoot, template: "H-2", encrypts: true}, fromCarton},
		{"clock", "the clock says 1970, and the first voucher is for another device",
			plan{family: lab.IPv4, loader: systemdBoot, template: "H-2", clock: time.Unix(0, 0)}, wrongClock},
	}
}

func cutting(name string, seed uint64) scenario {
	return scenario{name, fmt.Sprintf("the power fails three times (-seed %d)", seed),
		plan{family: lab.IPv4, loader: systemdBoot, template: "H-2", image: patient, volatile: true}, powerCuts(seed)}
}
