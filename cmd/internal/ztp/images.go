package ztp

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/xpu-sztp/ztp/cmd/internal/command"
	"github.com/xpu-sztp/ztp/pkg/daemon"
	"github.com/xpu-sztp/ztp/pkg/statusview"
)

func (a *app) images() *command.Command {
	var clear string
	var asJSON bool
	return &command.Command{
		Name:     "images",
		Synopsis: "[--json | --clear SHA256]",
		Short:    "Show the boot images that the device has tried, and have one tried again",
		Long: "Show the boot images that the device has tried, the latest first, and what became of them. One that was installed\n" +
			"image.attempts times without lasting, or that does not run as what the server calls it, is refused for a day.\n" +
			"With --clear nothing is held against an image any more, and the next session may install it; a running one is not\n" +
			"disturbed. `ztp run` does the same for all of them.",
		Flags: []command.Flag{
			{Name: "clear", Arg: "SHA256", Text: &clear, Usage: "forget what is held against the image whose SHA-256 begins so"},
			{Name: "json", On: &asJSON, Usage: "print JSON"},
		},
		Exclusive: [][2]string{{"clear", "json"}},
		Run: func(context.Context, []string) error {
			control, err := daemon.NewControl(a.root)
			if err != nil {
				return err
			}
			if clear != "" {
				sha256, err := control.ClearImage(clear)
				if err == nil {
					fmt.Fprintf(a.out, "nothing is held against the image with SHA-256 %s any more\n", sha256)
				}
				return err
			}
			list, err := control.Images()
			switch {
			case err != nil:
				return err
			case asJSON:
				return json.NewEncoder(a.out).Encode(list)
			case len(list) == 0:
				fmt.Fprintln(a.out, "no image was tried yet")
				return nil
			}
			_, err = fmt.Fprint(a.out, statusview.Images(list, time.Now()))
			return err
		},
	}
}
