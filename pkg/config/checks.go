package config

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/xpu-sztp/ztp/tpm"
)

// checks judges the value of each key that not every value of its type is good for.
var checks = map[string]func(*Config) error{
	"device.hw-model":       func(c *Config) error { return text(c.Device.HWModel) },
	"device.os-name":        func(c *Config) error { return text(c.Device.OSName) },
	"device.os-version":     func(c *Config) error { return text(c.Device.OSVersion) },
	"device.serial-number":  func(c *Config) error { return text(c.Device.SerialNumber) },
	"device.serial-pattern": func(c *Config) error { return serialPattern(c.Device.SerialPattern) },

	"identity.tpm":         func(c *Config) error { return tpmAddress(c.Identity.TPM) },
	"identity.key":         func(c *Config) error { return tpmKey(c.Identity.Key) },
	"identity.certificate": func(c *Config) error { return certificate(c.Identity.Certificate) },
	"identity.decrypt-key": func(c *Config) error {
		if c.Identity.DecryptKey == "" {
			return nil
		}
		return tpmKey(c.Identity.DecryptKey)
	},
	"identity.decrypt-certificate": func(c *Config) error { return certificate(c.Identity.DecryptCertificate) },

	"discovery.sources": func(c *Config) error {
		return someOf(c.Discovery.Sources, "removable-storage", "dhcp", "dns", "well-known")
	},
	"discovery.include":    func(c *Config) error { return interfaceGlobs(c.Discovery.Include) },
	"discovery.exclude":    func(c *Config) error { return interfaceGlobs(c.Discovery.Exclude) },
	"discovery.well-known": func(c *Config) error { return each(c.Discovery.WellKnown, serverURL) },
	"discovery.timeout":    func(c *Config) error { return within(c.Discovery.Timeout, seconds(1), hours(1)) },

	"discovery.vendor-class": func(c *Config) error { return text(c.Discovery.VendorClass) },

	"trust.bootstrap-servers": func(c *Config) error { return each(c.Trust.BootstrapServers, absolute) },
	"trust.vouchers":          func(c *Config) error { return each(c.Trust.Vouchers, absolute) },
	"trust.assertions": func(c *Config) error {
		return someOf(c.Trust.Assertions, "verified", "logged", "proximity")
	},
	"trust.clock":      func(c *Config) error { return oneOf(c.Trust.Clock, "auto", "none", "rtc", "authenticated") },
	"trust.revocation": func(c *Config) error { return oneOf(c.Trust.Revocation, "fetch", "carried") },

	"image.installer":  func(c *Config) error { return oneOf(c.Image.Installer, "file", "efi", "grub", "command", "none") },
	"image.slots":      func(c *Config) error { return absolute(c.Image.Slots) },
	"image.max-size":   func(c *Config) error { return within(c.Image.MaxSize, 1, 1<<44) },
	"image.decompress": func(c *Config) error { return oneOf(c.Image.Decompress, "auto", "none", "gzip", "xz", "zstd") },
	"image.timeout":    func(c *Config) error { return within(c.Image.Timeout, seconds(1), hours(7*24)) },
	"image.min-rate":   func(c *Config) error { return within(c.Image.MinRate, 1, 1<<30) },
	"image.stall":      func(c *Config) error { return within(c.Image.Stall, seconds(1), seconds(600)) },
	"image.anchors":    func(c *Config) error { return each(c.Image.Anchors, absolute) },
	"image.attempts":   func(c *Config) error { return within(c.Image.Attempts, 1, 100) },
	"image.trial-timeout": func(c *Config) error {
		if c.Image.TrialTimeout == 0 {
			return nil
		}
		return within(c.Image.TrialTimeout, seconds(60), hours(7*24))
	},
	"image.cache": func(c *Config) error { return absolute(c.Image.Cache) },

	"efi.esp":          func(c *Config) error { return each(c.EFI.ESP, absolute) },
	"grub.environment": func(c *Config) error { return environment(c.GRUB.Environment) },
	"grub.variables":   func(c *Config) error { return oneOf(c.GRUB.Variables, "ztp", "grub") },
	"grub.tries":       func(c *Config) error { return within(c.GRUB.Tries, 1, 9) },

	"command.preset": func(c *Config) error {
		if c.Command.Preset == "" {
			return nil
		}
		return oneOf(c.Command.Preset, "rauc", "swupdate", "sonic-installer", "mlxbf-bootctl")
	},
	"command.status":  func(c *Config) error { return commands(c.Command.Status) },
	"command.running": func(c *Config) error { return pattern(c.Command.Running) },
	"command.good":    func(c *Config) error { return pattern(c.Command.Good) },
	"command.next":    func(c *Config) error { return pattern(c.Command.Next) },
	"command.other":   func(c *Config) error { return pattern(c.Command.Other) },
	"command.tries":   func(c *Config) error { return pattern(c.Command.Tries) },
	"command.identify": func(c *Config) error {
		return commands(c.Command.Identify, "slot", "good", "device", "image", "sha256", "size")
	},
	"command.install": func(c *Config) error {
		return commands(c.Command.Install, "slot", "good", "device", "image", "sha256", "size")
	},
	"command.activate":        func(c *Config) error { return commands(c.Command.Activate, "slot", "good", "device") },
	"command.rearm":           func(c *Config) error { return commands(c.Command.Rearm, "slot", "good", "device") },
	"command.deactivate":      func(c *Config) error { return commands(c.Command.Deactivate, "slot", "good", "device") },
	"command.mark-good":       func(c *Config) error { return commands(c.Command.MarkGood, "slot", "good", "device") },
	"command.install-timeout": func(c *Config) error { return within(c.Command.InstallTimeout, seconds(1), hours(24)) },
	"command.timeout":         func(c *Config) error { return within(c.Command.Timeout, seconds(1), hours(1)) },

	"image.signature":           func(c *Config) error { return oneOf(c.Image.Signature, "none", "required") },
	"image.signers":             func(c *Config) error { return each(c.Image.Signers, signer) },
	"image.signature-namespace": func(c *Config) error { return namespace(c.Image.SignatureNamespace) },

	"configuration.handler": func(c *Config) error { return oneOf(c.Configuration.Handler, "file", "exec", "cloud-init", "none") },
	"configuration.path":    func(c *Config) error { return absolute(c.Configuration.Path) },
	"configuration.seed":    func(c *Config) error { return absolute(c.Configuration.Seed) },
	"configuration.command": func(c *Config) error { return each(c.Configuration.Command, argument) },
	"configuration.timeout": func(c *Config) error { return within(c.Configuration.Timeout, seconds(1), hours(24)) },

	"scripts.timeout":      func(c *Config) error { return within(c.Scripts.Timeout, seconds(1), hours(24)) },
	"scripts.output-limit": func(c *Config) error { return within(c.Scripts.OutputLimit, 1<<10, 1<<20) },
	"scripts.warning-exit": func(c *Config) error { return within(c.Scripts.WarningExit, 1, 255) },

	"report.ssh-host-keys": func(c *Config) error { return each(c.Report.SSHHostKeys, fileGlob) },
	"reboot.command":       func(c *Config) error { return command(c.Reboot.Command) },
	"retry.initial":        func(c *Config) error { return within(c.Retry.Initial, Duration(100*time.Millisecond), hours(1)) },
	"retry.max":            func(c *Config) error { return within(c.Retry.Max, Duration(100*time.Millisecond), hours(24)) },

	"reprovision.policy":           func(c *Config) error { return oneOf(c.Reprovision.Policy, "never", "on-network-change") },
	"reprovision.after":            func(c *Config) error { return within(c.Reprovision.After, seconds(1), hours(24)) },
	"reprovision.sessions-per-day": func(c *Config) error { return within(c.Reprovision.SessionsPerDay, 1, 24) },
}

// checkTogether judges keys that must agree with one another. The error is placed at the key that asks for the other.
func (l *loader) checkTogether() error {
	c := l.config
	key, problem, fix := c.checkImages()
	switch {
	case key != "":
	case c.Identity.TPM == "none" && strings.HasPrefix(c.Identity.Key, "0x"):
		key, problem = "identity.tpm", fmt.Sprintf("is \"none\" while identity.key is the TPM handle %s", c.Identity.Key)
		fix = "set identity.key to a PEM file, or identity.tpm to a TPM"
	case c.Identity.TPM == "none" && !strings.HasPrefix(c.Identity.Certificate, "/"):
		key, problem = "identity.tpm", fmt.Sprintf("is \"none\" while identity.certificate is %q", c.Identity.Certificate)
		fix = "set identity.certificate to a PEM file, or identity.tpm to a TPM"
	case c.Identity.TPM == "none" && strings.HasPrefix(c.Identity.DecryptKey, "0x"):
		key, problem = "identity.tpm", fmt.Sprintf("is \"none\" while identity.decrypt-key is the TPM handle %s", c.Identity.DecryptKey)
		fix = "set identity.decrypt-key to a PEM file, or identity.tpm to a TPM"
	case c.Identity.TPM == "none" && c.Identity.DecryptKey != "" && !strings.HasPrefix(c.Identity.DecryptCertificate, "/"):
		key = "identity.tpm"
		problem = fmt.Sprintf("is \"none\" while identity.decrypt-certificate is %q", c.Identity.DecryptCertificate)
		fix = "set identity.decrypt-certificate to a PEM file, or identity.tpm to a TPM"
	case c.Image.Signature == "required" && len(c.Image.Signers) == 0:
		key, problem = "image.signature", "is \"required\" while image.signers is empty"
		fix = "name who signs images in image.signers: \"owner\", or files of their keys or certificates"
	case c.Configuration.Handler == "exec" && len(c.Configuration.Command) == 0:
		key, problem = "configuration.handler", "is \"exec\" while configuration.command is empty"
		fix = "set configuration.command to the program that commits a configuration"
	case c.Retry.Initial > c.Retry.Max:
		key, problem = "retry.initial", fmt.Sprintf("is %s, longer than retry.max, which is %s", c.Retry.Initial, c.Retry.Max)
		fix = "make retry.initial at most retry.max"
	default:
		return nil
	}
	return invalid(l.origins[key], key, errors.New(problem), fix)
}

// checkSocket refuses a socket path that the kernel would refuse later with a bare "invalid argument".
func (l *loader) checkSocket() error {
	const sunPath = 107 // unix(7), without the terminating zero
	if path, ok := strings.CutPrefix(l.config.Identity.TPM, unixPrefix); ok && len(path) > sunPath {
		return invalid(l.origins["identity.tpm"], "identity.tpm",
			fmt.Errorf("the socket path %s has %d bytes, a unix socket can have %d", path, len(path), sunPath),
			"use a shorter path or a shorter --root")
	}
	return nil
}

func seconds(n int) Duration { return Duration(time.Duration(n) * time.Second) }
func hours(n int) Duration   { return Duration(time.Duration(n) * time.Hour) }

func within[T cmp.Ordered](v, low, high T) error {
	if v < low || v > high {
		return fmt.Errorf("%v is out of range, from %v to %v", v, low, high)
	}
	return nil
}

func oneOf(v string, allowed ...string) error {
	if !slices.Contains(allowed, v) {
		return fmt.Errorf("%q is none of %s", v, strings.Join(allowed, ", "))
	}
	return nil
}

// someOf wants a list without repetition that is not empty: an empty one would switch off what it selects, which is what
// ztp disable is for.
func someOf(list []string, allowed ...string) error {
	if len(list) == 0 {
		return fmt.Errorf("is empty; choose some of %s", strings.Join(allowed, ", "))
	}
	for i, v := range list {
		if err := oneOf(v, allowed...); err != nil {
			return err
		}
		if slices.Contains(list[:i], v) {
			return fmt.Errorf("%q is there twice", v)
		}
	}
	return nil
}

func each(list []string, check func(string) error) error {
	for _, v := range list {
		if err := check(v); err != nil {
			return err
		}
	}
	return nil
}

func text(s string) error {
	const longest = 255
	switch {
	case len(s) > longest:
		return fmt.Errorf("has %d bytes, at most %d are sent to a server", len(s), longest)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return fmt.Errorf("%q has characters that cannot be printed", s)
	}
	return nil
}

func serialPattern(pattern string) error {
	if pattern == "" {
		return nil
	}
	if _, err := tpm.ParseSerialPattern(pattern); err != nil {
		return fmt.Errorf("%q %w", pattern, err)
	}
	return nil
}

func absolute(path string) error {
	if !filepath.IsAbs(path) || strings.ContainsRune(path, 0) {
		return fmt.Errorf("%q is not an absolute path", path)
	}
	return nil
}

// ownerSigns is who signs images where that is the owner certificate of the onboarding information.
const ownerSigns = "owner"

func signer(s string) error {
	if s != ownerSigns && absolute(s) != nil {
		return fmt.Errorf("%q is neither \"owner\" nor an absolute path", s)
	}
	return nil
}

func namespace(s string) error {
	if s == "" || strings.ContainsFunc(s, unicode.IsSpace) {
		return fmt.Errorf("%q is not a namespace, which is a word", s)
	}
	return text(s)
}

func tpmAddress(s string) error {
	if s == "none" {
		return nil
	}
	if absolute(strings.TrimPrefix(s, unixPrefix)) != nil {
		return fmt.Errorf("%q is neither a device node such as \"/dev/tpmrm0\", nor \"unix:/PATH\", nor \"none\"", s)
	}
	return nil
}

func tpmKey(s string) error { return handleOrFile(s, 0x81000000, 0x81ffffff, "persistent handle") }

func certificate(s string) error {
	if s == "auto" {
		return nil
	}
	return handleOrFile(s, 0x01000000, 0x01ffffff, "NV index")
}

func handleOrFile(s string, low, high uint64, what string) error {
	digits, isHandle := strings.CutPrefix(s, "0x")
	if !isHandle {
		if absolute(s) != nil {
			return fmt.Errorf("%q is neither a %s such as \"0x%08x\" nor an absolute path", s, what, low)
		}
		return nil
	}
	if n, err := strconv.ParseUint(digits, 16, 32); err != nil || n < low || n > high {
		return fmt.Errorf("%q is not a %s, from 0x%08x to 0x%08x", s, what, low, high)
	}
	return nil
}

func interfaceGlobs(list []string) error {
	return each(list, func(glob string) error {
		if _, err := filepath.Match(glob, "eth0"); err != nil || glob == "" {
			return fmt.Errorf("%q is not a pattern for interface names; * matches any characters, ? one, [a-c] a range", glob)
		}
		return nil
	})
}

func fileGlob(glob string) error {
	if _, err := filepath.Match(glob, ""); err != nil {
		return fmt.Errorf("%q is not a pattern for files; * matches any characters, ? one, [a-c] a range", glob)
	}
	return absolute(glob)
}

func serverURL(s string) error {
	_, err := parseServer(s)
	return err
}

func argument(s string) error {
	if strings.ContainsRune(s, 0) {
		return fmt.Errorf("%q has a zero byte", s)
	}
	return nil
}

func command(argv []string) error {
	if len(argv) == 0 || argv[0] == "" {
		return errors.New("is empty; write the program and its arguments as a list of strings")
	}
	return each(argv, argument)
}
