package efi_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/durable"
)

// firmware runs a program with a machine's partition at /boot and its variables in place of those of the kernel, and
// carries back what it has changed. systemd wants the partition to be a mount of its own, and refuses in containers, one of
// whose marks is a file; so the program gets a root folder with mounts of everything it needs.
const firmware = `set -eu
esp=$1 vars=$2 root=$3
shift 3
mount -t tmpfs none "$root"
for dir in usr etc dev proc sys boot; do mkdir "$root/$dir"; done
for dir in bin sbin lib lib64; do ln -s "usr/$dir" "$root/$dir"; done
for dir in usr etc dev proc sys; do mount --rbind "/$dir" "$root/$dir"; done
mount -t tmpfs none "$root/sys/firmware"
mkdir -p "$root/sys/firmware/efi/efivars"
mount -t tmpfs none "$root/boot"
cp -a "$esp/." "$root/boot"
cp -a "$vars/." "$root/sys/firmware/efi/efivars"
status=0
env SYSTEMD_RELAX_ESP_CHECKS=1 chroot "$root" "$@" || status=$?
rm -rf "$esp"/* "$vars"/*
cp -a "$root/boot/." "$esp"
cp -a "$root/sys/firmware/efi/efivars/." "$vars"
exit $status
`

// run runs a program of systemd on a machine.
func (m machine) run(t *testing.T, args ...string) string {
	t.Helper()
	unshare := []string{"--mount", "sh", "-c", firmware, "sh", m.esp, m.vars, t.TempDir()}
	if os.Getuid() != 0 {
		unshare = append([]string{"--user", "--map-root-user"}, unshare...)
	}
	c := exec.Command("unshare", append(unshare, args...)...)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

// TestBootctlLists: systemd finds the entries that it is to find, by their ids and counters, and no others.
func TestBootctlLists(t *testing.T) {
	k := kinds()[0]
	m := device(t, k)
	m.ascending = true
	boot(t, m)
	type entry struct {
		ID    string `json:"id"`
		Path  string `json:"path"`
		Left  *int   `json:"triesLeft"`
		Done  *int   `json:"triesDone"`
		Title string `json:"title"`
	}
	list := func() (all []entry) {
		out := m.run(t, "bootctl", "--esp-path=/boot", "list", "--json=short")
		d := json.NewDecoder(strings.NewReader(out)) // one a line, or an array in newer versions
		for d.More() {
			var raw json.RawMessage
			var one entry
			if err := d.Decode(&raw); err != nil {
				t.Fatal(err)
			}
			if json.Unmarshal(raw, &all) == nil {
				continue
			}
			if err := json.Unmarshal(raw, &one); err != nil {
				t.Fatal(err)
			}
			all = append(all, one)
		}
		slices.SortFunc(all, func(a, b entry) int { return strings.Compare(a.ID, b.ID) })
		return all
	}
	zero, one, two := 0, 1, 2
	a := entry{ID: "ztp-a.conf", Path: "/boot/loader/entries/ztp-a.conf", Title: "Slot a"}
	b := entry{ID: "ztp-b.conf", Title: "Slot b"}
	l := m.loader(durable.OS{}, k)
	if err := l.Disarm(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]entry{a}, list()); diff != "" {
		t.Errorf("disarmed: %s", diff)
	}
	if err := l.Arm(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	b.Path, b.Left, b.Done = "/boot/loader/entries/ztp-b+1-1.conf", &one, &one
	if diff := cmp.Diff([]entry{a, b}, list()); diff != "" {
		t.Errorf("armed: %s", diff)
	}
	boot(t, m)
	b.Path, b.Left, b.Done = "/boot/loader/entries/ztp-b+0-2.conf", &zero, &two
	if diff := cmp.Diff([]entry{a, b}, list()); diff != "" {
		t.Errorf("on trial: %s", diff)
	}
	if err := l.Bless(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	b.Path, b.Left, b.Done = "/boot/loader/entries/ztp-b.conf", nil, nil
	if diff := cmp.Diff([]entry{a, b}, list()); diff != "" {
		t.Errorf("blessed: %s", diff)
	}
}

// TestBootctlSets: systemd writes the same bytes into variables.
func TestBootctlSets(t *testing.T) {
	k := kinds()[0]
	m := device(t, k)
	m.set("LoaderInfo", "systemd-boot 252")
	m.ascending = true
	boot(t, m)
	theirs := machine{esp: t.TempDir(), vars: t.TempDir()}
	theirs.factory(k)
	theirs.set("LoaderInfo", "systemd-boot 252")
	theirs.run(t, "bootctl", "--esp-path=/boot", "set-oneshot", "ztp-*[b1].conf")
	theirs.run(t, "bootctl", "--esp-path=/boot", "set-default", "ztp-a.conf")
	if err := m.loader(durable.OS{}, k).Arm(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"LoaderEntryOneShot", "LoaderEntryDefault"} {
		ours, err := os.ReadFile(m.file(name))
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(theirs.file(name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(ours, want) {
			t.Errorf("%s has %q, and %q when bootctl sets it", name, ours, want)
		}
	}
}

// TestBlessBoot: when systemd-bless-boot finds the boot good before we do, the slot on trial is still one.
func TestBlessBoot(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		m := device(t, k)
		m.ascending = true
		boot(t, m)
		b := m.slots(durable.OS{}, k)
		if err := install(t.Context(), b, "MZ new"); err != nil {
			t.Fatal(err)
		}
		if got := boot(t, m); got != "b" {
			t.Fatalf("slot %s starts", got)
		}
		m.run(t, "/usr/lib/systemd/systemd-bless-boot", "--path=/boot", "good")
		blessed := map[bool]string{false: "ztp-b.conf", true: "ztp-b.efi"}[k.images()]
		if !slices.Contains(m.names(), blessed) {
			t.Fatalf("nothing was blessed: %v", m.names())
		}
		if got := boot(t, m); got != "a" {
			t.Errorf("slot %s starts", got)
		}
		if err := b.Activate(t.Context()); err != nil {
			t.Fatal(err)
		}
		boot(t, m)
		m.run(t, "/usr/lib/systemd/systemd-bless-boot", "--path=/boot", "good")
		if err := b.MarkGood(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := boot(t, m); got != "b" || m.image(k, "b") != "MZ new" {
			t.Errorf("slot %s starts, with %q; %v", got, m.image(k, "b"), m.names())
		}
		if _, err := os.Stat(filepath.Join(m.esp, "nothing")); err == nil {
			t.Error("something was made")
		}
	})
}
