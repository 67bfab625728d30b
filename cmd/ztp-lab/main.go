// Ztp-lab is a whole secure zero touch provisioning network (RFC 8572) on one machine, for demonstrations, tests and
// experiments. It is not a production server.
package main

import "os"

func main() { os.Exit(execute()) }
