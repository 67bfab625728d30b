package ztp

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/xpu-sztp/ztp/cmd/internal/command"
)

func (a *app) version() *command.Command {
	return &command.Command{
		Name:  "version",
		Short: "Show the version",
		Run: func(context.Context, []string) error {
			fmt.Fprintf(a.out, "version  %s\n", a.built())
			if commit := commit(); commit != "" {
				fmt.Fprintf(a.out, "commit   %s\n", commit)
			}
			_, err := fmt.Fprintf(a.out, "go       %s %s/%s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

// built is the version, or what the Go tool knows of a build that is none.
func (a *app) built() string {
	if a.release != "" {
		return a.release
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
