package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/config"
)

// TestUser has a device on which the agent's user may use some of what is configured.
func TestUser(t *testing.T) {
	root := t.TempDir()
	if err := os.Chmod(root, 0o700); err != nil { // above the root, nothing counts
		t.Fatal(err)
	}
	root = filepath.Join(root, "device")
	for path, text := range map[string]string{
		"etc/passwd":                         "root:x:0:0::/:/bin/sh\nztp:x:990:991::/:/bin/false\n",
		"etc/group":                          "tss:x:992:tpm2,ztp\nother:x:993:\n",
		"etc/ztp/ztp.toml":                   "[identity]\ntpm = \"/dev/tpmrm0\"\nkey = \"/etc/ztp/keys/device\"\ncertificate = \"/etc/ztp/device.pem\"\n",
		"etc/ztp/ztp.toml.d/1.toml":          "",
		"etc/ztp/trust/vouchers/README":      "",
		"etc/ztp/keys/device":                "",
		"etc/ztp/device.pem":                 "",
		"dev/tpmrm0":                         "",
		"usr/lib/systemd/system/ztp.service": "[Unit]\nRequires=a.socket ztp-onboard.socket\n[Service]\nUser=ztp\n",
	} {
		file := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(root, "dev/tpmrm0"), 0o666); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(root)
	if err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"late.pem": 0o644, "key": 0o600} { // of which one is no trust anchor
		if err := os.WriteFile(filepath.Join(root, "etc/ztp/trust/vouchers", name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	facts, user := unitFacts(cfg.Paths)
	if user != "ztp" || facts.Lacks != "ztp-onboard.socket" {
		t.Errorf("the unit runs %q and lacks %q", user, facts.Lacks)
	}
	who := userOf(cfg.Paths, user)
	if diff := cmp.Diff(&account{990, []uint32{991, 992}}, who, cmp.AllowUnexported(account{})); diff != "" {
		t.Fatal(diff)
	}
	for _, name := range []string{"", "root2"} {
		if userOf(cfg.Paths, name) != nil {
			t.Errorf("there is a user %q", name)
		}
	}
	for _, c := range []struct {
		path   string
		mode   os.FileMode
		member bool   // of the group of all files
		want   string // of what is denied; "-" is nothing
	}{
		{"dev/tpmrm0", 0o660, false, "dev/tpmrm0"},
		{"dev/tpmrm0", 0o640, true, "dev/tpmrm0"},
		{"dev/tpmrm0", 0o660, true, "-"},
		{"etc/ztp/ztp.toml", 0o600, true, "etc/ztp/ztp.toml"},
		{"etc/ztp/ztp.toml.d", 0o700, true, "etc/ztp/ztp.toml.d etc/ztp/ztp.toml.d/1.toml"},
		{"etc/ztp/trust/vouchers/late.pem", 0o640, false, "etc/ztp/trust/vouchers/late.pem"},
		{"etc/ztp/trust/vouchers/late.pem", 0o640, true, "-"},
		{"etc/ztp/keys", 0o750, false, "etc/ztp/keys/device"},
		{"etc/ztp/keys", 0o750, true, "-"},
		{"etc/ztp/device.pem", 0o604, true, "etc/ztp/device.pem"},
	} {
		file := filepath.Join(root, c.path)
		before, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, c.mode); err != nil {
			t.Fatal(err)
		}
		who.gids = []uint32{uint32(os.Getegid()) + 1}
		if c.member {
			who.gids = append(who.gids, uint32(os.Getegid()))
		}
		got := strings.ReplaceAll(strings.Join(who.denied(root, needs(cfg)), " "), root+"/", "")
		if got == "" {
			got = "-"
		}
		if got != c.want {
			t.Errorf("%s %o, in its group %t: %q is denied, not %q", c.path, c.mode, c.member, got, c.want)
		}
		if err := os.Chmod(file, before.Mode()); err != nil {
			t.Fatal(err)
		}
	}

	drop := filepath.Join(root, "etc/systemd/system/ztp.service.d/1.conf")
	if err := os.MkdirAll(filepath.Dir(drop), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(drop, []byte("[Service]\nUser=\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, user := unitFacts(cfg.Paths); user != "" {
		t.Errorf("root runs the agent, not %q", user)
	}
}
