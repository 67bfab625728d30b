package device

import (
	"context"
	"fmt"
)

// configure writes what the maker puts on the image, and the drop-in of the test.
func (d *Device) configure(context.Context) error {
	identity := "tpm = \"unix:/dev/tpm.sock\"\nkey = \"0x81020000\"\ncertificate = \"auto\"\n"
	if d.FileKey {
		identity = "tpm = \"none\"\nkey = \"/etc/ztp/idevid.key\"\ncertificate = \"/etc/ztp/idevid.pem\"\n"
	}
	toml := "[identity]\n" + identity + `
[discovery]
sources = ["removable-storage", "dhcp", "dns", "well-known"]
include = ["eth*"]

[image]
installer = "file"
slots = "/var/lib/ztp/slots"

[configuration]
handler = "file"
path = "/etc/device.conf"

[reboot]
command = ` + fmt.Sprintf("[\"/bin/sh\", \"-c\", %q]", "echo reboot >'"+d.resetPath()+"'") + "\n"
	files := map[string]string{
		"usr/lib/ztp/ztp.toml":             toml,
		"sys/class/dmi/id/product_name":    d.Model + "\n",
		"etc/device.conf":                  "hostname factory\n",
		"etc/ssh/ssh_host_ed25519_key.pub": hostKey,
	}
	if d.Config != "" {
		files["etc/ztp/ztp.toml.d/50-lab.toml"] = d.Config
	}
	for name, content := range files {
		if err := d.Write(name, []byte(content)); err != nil {
			return err
		}
	}
	return nil
}

// hostKey is a public key whose private half was thrown away.
const hostKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINfLFxO0oRq259ZhQp+373ut4XEX4qHjmX5jpa6UzuTj root@factory\n"
