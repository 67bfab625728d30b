package grub

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// device is the folder with the two blocks of a device whose slots are a and b, and how it was set up.
type device struct {
	dir   string
	names Names
	stock bool // one block, and what GRUB's own scripts do
}

func (d device) main() string { return filepath.Join(d.dir, "grubenv") }
func (d device) copy() string { return filepath.Join(d.dir, "grubenv.copy") }

// load reads variables as GRUB's load_env does, which takes a block for good up to the place where it is damaged.
func load(path string) map[string]string {
	data, err := os.ReadFile(path)
	if err != nil || !bytes.HasPrefix(data, []byte(signature)) {
		return nil
	}
	values := map[string]string{}
	rest := string(data[len(signature):])
	for rest != "" {
		end := lineEnd(rest)
		if rest[0] != '#' {
			name, value, ok := strings.Cut(rest, "=")
			if !ok {
				break
			}
			if end = lineEnd(value); end < 0 {
				break
			}
			values[name] = (&block{lines: []string{"x=" + value[:end]}}).get("x")
			end += len(name) + 1
		}
		if end < 0 {
			break
		}
		rest = rest[end:]
	}
	return values
}

// boot does what GRUB does with the fragment, or with grub-mkconfig's scripts, and returns the slot it starts. bad is a slot
// whose kernel cannot be loaded.
func (d device) boot(bad string) (slot string, err error) {
	known := func(s string) bool { return s == "a" || s == "b" }
	v := load(d.main())
	if d.stock {
		if next := v[d.names.Next]; next != "" {
			return next, d.save(d.names.Next, "")
		}
		if good := v[d.names.Good]; known(good) {
			return good, nil
		}
		return "a", nil
	}
	if !known(v[d.names.Good]) {
		v = load(d.copy())
		delete(v, d.names.Next)
	}
	good := "a"
	if known(v[d.names.Good]) {
		good = v[d.names.Good]
	}
	next, tries := v[d.names.Next], v[d.names.Tries]
	if !known(next) || !regexp.MustCompile(`^[1-9]$`).MatchString(tries) {
		return good, nil
	}
	if err := d.save(d.names.Tries, string(tries[0]-1)); err != nil {
		return good, nil
	}
	if next == bad {
		return good, nil
	}
	return next, nil
}

// save overwrites one variable, as save_env does.
func (d device) save(name, value string) error {
	data, err := os.ReadFile(d.main())
	if err != nil {
		return err
	}
	b, err := parseBlock(data)
	if err != nil {
		return err
	}
	b.set(name, value)
	if data, err = b.encode(); err != nil {
		return err
	}
	return os.WriteFile(d.main(), data, 0o600)
}

// grub has the real GRUB boot a disk that holds the blocks, and takes them back from it.
func (d device) grub(t *testing.T, bad string) string {
	t.Helper()
	root, work := t.TempDir(), t.TempDir()
	fragment, err := os.ReadFile("../../../systemd/grub-slots.cfg")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"boot/grub/grub-slots.cfg": string(fragment),
		"boot/grub/grub.cfg":       "set pager=0\nset timeout=0\nsource $prefix/grub-slots.cfg\n",
	}
	for _, s := range []string{"a", "b"} {
		// Reading the file stands for loading the kernel.
		files["boot/grub/grub.cfg"] += fmt.Sprintf("menuentry %s {\n\tcat /%s/kernel\n\tif [ $? = 0 ]; then exit; fi\n\tcat /%s/kernel\n}\n", s, s, s)
		if s != bad {
			files[s+"/kernel"] = "[started " + s + "]\n"
		}
	}
	for _, env := range []string{d.main(), d.copy()} {
		if data, err := os.ReadFile(env); err == nil {
			files["boot/grub/"+filepath.Base(env)] = string(data)
		}
	}
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	disk, devices := filepath.Join(work, "disk"), filepath.Join(work, "device.map")
	run(t, "mke2fs", "-q", "-t", "ext4", "-d", root, disk, "8M")
	if err := os.WriteFile(devices, []byte("(hd0) "+disk+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	emu := exec.CommandContext(t.Context(), "grub-emu", "--device-map="+devices, "--root=hd0", "--directory=/boot/grub")
	emu.Env = append(os.Environ(), "TERM=dumb")
	var screen bytes.Buffer
	emu.Stdout, emu.Stderr = &screen, &screen
	if err := emu.Start(); err != nil {
		t.Fatal(err)
	}
	limit := time.AfterFunc(time.Minute, func() { emu.Process.Kill() })
	defer limit.Stop()
	if err := emu.Wait(); err != nil {
		t.Fatalf("%v: %q", err, screen.String())
	}
	for _, env := range []string{d.main(), d.copy()} {
		if _, err := os.Stat(env); err == nil {
			run(t, "debugfs", "-R", "dump /boot/grub/"+filepath.Base(env)+" "+env, disk)
		}
	}
	run(t, "e2fsck", "-fn", disk)
	started := regexp.MustCompile(`\[started (.)\]`).FindStringSubmatch(screen.String())
	if started == nil {
		t.Fatalf("nothing was started: %q", screen.String())
	}
	return started[1]
}

func run(t *testing.T, argv ...string) {
	t.Helper()
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%q: %v: %s", argv, err, out)
	}
}

// TestFragment boots GRUB with blocks in each state, and compares what it starts and what it writes with the model that the
// other tests take for GRUB.
func TestFragment(t *testing.T) {
	env := func(variables ...string) []byte {
		_, data, err := editenv(t, nil, append([]string{"set"}, variables...)...)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	none := env("ztp_good=a", "ztp_next=", "ztp_tries=0")
	torn := bytes.Clone(env("ztp_good=b", "ztp_next=a", "ztp_tries=1"))
	copy(torn, make([]byte, 100))
	tests := []struct {
		name       string
		main, copy []byte
		bad        string
		want       []string // what starts at each boot
	}{
		{"nothing at all", nil, nil, "", []string{"a"}},
		{"as from the factory", fresh(), fresh(), "", []string{"a"}},
		{"no trial", env("ztp_good=b"), none, "", []string{"b", "b"}},
		{"one try", env("ztp_good=a", "ztp_next=b", "ztp_tries=1"), none, "", []string{"b", "a", "a"}},
		{"three tries", env("x=1", "ztp_next=a", "ztp_good=b", "ztp_tries=3", "y=2"), none, "", []string{"a", "a", "a", "b"}},
		{"nine tries", env("ztp_good=a", "ztp_next=b", "ztp_tries=9"), none, "", []string{"b"}},
		{"more than nine", env("ztp_good=a", "ztp_next=b", "ztp_tries=10"), none, "", []string{"a"}},
		{"no count", env("ztp_good=a", "ztp_next=b"), none, "", []string{"a"}},
		{"unknown slot on trial", env("ztp_good=b", "ztp_next=c", "ztp_tries=1"), none, "", []string{"b"}},
		{"kernel does not load", env("ztp_good=a", "ztp_next=b", "ztp_tries=2"), none, "b", []string{"a", "a", "a"}},
		{"main torn", torn, env("ztp_good=b", "ztp_next=a", "ztp_tries=1"), "", []string{"b", "b"}},
		{"main missing", nil, env("ztp_good=b", "ztp_next=a", "ztp_tries=1"), "", []string{"b"}},
		{"main names no slot", env("ztp_good=c", "ztp_next=a", "ztp_tries=1"), env("ztp_good=b", "ztp_next=a", "ztp_tries=1"), "", []string{"b"}},
		{"copy torn", env("ztp_good=b", "ztp_next=a", "ztp_tries=1"), torn, "", []string{"a", "b"}},
		{"both torn", torn, torn, "", []string{"a"}},
		{"other variables change nothing", env("default=1", "ztp_a=b", "prefix=/", "ztp_good=a", "ztp_env=x"), none, "", []string{"a"}},
		{"odd values", env("ztp_good=b", `ztp_next=" -o "`, "ztp_tries=("), none, "", []string{"b"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			real := device{dir: t.TempDir(), names: New(Options{}).o.Names}
			model := real
			model.dir = t.TempDir()
			for path, data := range map[string][]byte{real.main(): tt.main, real.copy(): tt.copy, model.main(): tt.main, model.copy(): tt.copy} {
				if data != nil {
					put(t, path, data)
				}
			}
			for i, want := range tt.want {
				imagined, err := model.boot(tt.bad)
				if err != nil {
					t.Fatal(err)
				}
				if got := real.grub(t, tt.bad); got != want || imagined != want {
					t.Fatalf("boot %d: GRUB starts %s and the model %s, want %s", i, got, imagined, want)
				}
				for _, name := range []string{"grubenv", "grubenv.copy"} {
					theirs, _ := os.ReadFile(filepath.Join(real.dir, name))
					ours, _ := os.ReadFile(filepath.Join(model.dir, name))
					if diff := cmp.Diff(string(theirs), string(ours)); diff != "" {
						t.Fatalf("boot %d: GRUB's %s (-) is not the model's (+): %s", i, name, diff)
					}
				}
			}
		})
	}
}

func TestFragmentSyntax(t *testing.T) {
	run(t, "grub-script-check", "../../../systemd/grub-slots.cfg")
}

func put(t fataler, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
