package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/xpu-sztp/ztp/test/lab/dhcpd"
)

func dhcpOptionCommand() *cobra.Command {
	var server string
	c := &cobra.Command{
		Use:   "dhcp-option URL…",
		Short: "Print DHCP options 143 and 136 for bootstrap servers",
		Long: `Print DHCP option 143 (DHCPv4) and 136 (DHCPv6) of RFC 8572 for a list of bootstrap servers, as configuration for Kea, dnsmasq
and ISC dhcpd, and as the bytes on the wire. A URL is https://HOST[:PORT], without a path.`,
		Example: "  ztp-lab dhcp-option https://bootstrap.example.net:8443\n  ztp-lab dhcp-option --server dnsmasq https://[2001:db8::7]",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, urls []string) error {
			snippets, err := dhcpd.Snippets(urls...)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if server == "" {
				for _, s := range snippets {
					fmt.Fprintf(out, "# %s: %s\n%s\n\n", s.Server, s.Note, s.Text)
				}
				return nil
			}
			i := slices.IndexFunc(snippets, func(s dhcpd.Snippet) bool { return s.Server == server })
			if i < 0 {
				return fmt.Errorf("unknown server %q: use one of %s", server, strings.Join(servers(snippets), ", "))
			}
			fmt.Fprintln(out, snippets[i].Text)
			return nil
		},
	}
	c.Flags().StringVar(&server, "server", "", "print only this one: kea-dhcp4, kea-dhcp6, dnsmasq, isc-dhcpd, isc-dhcpd-6, hex-dhcp4, hex-dhcp6")
	return c
}

func servers(snippets []dhcpd.Snippet) []string {
	var names []string
	for _, s := range snippets {
		names = append(names, s.Server)
	}
	return names
}
