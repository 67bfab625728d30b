// Command ztp provisions the device it runs on (RFC 8572), and shows how that goes.
package main

import "os"

func main() {
	os.Exit(run(os.Args[1:], streams{out: os.Stdout, err: os.Stderr}))
}
