// Command ztp provisions the device it runs on (RFC 8572), and shows how that goes.
package main

import (
	"os"

	"github.com/xpu-sztp/ztp/cmd/internal/ztp"
)

// version is set by the build with -ldflags "-X main.version=1.2.3".
var version string

func main() {
	os.Exit(ztp.Run(os.Args[1:], ztp.Streams{Out: os.Stdout, Err: os.Stderr}, version))
}
