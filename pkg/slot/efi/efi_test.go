package efi_test

import (
	"context"
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/slot"
	"github.com/xpu-sztp/ztp/pkg/slot/efi"
)

// install writes an image into the slot that does not run and has it tried.
func install(ctx context.Context, b slot.Backend, content string) error {
	w, err := b.Open(ctx)
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := w.Write([]byte(content)); err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(content))
	if err := w.Commit(ctx, sum[:]); err != nil {
		return err
	}
	return b.Activate(ctx)
}

func device(t *testing.T, k kind) machine {
	t.Helper()
	m := machine{esp: t.TempDir(), vars: t.TempDir(), bare: k.bare}
	m.factory(k)
	return m
}

func boot(t *testing.T, m machine) string {
	t.Helper()
	slot, err := m.boot()
	if err != nil {
		t.Fatal(err)
	}
	return slot
}

func wantCode(t *testing.T, err error, want reason.Code) {
	t.Helper()
	code, fix := reason.Of(err)
	if code != want || fix == "" {
		t.Fatalf("got %q with fix %q (%v), want code %q", code, fix, err, want)
	}
}

func eachKind(t *testing.T, test func(t *testing.T, k kind)) {
	for _, k := range kinds() {
		t.Run(k.name, func(t *testing.T) { test(t, k) })
	}
}

// TestTrial follows a device from the factory through a trial that fails and one that succeeds, both ways.
func TestTrial(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		m := device(t, k)
		m.ascending = true // a first: what the factory wants, and what must not matter from then on
		b := m.slots(durable.OS{}, k)
		expect := func(running, good, next string, image string) {
			t.Helper()
			d, err := b.Describe(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{running, good, next}, []string{d.Running, d.Good, d.Next}); diff != "" {
				t.Errorf("running, good, next: %s\n%v", diff, m.names())
			}
			if image != "" && m.image(k, running) != image {
				t.Errorf("slot %s holds %q, want %q", running, m.image(k, running), image)
			}
		}
		start := func(want string) {
			t.Helper()
			if got := boot(t, m); got != want {
				t.Fatalf("slot %s starts, want %s: %v", got, want, m.names())
			}
		}
		put := func(image string) {
			t.Helper()
			if err := install(t.Context(), b, image); err != nil {
				t.Fatal(err)
			}
		}
		start("a")
		expect("a", "a", "", factoryImage)
		put("MZ one")
		expect("a", "a", "b", factoryImage)
		m.ascending = false
		start("b")
		expect("b", "a", "", "MZ one")
		start("a") // nobody vouched for b
		expect("a", "a", "", factoryImage)
		put("MZ two")
		start("b")
		expect("b", "a", "", "MZ two")
		if err := b.MarkGood(t.Context()); err != nil {
			t.Fatal(err)
		}
		expect("b", "b", "", "MZ two")
		m.ascending = true
		start("b")
		put("MZ three")
		start("a")
		expect("a", "b", "", "MZ three")
		start("b")
		expect("b", "b", "", "MZ two")
	})
}

// TestOnlyStart: whatever the firmware does about its variables, a slot on trial starts once.
func TestOnlyStart(t *testing.T) {
	tests := map[string]func(m *machine){
		"as it should be": func(m *machine) {},
		// Where ids have no counter, such a firmware starts the slot until it is blessed, or for ever.
		"variable stays":                 func(m *machine) { m.stuck = !m.bare },
		"variables lost while armed":     func(m *machine) { m.loseVariables() },
		"vendor's order favours slot b":  func(m *machine) { m.ascending = false },
		"vendor's order favours slot a":  func(m *machine) { m.ascending = true },
		"lost, and order favours slot a": func(m *machine) { m.loseVariables(); m.ascending = true },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			eachKind(t, func(t *testing.T, k kind) {
				m := device(t, k)
				m.ascending = true
				boot(t, m)
				if err := install(t.Context(), m.slots(durable.OS{}, k), "MZ new"); err != nil {
					t.Fatal(err)
				}
				change(&m)
				starts := ""
				for range 4 {
					starts += boot(t, m)
				}
				if strings.Count(starts, "b") > 1 || starts[3] != 'a' {
					t.Errorf("starts of slots: %s", starts)
				}
			})
		})
	}
}

// TestPreferred: from systemd 260 on there is a default that comes before the default.
func TestPreferred(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		m := device(t, k)
		m.ascending, m.preferred = true, true
		boot(t, m)
		m.conf = "ztp-a*"
		b := m.slots(durable.OS{}, k)
		if err := install(t.Context(), b, "MZ new"); err != nil {
			t.Fatal(err)
		}
		boot(t, m)
		if err := b.MarkGood(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := boot(t, m); got != "b" {
			t.Errorf("slot %s starts", got)
		}
	})
}

// TestDeactivate: what was armed is not started, and can be armed again with what it holds.
func TestDeactivate(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		m := device(t, k)
		m.ascending = true
		boot(t, m)
		b := m.slots(durable.OS{}, k)
		if err := install(t.Context(), b, "MZ new"); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := b.Deactivate(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if got := boot(t, m); got != "a" {
			t.Fatalf("slot %s starts", got)
		}
		for range 2 {
			if err := b.Activate(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if got := boot(t, m); got != "b" || m.image(k, "b") != "MZ new" {
			t.Fatalf("slot %s starts, and b holds %q", got, m.image(k, "b"))
		}
	})
}

// TestState tells what is made of variables and files that others have left.
func TestState(t *testing.T) {
	tests := []struct {
		name  string
		files string // of slots a and b, all of the same content
		vars  map[string]string
		want  slot.State
	}{
		{"fresh", "ztp-a.conf ztp-b.conf", map[string]string{"Selected": "ztp-a.conf"}, slot.State{Running: "a", Good: "a"}},
		{"the other one", "ztp-a.conf ztp-b.conf", map[string]string{"Selected": "ztp-b.conf"}, slot.State{Running: "b", Good: "b"}},
		{"on trial", "ztp-a.conf ztp-b+0-1.conf", map[string]string{"Selected": "ztp-b+1.conf", "Default": "ztp-a.conf"}, slot.State{Running: "b", Good: "a"}},
		{"on trial, variables lost", "ztp-a.conf ztp-b+0-1.conf", map[string]string{"Selected": "ztp-b+1.conf"}, slot.State{Running: "b", Good: "a"}},
		{"blessed by somebody else", "ztp-a.conf ztp-b.conf", map[string]string{"Selected": "ztp-b+1.conf", "Default": "ztp-a.conf"}, slot.State{Running: "b", Good: "a"}},
		{"counted by the vendor", "ztp-a+2-1.conf", map[string]string{"Selected": "ztp-a+3.conf"}, slot.State{Running: "a", Good: "a"}},
		{"path of what was counted", "ztp-a.conf ztp-b+0-1.conf", map[string]string{"BootCountPath": `\loader\entries\ztp-b+0-1.conf`, "Default": "ztp-a.conf"}, slot.State{Running: "b", Good: "a"}},
		{"armed", "ztp-a.conf ztp-b+1.conf", map[string]string{"Selected": "ztp-a.conf", "Default": "ztp-a.conf", "OneShot": "ztp-b+1.conf"}, slot.State{Running: "a", Good: "a", Next: "b", Tries: 1}},
		{"armed by us", "ztp-a.conf ztp-b+1-1.conf", map[string]string{"Selected": "ztp-a.conf", "Default": "ztp-a.conf", "OneShot": "ztp-*[b1].conf"}, slot.State{Running: "a", Good: "a", Next: "b", Tries: 1}},
		{"armed by a person", "ztp-a.conf ztp-b.conf", map[string]string{"Selected": "ztp-a.conf", "OneShot": "ZTP-B*"}, slot.State{Running: "a", Good: "a", Next: "b", Tries: 1}},
		{"asked for what is not there", "ztp-a.conf ztp-b+0-1.conf", map[string]string{"Selected": "ztp-a.conf", "OneShot": "ztp-b+1.conf"}, slot.State{Running: "a", Good: "a"}},
		{"asked for something else", "ztp-a.conf", map[string]string{"Selected": "ztp-a.conf", "OneShot": "auto-reboot-to-firmware-setup"}, slot.State{Running: "a", Good: "a"}},
		{"default of several slots", "ztp-a.conf ztp-b.conf", map[string]string{"Selected": "ztp-b.conf", "Default": "ztp-*"}, slot.State{Running: "b", Good: "b"}},
		{"default of nothing", "ztp-a.conf ztp-b.conf", map[string]string{"Selected": "ztp-a.conf", "Default": "ztp-b"}, slot.State{Running: "a", Good: "a"}},
		{"default that ends with its start", "ztp-a.conf ztp-b+1.conf", map[string]string{"Selected": "ztp-a.conf", "Default": "ztp-b+1.conf"}, slot.State{Running: "a", Good: "a"}},
		{"saved default", "ztp-a.conf ztp-b.conf", map[string]string{"Selected": "ztp-b.conf", "Default": "@saved"}, slot.State{Running: "b", Good: "b"}},
		{"preferred", "ztp-a.conf ztp-b.conf", map[string]string{"Selected": "ztp-a.conf", "Default": "ztp-a.conf", "Preferred": "ztp-b.conf"}, slot.State{Running: "a", Good: "b"}},
		{"upper case", "ZTP-A.CONF ztp-b.conf", map[string]string{"Selected": "ztp-a.conf", "Default": "ztp-a.conf"}, slot.State{Running: "a", Good: "a"}},
		{"broken pattern", "ztp-a.conf ztp-b.conf", map[string]string{"Selected": "ztp-a.conf", "OneShot": "ztp-[b"}, slot.State{Running: "a", Good: "a"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := machine{esp: t.TempDir(), vars: t.TempDir()}
			m.preferred = tt.vars["Preferred"] != ""
			m.report()
			must(os.MkdirAll(filepath.Join(m.esp, "loader/entries"), 0o755))
			for _, name := range strings.Fields(tt.files) {
				must(os.WriteFile(filepath.Join(m.esp, "loader/entries", name), []byte("linux /k\n"), 0o644))
			}
			for name, text := range tt.vars {
				m.set(map[bool]string{true: "Loader", false: "LoaderEntry"}[name == "BootCountPath"]+name, text)
			}
			got, err := m.loader(durable.OS{}, kinds()[0]).State(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	k := kinds()[0]
	tests := []struct {
		name   string
		spoil  func(m machine)
		do     func(ctx context.Context, l slot.Loader) error
		reason reason.Code
	}{
		{"no EFI variables", func(m machine) { must(os.RemoveAll(m.vars)) }, nil, efi.CodeVariables},
		{"another boot loader", func(m machine) { m.unset("LoaderFeatures") }, nil, efi.CodeLoader},
		{"an old boot loader", func(m machine) {
			must(os.WriteFile(m.file("LoaderFeatures"), []byte{6, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0}, 0o644))
		}, nil, efi.CodeLoader},
		{"features of another type", func(m machine) { must(os.WriteFile(m.file("LoaderFeatures"), []byte{6, 0, 0, 0, 0xff}, 0o644)) }, nil, efi.CodeVariables},
		{"unknown entry", func(m machine) { m.set("LoaderEntrySelected", "fedora.conf") }, nil, slot.CodeUnavailable},
		{"no entry reported", func(m machine) { m.unset("LoaderEntrySelected") }, nil, slot.CodeUnavailable},
		{"variable of garbage", func(m machine) {
			must(os.WriteFile(m.file("LoaderEntrySelected"), []byte{6, 0, 0, 0, 'z', 0, 't'}, 0o644))
		}, nil, slot.CodeUnavailable},
		{"not mounted", func(m machine) { must(os.RemoveAll(m.esp)) }, nil, efi.CodeESP},
		{"no entries", func(m machine) { must(os.RemoveAll(filepath.Join(m.esp, "loader/entries"))) }, nil, efi.CodeEntry},
		{"arming a slot without entry", func(m machine) { must(os.Remove(filepath.Join(m.esp, "loader/entries/ztp-b.conf"))) },
			func(ctx context.Context, l slot.Loader) error { return l.Arm(ctx, "b") }, efi.CodeEntry},
		{"arming a slot with an empty entry", func(m machine) { must(os.Truncate(filepath.Join(m.esp, "loader/entries/ztp-b.conf"), 0)) },
			func(ctx context.Context, l slot.Loader) error { return l.Arm(ctx, "b") }, efi.CodeEntry},
		{"disarming the running slot", nil, func(ctx context.Context, l slot.Loader) error { return l.Disarm(ctx, "a") }, slot.CodeInTrial},
		{"disarming the good slot", func(m machine) { m.set("LoaderEntryDefault", "ztp-b.conf") },
			func(ctx context.Context, l slot.Loader) error { return l.Disarm(ctx, "b") }, slot.CodeInTrial},
		{"arming what is on trial", func(m machine) { m.set("LoaderEntryDefault", "ztp-b.conf") },
			func(ctx context.Context, l slot.Loader) error { return l.Arm(ctx, "a") }, slot.CodeInTrial},
		{"blessing what does not run", nil, func(ctx context.Context, l slot.Loader) error { return l.Bless(ctx, "b") }, slot.CodeInTrial},
		{"a slot that is none", nil, func(ctx context.Context, l slot.Loader) error { return l.Arm(ctx, "c") }, slot.CodeUnavailable},
		{"two names of one file", func(m machine) {
			must(os.Link(filepath.Join(m.esp, "loader/entries/ztp-b.conf"), filepath.Join(m.esp, "loader/entries/ztp-b+0-1.conf")))
		}, func(ctx context.Context, l slot.Loader) error { return l.Disarm(ctx, "b") }, efi.CodeDamaged},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := device(t, k)
			m.ascending = true
			boot(t, m)
			if tt.spoil != nil {
				tt.spoil(m)
			}
			l := m.loader(durable.OS{}, k)
			if tt.do == nil {
				_, err := l.State(t.Context())
				wantCode(t, err, tt.reason)
				return
			}
			wantCode(t, tt.do(t.Context(), l), tt.reason)
			if got := boot(t, m); got != "a" && m.get("LoaderEntryDefault") != "ztp-b.conf" {
				t.Errorf("slot %s starts", got)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	tests := map[string]map[string]string{
		"one slot":        {"a": "ztp-a"},
		"three slots":     {"a": "ztp-a", "b": "ztp-b", "c": "ztp-c"},
		"the same entry":  {"a": "ztp-a", "b": "ZTP-A.conf"},
		"two kinds":       {"a": "ztp-a", "b": "ztp-b.efi"},
		"counter":         {"a": "ztp-a+1", "b": "ztp-b"},
		"pattern":         {"a": "ztp-*", "b": "ztp-b"},
		"path":            {"a": "../a", "b": "ztp-b"},
		"hidden":          {"a": ".a", "b": "ztp-b"},
		"only a suffix":   {"a": ".conf", "b": "ztp-b"},
		"empty":           {"a": "", "b": "ztp-b"},
		"systemd-boot's":  {"a": "auto-a", "b": "ztp-b"},
		"too long":        {"a": strings.Repeat("a", 129), "b": "ztp-b"},
		"space":           {"a": "ztp a", "b": "ztp-b"},
		"other alphabets": {"a": "ztp-ä", "b": "ztp-b"},
		"dash at the end": {"a": "ztp-a-", "b": "ztp-b"},
	}
	for name, entries := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := efi.New(efi.Options{Entries: entries}); err == nil {
				t.Error("taken")
			}
		})
	}
}

// FuzzState: whatever variables and the folder of entries hold, the state is of slots there are, and arming ends with the good
// slot as the default and the other one next, or with an error and the good slot next.
func FuzzState(f *testing.F) {
	f.Add("ztp-b+1.conf", "ztp-a.conf", "ztp-b+0-1.conf", "linux /kernels/b\n")
	f.Add("ztp-*", "@saved", "ZTP-B.CONF", "")
	f.Add("[", "\\", "ztp-a+1-2-3.conf", "\x00")
	f.Add("ztp-*", "ztp-b.conf", "memtest.conf", "")
	f.Add("", "", "ZTP-B+1-1.CONF", "linux /kernels/b\n")
	f.Add("", "ztp-b.conf", "ZTP-B.CONF", "linux /kernels/b\n")
	f.Add("", "ztp-b*", "ztp-b+0.conf", "linux /kernels/b\n")
	f.Add("", "", "ztp-rescue-b.conf", "linux /kernels/a\n")
	f.Add("", "0", "ZTP-B.CONF", "linux 0")
	f.Add("", "ztp-b*", "ZTP-B.CONF", "title b\r\tefi  kernels\\b \r\n")
	f.Fuzz(func(t *testing.T, oneShot, preset, name, text string) {
		for _, k := range kinds() {
			if !k.images() {
				fuzzState(t, k, oneShot, preset, name, text)
			}
		}
	})
}

func fuzzState(t *testing.T, k kind, oneShot, preset, name, text string) {
	m := machine{esp: memory(t), vars: memory(t), ascending: true, bare: k.bare}
	m.factory(k)
	boot(t, m)
	m.set("LoaderEntryOneShot", oneShot)
	m.set("LoaderEntryDefault", preset)
	if len(name) < 200 && !strings.ContainsAny(name, "/\x00") && !strings.EqualFold(name, "ztp-a.conf") {
		entries := filepath.Join(m.esp, "loader/entries")
		if strings.EqualFold(name, "ztp-b.conf") { // FAT has one of them
			must(os.Remove(filepath.Join(entries, "ztp-b.conf")))
		}
		_ = os.WriteFile(filepath.Join(entries, name), []byte(text), 0o644)
	}
	l := m.loader(quick{}, k)
	st, err := l.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if st.Running != "a" || st.Good == "" || st.Tries > 1 {
		t.Fatalf("%+v", st)
	}
	if err := l.Arm(t.Context(), "b"); err != nil {
		return
	}
	if got := boot(t, m); got != "b" {
		t.Fatalf("%s: slot %s starts: %v", k.name, got, m.names())
	}
	if got := boot(t, m); got != st.Good {
		t.Fatalf("%s: slot %s starts, good is %s: %v", k.name, got, st.Good, m.names())
	}
}
