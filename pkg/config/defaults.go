package config

import "time"

// Default returns the configuration of a device without any configuration file. Paths are those of the device, not yet
// relocated. systemd/ztp.toml shows the same values with their explanation; a test keeps the two equal.
func Default() Config {
	return Config{
		Identity: Identity{TPM: "/dev/tpmrm0", Key: "0x81020000", Certificate: "auto", DecryptCertificate: "auto"},
		Discovery: Discovery{
			Sources:   []string{"removable-storage", "dhcp", "dns", "well-known"},
			Include:   []string{"*"},
			Exclude:   []string{},
			WellKnown: []string{},
			Timeout:   Duration(time.Minute),

			VendorClass: "ztp",
			Static:      map[string]Static{},
		},
		Trust: Trust{
			BootstrapServers: []string{"/usr/lib/ztp/trust/bootstrap-servers", "/etc/ztp/trust/bootstrap-servers"},
			Vouchers:         []string{"/usr/lib/ztp/trust/vouchers", "/etc/ztp/trust/vouchers"},
			Assertions:       []string{"verified", "logged", "proximity"},
			Clock:            "auto",
			Revocation:       "fetch",
		},
		Image: Image{
			Installer:  "none",
			Slots:      "/var/lib/ztp/slots",
			Slot:       map[string]Slot{},
			Cache:      "/var/cache/ztp",
			MaxSize:    16 << 30,
			Decompress: "auto",
			Spool:      true,
			Discard:    true,
			Timeout:    Duration(2 * time.Hour),
			MinRate:    1 << 10,
			Stall:      Duration(30 * time.Second),
			Anchors:    []string{"/usr/lib/ztp/trust/images", "/etc/ztp/trust/images"},
			Attempts:   3,

			TrialTimeout: Duration(time.Hour),

			Signature:          "none",
			Signers:            []string{},
			SignatureNamespace: "ztp-image",
		},
		EFI:  EFI{ESP: []string{}},
		GRUB: GRUB{Environment: []string{"/boot/grub/grubenv", "/boot/grub/grubenv.copy"}, Variables: "ztp", Tries: 1},
		Command: Command{
			Status: [][]string{}, Identify: [][]string{}, Install: [][]string{},
			Activate: [][]string{}, Rearm: [][]string{}, Deactivate: [][]string{}, MarkGood: [][]string{},
			InstallTimeout: Duration(time.Hour), Timeout: Duration(time.Minute),
		},
		Configuration: Configuration{
			Handler: "none",
			Path:    "/var/lib/ztp/configuration",
			Seed:    "/var/lib/cloud/seed/nocloud",
			Command: []string{},
			Timeout: Duration(10 * time.Minute),
		},
		Scripts:     Scripts{Timeout: Duration(30 * time.Minute), OutputLimit: 64 << 10, WarningExit: 10},
		Report:      Report{SSHHostKeys: []string{"/etc/ssh/ssh_host_*_key.pub"}},
		Reboot:      Reboot{Command: []string{"systemctl", "reboot"}},
		Retry:       Retry{Initial: Duration(10 * time.Second), Max: Duration(10 * time.Minute)},
		Reprovision: Reprovision{Policy: "never", After: Duration(5 * time.Minute), SessionsPerDay: 4},
	}
}
