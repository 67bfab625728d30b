package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/xpu-sztp/ztp/cmd/internal/command"
)

// version is set by the build with -ldflags "-X main.version=1.2.3".
var version string

func (a *app) version() *command.Command {
	return &command.Command{
		Name:  "version",
		Short: "Show the version",
		Run: func(context.Context, []string) error {
			fmt.Fprintf(a.out, "version  %s\n", release())
			if commit := commit(); commit != "" {
				fmt.Fprintf(a.out, "commit   %s\n", commit)
			}
			_, err := fmt.Fprintf(a.out, "go       %s %s/%s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

// release is the version, or what the Go tool knows of a build that is none.
func release() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

// commit is the commit the binary was built from; "+changes" marks one that nobody else has.
func commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	hash := settings["vcs.revision"]
	if hash != "" && settings["vcs.modified"] == "true" {
		hash += "+changes"
	}
	return hash
}
