package media

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xpu-sztp/ztp/test/sticks"
)

// machine is a /proc and a /sys with a disk sda of two partitions, and a disk sdb.
func machine(t *testing.T, files map[string]string) System {
	t.Helper()
	root := t.TempDir()
	all := map[string][]byte{
		"proc/self/mountinfo": []byte("22 1 0:20 / /proc rw - proc proc rw\nnonsense\n"),
		"proc/swaps":          []byte("Filename\tType\tSize\tUsed\tPriority\n"),
		"sys/disks/sda/dev":   []byte("8:0\n"), "sys/disks/sda/size": []byte("100\n"), "sys/disks/sda/device/wwid": []byte("naa.5000\n"),
		"sys/disks/sda/sda1/dev": []byte("8:1\n"), "sys/disks/sda/sda1/partition": []byte("1\n"),
		"sys/disks/sda/sda2/dev": []byte("8:2\n"), "sys/disks/sda/sda2/partition": []byte("2\n"), "sys/disks/sda/sda2/start": []byte("50\n"),
		"sys/disks/sda/sda2/size": []byte("40\n"), "sys/disks/sda/sda2/uevent": []byte("MAJOR=8\nPARTUUID=77-02\nPARTNAME=b\n"),
		"sys/disks/sdb/dev": []byte("8:16\n"), "sys/disks/sdb/size": []byte("7\n"),
	}
	for name, content := range files {
		all[name] = []byte(content)
	}
	sticks.Write(t, root, all)
	if err := os.MkdirAll(filepath.Join(root, "sys/dev/block"), 0o755); err != nil {
		t.Fatal(err)
	}
	for number, disk := range map[string]string{"8:0": "sda", "8:1": "sda/sda1", "8:2": "sda/sda2", "8:16": "sdb"} {
		if err := os.Symlink("../../disks/"+disk, filepath.Join(root, "sys/dev/block", number)); err != nil {
			t.Fatal(err)
		}
	}
	return System{Proc: filepath.Join(root, "proc"), Sys: filepath.Join(root, "sys")}
}

// TestUse: a device is in use when it, the disk that it is a part of, or a part of it is.
func TestUse(t *testing.T) {
	mounted := func(number string) map[string]string {
		return map[string]string{"proc/self/mountinfo": `30 1 ` + number + ` / /the\040place rw shared:1 - ext4 /dev/root rw` + "\n"}
	}
	for _, tt := range []struct {
		name   string
		files  map[string]string
		device string
		want   string // part of the sentence
	}{
		{"nothing", nil, "8:2", ""},
		{"mounted", mounted("8:2"), "8:2", "mounted on /the place"},
		{"neighbour mounted", mounted("8:1"), "8:2", ""},
		{"disk mounted", mounted("8:0"), "8:2", "mounted"},
		{"part mounted", mounted("8:1"), "8:0", "mounted"},
		{"other disk mounted", mounted("8:16"), "8:0", ""},
		{"part of a RAID or an encrypted device", map[string]string{"sys/disks/sda/sda2/holders/dm-0": ""}, "8:2", "part of the device dm-0"},
		{"neighbour is", map[string]string{"sys/disks/sda/sda1/holders/md127": ""}, "8:2", ""},
		{"part of it is", map[string]string{"sys/disks/sda/sda1/holders/md127": ""}, "8:0", "md127"},
		{"disk is one of several paths", map[string]string{"sys/disks/sda/holders/dm-3": ""}, "8:2", "dm-3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			y := machine(t, tt.files)
			got, err := y.use(subject{path: "/dev/x", device: true, number: tt.device})
			if err != nil || (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

// TestFileInUse: a file that the kernel swaps to or makes a device of must not be written.
func TestFileInUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a slot")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	other := path + "2"
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	escaped := strings.ReplaceAll(path, " ", `\040`)
	for name, files := range map[string]map[string]string{
		"it is used as swap":                           {"proc/swaps": "Filename\n" + escaped + " file 1 0 -2\n"},
		"it is what the device loop3 reads and writes": {"sys/block/loop3/loop/backing_file": path + "\n"},
	} {
		y := machine(t, files)
		for file, want := range map[string]string{path: name, other: ""} {
			s, err := y.subject(file)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := y.use(s); got != want || err != nil {
				t.Errorf("%s: got %q, want %q: %v", file, got, want, err)
			}
		}
	}
}

func TestNoProc(t *testing.T) {
	y := machine(t, nil)
	y.Proc = "/nowhere"
	if _, err := y.use(subject{device: true, number: "8:2"}); err == nil {
		t.Error("nothing is in use where nobody can tell")
	}
}

// TestIdentity: what stays over reboots counts, and the number only where there is nothing else.
func TestIdentity(t *testing.T) {
	y := machine(t, nil)
	for number, want := range map[string]string{
		"8:2":  "naa.5000, 40 sectors from 50 77-02",
		"8:0":  "naa.5000, 100 sectors from  ",
		"8:16": "device 8:16, 7 sectors from  ",
		"9:9":  "9:9",
	} {
		if got := y.identity(subject{device: true, number: number}); got != want {
			t.Errorf("%s: got %q, want %q", number, got, want)
		}
	}
}
