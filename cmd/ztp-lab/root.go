package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/xpu-sztp/ztp/pkg/reason"
)

// exitStatus is an error that has been told already and only carries the exit code.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func execute() int {
	err := rootCommand().Execute()
	var status exitStatus
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return int(status)
	}
	fmt.Fprintln(os.Stderr, "ztp-lab:", err)
	if _, hint := reason.Of(err); hint != "" {
		fmt.Fprintln(os.Stderr, "to do:", hint)
	}
	return 1
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "ztp-lab",
		Short: "A zero touch provisioning network on one machine",
		Long: "A whole secure zero touch provisioning network (RFC 8572) on one machine.\n" +
			"It is for demonstrations, tests and experiments, not a production server.",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(demoCommand(), upCommand(), artifactsCommand(), dhcpOptionCommand())
	return root
}
