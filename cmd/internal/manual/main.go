// Command manual writes the manual pages and shell completions of ztp into a folder: ztp(8) from the table of commands, ztp.toml(5)
// from the commented default configuration, ztp.service(8) from the units.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/xpu-sztp/ztp/cmd/internal/command"
	"github.com/xpu-sztp/ztp/cmd/internal/ztp"
)

// build is what pages say of where they come from.
type build struct {
	version, date string          // the date as 2006-01-02
	configuration []command.Entry // files, from the weakest on
}

func main() {
	systemd := flag.String("systemd", "systemd", "folder of the units and of ztp.toml")
	version := flag.String("version", "unknown", "version of ztp")
	seconds := flag.Int64("epoch", 0, "when that was made, in seconds since 1970")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: manual [--systemd FOLDER] [--version VERSION] [--epoch SECONDS] FOLDER")
		os.Exit(2)
	}
	b := build{version: *version, date: time.Unix(*seconds, 0).UTC().Format(time.DateOnly)}
	if err := write(flag.Arg(0), *systemd, b); err != nil {
		fmt.Fprintln(os.Stderr, "manual:", err)
		os.Exit(1)
	}
}

func write(folder, systemd string, b build) error {
	files, err := makeFiles(ztp.Program(), systemd, b)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// makeFiles has the names under which shells and man look for the files.
func makeFiles(program *command.Command, systemd string, b build) (map[string]string, error) {
	defaults, err := os.ReadFile(filepath.Join(systemd, "ztp.toml"))
	if err != nil {
		return nil, err
	}
	units, err := readUnits(systemd)
	if err != nil {
		return nil, err
	}
	b.configuration = program.Files
	settings, err := settingsPage(string(defaults), b)
	if err != nil {
		return nil, err
	}
	files := unitAliases(units)
	files[program.Name+".8"] = programPage(program.Manual(), b)
	files["ztp.toml.5"] = settings
	files[mainUnit+".8"] = unitsPage(units, b)
	for shell, name := range map[string]string{"bash": program.Name, "zsh": "_" + program.Name, "fish": program.Name + ".fish"} {
		files[name] = command.CompletionScript(program.Name, shell)
	}
	return files, nil
}
