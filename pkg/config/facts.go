package config

import (
	"strings"
)

// Facts returns Device with its empty values filled in from the running system below the root, as far as it tells.
// HWModel is DMI's product name, or the model of the device tree where there is no DMI. OSName is ID of os-release.
// OSVersion is IMAGE_VERSION of os-release, which names the image rather than the distribution it was made of, else
// VERSION_ID, else BUILD_ID.
func (c *Config) Facts() Device {
	d := c.Device
	if d.HWModel == "" {
		d.HWModel = firstLine(c.Paths.Below("/sys/class/dmi/id/product_name"))
	}
	if d.HWModel == "" {
		d.HWModel = firstLine(c.Paths.Below("/sys/firmware/devicetree/base/model"))
	}
	release := osRelease(c.Paths)
	if d.OSName == "" {
		d.OSName = release["ID"]
	}
	for _, name := range []string{"IMAGE_VERSION", "VERSION_ID", "BUILD_ID"} {
		if d.OSVersion == "" {
			d.OSVersion = release[name]
		}
	}
	return d
}

// firstLine returns the first line of a file of the kernel, or nothing when it cannot be sent to a server.
func firstLine(file string) string {
	data, err := readBounded(file, 4096)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(strings.TrimRight(string(data), "\x00"), "\n")
	if line = strings.TrimSpace(line); text(line) != nil {
		return ""
	}
	return line
}

// osRelease reads the assignments of os-release(5), from /usr/lib when /etc has none.
func osRelease(paths Paths) map[string]string {
	values := map[string]string{}
	data, err := readBounded(paths.Below("/etc/os-release"), 64<<10)
	if err != nil {
		data, _ = readBounded(paths.Below("/usr/lib/os-release"), 64<<10)
	}
	for line := range strings.Lines(string(data)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if ok && !strings.HasPrefix(name, "#") {
			if value = unquote(value); text(value) == nil {
				values[name] = value
			}
		}
	}
	return values
}

// unquote removes the quotes and backslashes os-release(5) allows around and in values.
func unquote(s string) string {
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		single := s[0] == '\''
		s = s[1 : len(s)-1]
		if single {
			return s
		}
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// Release is what systemd calls the system below the root in a unit that says %o-%w-%A-%B (systemd.unit(5)): ID, VERSION_ID,
// IMAGE_VERSION and BUILD_ID of os-release. It tells the systems of two slots apart, as far as their makers do.
func (p Paths) Release() string {
	release := osRelease(p)
	return strings.Join([]string{release["ID"], release["VERSION_ID"], release["IMAGE_VERSION"], release["BUILD_ID"]}, "-")
}
