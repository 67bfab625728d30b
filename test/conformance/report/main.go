// Command report runs the tests that prove requirements and prints how many are proven, then the open ones. Arguments
// are passed on to go test. It is what `make conformance` runs.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/xpu-sztp/ztp/test/conformance"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	table, err := conformance.Table()
	if err != nil {
		return err
	}
	results, err := conformance.Run(ctx, ".", table, os.Args[1:], os.Stderr)
	if err != nil {
		return err
	}
	conformance.Report(os.Stdout, table, results)
	return nil
}
