package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/xpu-sztp/ztp/cmd/internal/command"
)

// unitKinds are the files of a folder that are units.
var unitKinds = []string{".service", ".socket", ".target", ".timer", ".path", ".mount", ".slice"}

var descriptionLine = regexp.MustCompile(`(?m)^Description=(.+)$`)

// readUnits finds the units of a folder and what they say of themselves, the main one first.
func readUnits(folder string) ([]command.Entry, error) {
	files, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var units []command.Entry
	for _, f := range files {
		if !slices.Contains(unitKinds, filepath.Ext(f.Name())) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(folder, f.Name()))
		if err != nil {
			return nil, err
		}
		found := descriptionLine.FindSubmatch(text)
		if found == nil {
			return nil, fmt.Errorf("%s has no Description=", f.Name())
		}
		units = append(units, command.Entry{Term: f.Name(), Text: string(found[1])})
	}
	slices.SortStableFunc(units, func(a, b command.Entry) int { return rank(a) - rank(b) })
	if len(units) == 0 || units[0].Term != mainUnit {
		return nil, fmt.Errorf("%s has no %s", folder, mainUnit)
	}
	return units, nil
}

const mainUnit = "ztp.service"

func rank(unit command.Entry) int {
	if unit.Term == mainUnit {
		return 0
	}
	return 1
}

// unitsPage is ztp.service(8), which all units share.
func unitsPage(units []command.Entry, b build) string {
	var names []string
	for _, u := range units {
		names = append(names, u.Term)
	}
	p := newPage(mainUnit, 8, b, strings.Join(names, ", ")+" - provision the device at boot")
	p.section("SYNOPSIS")
	p.names(names)
	p.section("DESCRIPTION")
	p.text(strings.TrimSpace(service))
	p.section("UNITS")
	p.entries(units, bold)
	p.section("FILES")
	p.entries(kept, bold)
	p.section("SEE ALSO")
	p.WriteString(".BR ztp (8),\n.BR ztp.toml (5),\n.BR systemd.preset (5),\n.BR systemctl (1)\n")
	return p.String()
}

// unitAliases are the pages that only lead to the one of all units.
func unitAliases(units []command.Entry) map[string]string {
	pages := map[string]string{}
	for _, u := range units[1:] {
		pages[u.Term+".8"] = ".so man8/" + mainUnit + ".8\n"
	}
	return pages
}
