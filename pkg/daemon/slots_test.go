package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/slot"
	"github.com/xpu-sztp/ztp/pkg/slot/command"
)

// TestInstallers makes what installs images of configurations, and asks it which slot runs.
func TestInstallers(t *testing.T) {
	const slots = "[image.slot.a]\ndevice = \"/slots/a\"\n[image.slot.b]\ndevice = \"/slots/b\"\n"
	block := make([]byte, 1024)
	for i := range block {
		block[i] = '#'
	}
	copy(block, "# GRUB Environment Block\nztp_good=a\nztp_next=\nztp_tries=0\n")
	grub := map[string]string{"boot/grub/grubenv": string(block), "boot/grub/grubenv.copy": string(block), "proc/cmdline": "quiet ztp.slot=a\n"}
	boot := map[string]string{"proc/sys/kernel/random/boot_id": "1\n"}
	for name, tt := range map[string]struct {
		toml  string
		files map[string]string
		want  string      // the slot that runs; empty when there is no installer
		code  reason.Code // of the configuration, or of the description
	}{
		"none":              {"[image]\ninstaller = \"none\"\n", nil, "", ""},
		"file":              {"[image]\ninstaller = \"file\"\n", nil, "a", ""},
		"grub":              {"[image]\ninstaller = \"grub\"\n" + slots, grub, "a", ""},
		"grub-elsewhere":    {"[image]\ninstaller = \"grub\"\n[grub]\nenvironment = [\"/env\"]\n" + slots, grub, "", "grub-environment"},
		"efi":               {"[image]\ninstaller = \"efi\"\n" + slots, nil, "", "slot-efivars-unavailable"},
		"efi-one-entry":     {"[image]\ninstaller = \"efi\"\n[image.slot.a]\nentry = \"x.efi\"\n[image.slot.b]\nentry = \"X.efi\"\n", nil, "", config.Invalid},
		"efi-strange-entry": {"[image]\ninstaller = \"efi\"\n" + slots + "entry = \"a b\"\n", nil, "", config.Invalid},
		"command": {"[image]\ninstaller = \"command\"\n[command]\nstatus = [[\"echo\", \"Current: x\"]]\nrunning = \"Current: (*)\"\n" +
			"install = [[\"true\", \"{image}\"]]\n", boot, "x", ""},
		"command-without-status": {"[image]\ninstaller = \"command\"\n[command]\ninstall = [[\"true\", \"{image}\"]]\n", boot, "current", ""},
		"command-wrong-place":    {"[image]\ninstaller = \"command\"\n[command]\ninstall = [[\"true\", \"{img}\"]]\n", boot, "", config.Invalid},
		"command-for-loader": {"[image]\ninstaller = \"command\"\n" + slots + "[command]\nstatus = [[\"printf\", \"R b\\nG a\\n\"]]\nrunning = \"R (*)\"\n" +
			"good = \"G (*)\"\nactivate = [[\"true\"]]\ndeactivate = [[\"true\"]]\nmark-good = [[\"true\"]]\n", nil, "b", ""},
		"command-incomplete": {"[image]\ninstaller = \"command\"\n" + slots + "[command]\nactivate = [[\"true\"]]\n", nil, "", config.Invalid},
		"preset":             {"[image]\ninstaller = \"command\"\n[command]\npreset = \"sonic-installer\"\nstatus = [[\"printf\", \"Current: s1\\nNext: s1\\n\"]]\n", boot, "s1", ""},
		"preset-needs-slots": {"[image]\ninstaller = \"command\"\n[command]\npreset = \"swupdate\"\n", boot, "", config.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			files := map[string]string{"etc/ztp/ztp.toml": tt.toml}
			for file, content := range tt.files {
				files[file] = content
			}
			for file, content := range files {
				path := filepath.Join(root, file)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			running := ""
			cfg, err := config.Load(root)
			var backend slot.Backend
			if err == nil {
				backend, err = slotsOf(cfg)
			}
			if err == nil && backend != nil {
				d, describeErr := backend.Describe(t.Context())
				running, err = d.Running, describeErr
			}
			if err != nil && tt.code == config.Invalid && !strings.Contains(err.Error(), "etc/ztp/ztp.toml") {
				t.Errorf("does not name the file: %v", err)
			}
			if code, _ := reason.Of(err); code != tt.code || err == nil && running != tt.want {
				t.Errorf("slot %q runs, %v", running, err)
			}
		})
	}
}

// TestPresets: the configuration knows those that there are.
func TestPresets(t *testing.T) {
	for _, name := range append(command.Presets(), "no-such") {
		root := t.TempDir()
		path := filepath.Join(root, "etc/ztp/ztp.toml")
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("[command]\npreset = \""+name+"\"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := config.Load(root); (err == nil) != (name != "no-such") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
