package main

import (
	_ "embed" // what the pages say besides

	"github.com/xpu-sztp/ztp/cmd/internal/command"
)

// What no table says: what the program and its units are for.
var (
	//go:embed description.txt
	description string
	//go:embed service.txt
	service string

	// kept is where the units keep things.
	kept = []command.Entry{
		{Term: "/var/lib/ztp", Text: "what survives a reboot and a change of the slot: whether provisioning is enabled, how it ended, records of images"},
		{Term: "/var/cache/ztp", Text: "images that are downloaded"},
		{Term: "/run/ztp/status.json", Text: "the live status, which `ztp status` shows"},
	}
)
