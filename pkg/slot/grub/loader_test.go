package grub

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/slot"
	"github.com/xpu-sztp/ztp/test/faultfs"
)

// loader is for a device that runs a slot; an empty one is a command line without any.
func (d device) loader(t fataler, on durable.FS, running string) *Loader {
	t.Helper()
	cmdline := d.dir + ".cmdline"
	put(t, cmdline, []byte("BOOT_IMAGE=/boot/vmlinuz root=PARTLABEL=root-"+running+" ztp.slot="+running+" panic=10\n"))
	o := Options{
		FS: on, Main: d.main(), Copy: d.copy(), Names: d.names, Tries: 2,
		Slots: [2]Slot{{Name: "a"}, {Name: "b"}}, CommandLine: cmdline,
	}
	if d.stock {
		o.Copy = ""
	}
	return New(o)
}

// factory is a device with new blocks.
func factory(t fataler, dir string) device {
	t.Helper()
	d := device{dir: filepath.Join(dir, "boot"), names: New(Options{}).o.Names}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, d.main(), fresh())
	put(t, d.copy(), fresh())
	return d
}

func stock(t fataler, dir string) device {
	d := factory(t, dir)
	d.stock, d.names = true, GRUBNames()
	if err := os.Remove(d.copy()); err != nil {
		t.Fatal(err)
	}
	return d
}

func wantCode(t *testing.T, err error, want reason.Code) {
	t.Helper()
	if code, hint := reason.Of(err); code != want || hint == "" {
		t.Fatalf("got %q (%v, hint %q), want code %q and a hint", code, err, hint, want)
	}
}

func TestLife(t *testing.T) {
	for name, make := range map[string]func(fataler, string) device{"fragment": factory, "stock": stock} {
		t.Run(name, func(t *testing.T) {
			d := make(t, t.TempDir())
			l := d.loader(t, nil, "a")
			tries := 2
			if d.stock {
				tries = 1
			}
			state := func(want slot.State) {
				t.Helper()
				got, err := l.State(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatal(diff)
				}
			}
			twice := func(do func() error) {
				t.Helper()
				for range 2 {
					if err := do(); err != nil {
						t.Fatal(err)
					}
				}
			}
			boot := func(want string) {
				t.Helper()
				got, err := d.boot("")
				if err != nil || got != want {
					t.Fatalf("started %s, want %s: %v", got, want, err)
				}
				l = d.loader(t, nil, got)
			}
			state(slot.State{Running: "a", Good: "a"})
			twice(func() error { return l.Disarm(t.Context(), "b") })
			state(slot.State{Running: "a", Good: "a"})
			twice(func() error { return l.Arm(t.Context(), "b") })
			state(slot.State{Running: "a", Good: "a", Next: "b", Tries: tries})
			boot("b")
			want := slot.State{Running: "b", Good: "a"}
			if tries == 2 {
				want.Next, want.Tries = "b", 1
			}
			state(want)
			wantCode(t, l.Disarm(t.Context(), "a"), slot.CodeInTrial)
			twice(func() error { return l.Bless(t.Context(), "b") })
			state(slot.State{Running: "b", Good: "b"})
			boot("b")
			twice(func() error { return l.Disarm(t.Context(), "a") })
			twice(func() error { return l.Arm(t.Context(), "a") })
			twice(func() error { return l.Disarm(t.Context(), "a") })
			boot("b")
			twice(func() error { return l.Arm(t.Context(), "a") })
			for range tries {
				boot("a")
			}
			boot("b")
			state(slot.State{Running: "b", Good: "b"})
			if err := l.Arm(t.Context(), "c"); err == nil {
				t.Error("armed a slot that the device does not have")
			}
		})
	}
}

// TestForeignVariables keeps those of others, as grub-editenv shows them.
func TestForeignVariables(t *testing.T) {
	d := factory(t, t.TempDir())
	run(t, "grub-editenv", d.main(), "set", "recordfail=1", "ztp_next=b", `kernelopts=root=x a\b`)
	before, _, _ := editenv(t, mustRead(t, d.main()), "list")
	l := d.loader(t, nil, "a")
	if err := l.Arm(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{d.main(), d.copy()} {
		got, _, err := editenv(t, mustRead(t, path), "list")
		if err != nil || got != before+"ztp_good=a\nztp_tries=2\n" {
			t.Errorf("%s: %v %s", path, err, got)
		}
	}
}

func TestRunning(t *testing.T) {
	const a, b = "root=/dev/sda2", "root=PARTUUID=6b1c"
	tests := map[string]string{
		"quiet " + a + "\n": "a",
		b + " quiet":        "b",
		b + "-1":            "",
		"root=/dev/sda20":   "",
		"":                  "",
		a + " " + b:         "",
		a + " " + a:         "a",
	}
	d := factory(t, t.TempDir())
	for text, want := range tests {
		path := filepath.Join(d.dir, "cmdline")
		put(t, path, []byte(text))
		l := New(Options{Main: d.main(), CommandLine: path, Slots: [2]Slot{{Name: "a", Argument: a}, {Name: "b", Argument: b}}})
		st, err := l.State(t.Context())
		if st.Running != want {
			t.Errorf("%q: %+v, %v", text, st, err)
		}
		if want == "" {
			wantCode(t, err, slot.CodeUnavailable)
		}
	}
	_, err := New(Options{CommandLine: filepath.Join(d.dir, "missing")}).State(t.Context())
	wantCode(t, err, slot.CodeUnavailable)
}

func TestRefusals(t *testing.T) {
	zeros := make([]byte, blockSize)
	type files struct{ main, copy []byte }
	tests := []struct {
		name  string
		files func() files
		state reason.Code // of State
		arm   reason.Code
	}{
		{"neither exists", func() files { return files{} }, CodeNoEnvironment, CodeNoEnvironment},
		{"neither is one", func() files { return files{zeros, []byte("x")} }, CodeNoEnvironment, CodeNoEnvironment},
		{"one does not exist", func() files { return files{main: fresh()} }, "", CodeNoEnvironment},
		{"one is too short", func() files { return files{[]byte(signature), fresh()} }, "", CodeNoEnvironment},
		{"one is torn", func() files { return files{fresh(), zeros} }, "", ""},
		{"the other is torn", func() files { return files{zeros, fresh()} }, "", ""},
		{"full", func() files {
			text := filled("x=" + string(bytes.Repeat([]byte("y"), sector-len(signature)-3)) + "\n")
			return files{text, text}
		}, "", CodeEnvironmentFull},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := factory(t, t.TempDir())
			now := tt.files()
			for path, data := range map[string][]byte{d.main(): now.main, d.copy(): now.copy} {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
				if data != nil {
					put(t, path, data)
				}
			}
			l := d.loader(t, nil, "a")
			st, err := l.State(t.Context())
			if tt.state != "" {
				wantCode(t, err, tt.state)
			} else if err != nil || st.Good != "a" {
				t.Fatalf("%+v, %v", st, err)
			}
			err = l.Arm(t.Context(), "b")
			if tt.arm == "" {
				if got, _ := d.boot(""); err != nil || got != "b" || !bytes.Contains(mustRead(t, d.copy()), []byte("ztp_next=b")) {
					t.Fatalf("started %s after %v", got, err)
				}
				return
			}
			wantCode(t, err, tt.arm)
			for path, data := range map[string][]byte{d.main(): now.main, d.copy(): now.copy} {
				if after, _ := os.ReadFile(path); !bytes.Equal(after, data) {
					t.Errorf("%s was changed", path)
				}
			}
		})
	}
}

func mustRead(t fataler, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestWritesInPlace makes sure that GRUB, which replays no journal, sees every change after a power cut, and that a repeated
// change is synced as well: who made it before may have been killed before that.
func TestWritesInPlace(t *testing.T) {
	d := factory(t, t.TempDir())
	var writes, syncs, others []string
	on, err := faultfs.New(faultfs.Options{Root: d.dir, Log: func(_ int, op string) {
		switch verb, _, _ := strings.Cut(op, " "); verb {
		case "write":
			writes = append(writes, op)
		case "sync":
			syncs = append(syncs, op)
		case "read", "close":
		default:
			others = append(others, op)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := d.loader(t, on, "a").Arm(t.Context(), "b"); err != nil {
			t.Fatal(err)
		}
	}
	if len(writes) != 2 || len(syncs) != 4 || !slices.Equal(syncs[:2], syncs[2:]) || others != nil {
		t.Errorf("%q, %q, %q", writes, syncs, others)
	}
}

// TestCuts installs images while everything goes wrong that can, at each operation. Whatever is on the disk then, GRUB starts
// slots with complete images, also when the next cut tears its own writing; and doing it again comes to the end.
func TestCuts(t *testing.T) {
	for name, make := range map[string]func(fataler, string) device{"fragment": factory, "stock": stock} {
		for _, start := range []string{"new", "armed before", "main torn", "copy torn"} {
			t.Run(name+"/"+start, func(t *testing.T) {
				if name == "stock" && start != "new" && start != "armed before" {
					return // has no copy
				}
				var d device
				setup := func(root string) error {
					d = make(t, root)
					for _, s := range []string{"a", "b"} {
						put(t, filepath.Join(root, s), []byte("complete"))
					}
					l := d.loader(t, nil, "b")
					if err := l.Bless(t.Context(), "b"); err != nil {
						return err
					}
					if start != "new" {
						if err := l.Arm(t.Context(), "a"); err != nil {
							return err
						}
					}
					switch start {
					case "main torn":
						put(t, d.main(), append(bytes.Repeat([]byte{0xff}, 512), mustRead(t, d.main())[512:]...))
					case "copy torn":
						put(t, d.copy(), append(bytes.Repeat([]byte{0xff}, 512), mustRead(t, d.copy())[512:]...))
					}
					return nil
				}
				task := func(on *faultfs.FS, root string) error {
					l := d.loader(t, on, "b")
					if err := l.Disarm(t.Context(), "a"); err != nil {
						return err
					}
					if err := write(on, filepath.Join(root, "a"), "half"); err != nil {
						return err
					}
					if err := write(on, filepath.Join(root, "a"), "complete"); err != nil {
						return err
					}
					return l.Arm(t.Context(), "a")
				}
				check := func(root string, err error) error {
					if err := d.bootsComplete(t, root); err != nil {
						return err
					}
					on, fsErr := faultfs.New(faultfs.Options{Root: root})
					if err := errors.Join(fsErr, task(on, root)); err != nil {
						return fmt.Errorf("again: %w", err)
					}
					if got, err := d.boot(""); got != "a" || err != nil {
						return fmt.Errorf("started %s in the end: %w", got, err)
					}
					return nil
				}
				n, err := faultfs.Sweep{Seeds: 4, Faults: append(faultfs.Cuts(), faultfs.Errors()...), Setup: setup, Task: task, Check: check}.Run(t.TempDir())
				if err != nil {
					t.Error(err)
				}
				if n < 50 {
					t.Errorf("%d faults", n)
				}
			})
		}
	}
}

// TestSectorLost has the storage lose the sector that is being written when the power fails, while one block may have
// been lost before: the good slot is started, which is not the one that GRUB starts for want of anything better.
func TestSectorLost(t *testing.T) {
	lost := bytes.Repeat([]byte{0xff}, sector)
	for _, torn := range []string{"", "grubenv", "grubenv.copy"} {
		for at := range 2 {
			d := factory(t, t.TempDir())
			if err := d.loader(t, nil, "b").Bless(t.Context(), "b"); err != nil {
				t.Fatal(err)
			}
			lose := func(name string) {
				path := filepath.Join(d.dir, name)
				put(t, path, append(bytes.Clone(lost), mustRead(t, path)[sector:]...))
			}
			if torn != "" {
				lose(torn)
			}
			written := ""
			on, err := faultfs.New(faultfs.Options{
				Root: d.dir, Plan: faultfs.Plan{What: faultfs.Kill, At: at, Only: "write"},
				Log: func(n int, op string) {
					if n == at {
						written = filepath.Base(op) // "write … of NAME"
						written = written[strings.LastIndexByte(written, ' ')+1:]
					}
				},
				Die: func() { panic(faultfs.ErrDied) },
			})
			if err != nil {
				t.Fatal(err)
			}
			func() {
				defer func() { recover() }()
				d.loader(t, on, "b").Arm(t.Context(), "a")
			}()
			lose(written)
			want := "b"
			if torn == "grubenv" && at == 1 {
				want = "a" // it was repaired first, and tells of the change
			}
			if got, err := d.boot(""); err != nil || got != want {
				t.Errorf("%q torn before, %s when it was written: started %s, %v", torn, written, got, err)
			}
		}
	}
}

// bootsComplete boots until no trial is left, and with each of GRUB's writes torn.
func (d device) bootsComplete(t fataler, root string) error {
	main := mustRead(t, d.main())
	for boot := range 4 {
		before := mustRead(t, d.main())
		got, err := d.boot("")
		if err != nil {
			return err
		}
		if image := mustRead(t, filepath.Join(root, got)); string(image) != "complete" {
			return fmt.Errorf("boot %d started %s, which holds %q; main %q copy %q", boot, got, image, before, load(d.copy()))
		}
		if after := mustRead(t, d.main()); !d.stock && !bytes.Equal(before, after) {
			put(t, d.main(), append(bytes.Repeat([]byte{0xff}, 512), after[512:]...))
			if again, _ := d.boot(""); string(mustRead(t, filepath.Join(root, again))) != "complete" {
				return fmt.Errorf("after a torn write of GRUB, %s was started", again)
			}
			put(t, d.main(), after)
		}
	}
	put(t, d.main(), main)
	return nil
}

func write(on durable.FS, path, text string) error {
	f, err := on.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write([]byte(text)); err != nil {
		return err
	}
	return f.Sync()
}

// TestTorn overwrites each block up to any byte, from the front and from the back: GRUB does what it did before or what it
// was told, or starts what was good before or after.
func TestTorn(t *testing.T) {
	d := factory(t, t.TempDir())
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom([]string{"a", "b"})
		variables := func(which string) []byte {
			good, next := name.Draw(t, which+" good"), rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, which+" next")
			tries := rapid.SampledFrom([]string{"0", "1", "2"}).Draw(t, which+" tries")
			return filled("x=1\nztp_good=" + good + "\nztp_next=" + next + "\nztp_tries=" + tries + "\ny=2\n")
		}
		decision := func() (starts, good string) {
			m, s := mustParse(t, mustRead(t, d.main())), mustParse(t, mustRead(t, d.copy()))
			p, _ := d.loader(t, nil, "a").o.decide(m, s)
			if p.next != "" {
				return p.next, p.good
			}
			return p.good, p.good
		}
		put(t, d.main(), variables("main"))
		put(t, d.copy(), mustRead(t, d.main())) // as every change leaves it
		beforeStarts, beforeGood := decision()
		before := mustRead(t, d.main())
		l := d.loader(t, nil, "a")
		do := rapid.SampledFrom([]func() error{
			func() error { return l.Disarm(t.Context(), "a") }, func() error { return l.Disarm(t.Context(), "b") },
			func() error { return l.Arm(t.Context(), "a") }, func() error { return l.Arm(t.Context(), "b") },
			func() error { return l.Bless(t.Context(), "a") }, func() error { return l.Bless(t.Context(), "b") },
		}).Draw(t, "change")
		if do() != nil {
			return // it was the good one
		}
		afterStarts, afterGood := decision()
		after := mustRead(t, d.main())
		cut := rapid.IntRange(0, 200).Draw(t, "cut")
		torn := append(bytes.Clone(after[:cut]), before[cut:]...)
		if rapid.Bool().Draw(t, "from the back") {
			torn = append(bytes.Clone(before[:cut]), after[cut:]...)
		}
		main, second := before, torn // the copy is written first
		if rapid.Bool().Draw(t, "copy is written") {
			main, second = torn, after
		}
		put(t, d.main(), main)
		put(t, d.copy(), second)
		got, err := d.boot("")
		if err != nil || !slices.Contains([]string{beforeStarts, beforeGood, afterStarts, afterGood}, got) {
			t.Fatalf("started %s: %v", got, err)
		}
	})
}
