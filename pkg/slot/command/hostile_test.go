package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/slot"
)

// odd is a device whose tool does what body says for its status, after one that is right.
func odd(t *testing.T, body string) *device {
	d := newDevice(t, &Tool{
		Status:     [][]string{{"tool", "status"}},
		Answer:     Answer{Running: "running=(*)", Good: "good=(*)", Next: "next=(*)", Tries: "tries=(*)"},
		Install:    [][]string{{"tool", "install", "{image}", "{slot}", "{sha256}", "{size}", "{good}"}},
		Activate:   [][]string{{"tool", "activate", "{slot}"}},
		Deactivate: [][]string{{"tool", "deactivate", "{slot}"}},
		MarkGood:   [][]string{{"tool", "good", "{slot}"}},
	})
	d.put("running", "running=a")
	play(t, d.dir, "tool", body)
	return d
}

// TestOddTools has the status command do what it should not.
func TestOddTools(t *testing.T) {
	tests := []struct {
		name, body string
		want       reason.Code
		says       string // part of the message
	}{
		{"fails", "echo broken >&2; exit 3", CodeFailed, `exit code 3: "broken"`},
		{"fails with odd text", `printf '\033[31m\377\n'; exit 1`, CodeFailed, `"\x1b[31m\xff"`},
		{"is killed", "kill -9 $$", CodeKilled, "signal: killed"},
		{"hangs", "echo begun; trap '' TERM; while :; do sleep 1000; done", CodeTimeout, `killed: "begun"`},
		{"hangs with its child", "sleep 1000 & wait", CodeTimeout, ""},
		{"prints without end", "while :; do echo running=a; done", CodeTimeout, ""},
		{"prints too much", "head -c 300000 /dev/zero", CodeAnswer, "more than 256 KiB"},
		{"prints an argument", "echo running=--help", CodeAnswer, "--help"},
		{"prints an escape", `printf 'running=a\033[0m\n'`, CodeAnswer, "cannot be the name"},
		{"prints no number", `echo running=a; echo tries=many`, CodeAnswer, "many"},
		{"prints a negative number", `echo running=a; echo tries=-1`, CodeAnswer, ""},
		{"prints a long name", `printf 'running='; head -c 200 /dev/zero | tr '\0' x`, CodeAnswer, "cannot be the name"},
		{"leaves a child with its output", `echo running=a; setsid sleep 1000 & `, "", ""},
		{"prints nothing", "", CodeAnswer, `no line of it is like "running=(*)"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := odd(t, tt.body)
			d.opts.Limits.Other = time.Minute
			if tt.want == CodeTimeout {
				d.opts.Limits.Other = 300 * time.Millisecond
			}
			_, err := d.installer(t, nil).Describe(t.Context())
			if tt.want == "" {
				must(t, err)
				return
			}
			wantCode(t, err, tt.want)
			if !strings.Contains(err.Error(), tt.says) || !utf8.ValidString(err.Error()) || len(err.Error()) > 1200 {
				t.Errorf("%v", err)
			}
		})
	}
	t.Run("is missing", func(t *testing.T) {
		d := newDevice(t, RAUC())
		d.opts.Tool.Status = [][]string{{"no-such-installer"}}
		_, err := d.installer(t, nil).Describe(t.Context())
		wantCode(t, err, CodeStart)
	})
	t.Run("is stopped", func(t *testing.T) {
		d := odd(t, "cat running")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := d.installer(t, nil).Describe(ctx)
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// TestInstallFails leaves nothing that would pass for an installed image, and starts over.
func TestInstallFails(t *testing.T) {
	for name, what := range map[string]string{"fails": "exit 1", "hangs": "sleep 1000"} {
		t.Run(name, func(t *testing.T) {
			d := odd(t, "case $1 in status) cat running;; install) [ ! -e bad ] || { "+what+"; }; cp \"$2\" held; head -c 300000 /dev/zero; echo \"$3 $4 $5 $6\" >arguments;; esac")
			d.opts.Limits.Install = time.Minute
			must(t, install(t, d.installer(t, nil), "one"))
			d.put("bad", "")
			if name == "hangs" {
				d.opts.Limits.Install = 300 * time.Millisecond
			}
			err := install(t, d.installer(t, nil), "two")
			wantCode(t, err, map[string]reason.Code{"fails": CodeFailed, "hangs": CodeTimeout}[name])
			now, err := d.installer(t, nil).Describe(t.Context())
			must(t, err)
			if len(now.Contents) != 0 || now.Trial() {
				t.Errorf("%+v", now)
			}
			wantCode(t, d.installer(t, nil).Activate(t.Context()), slot.CodeNotReady)
			os.Remove(filepath.Join(d.dir, "bad"))
			d.opts.Limits.Install = time.Minute
			must(t, install(t, d.installer(t, nil), "two"))
			now, err = d.installer(t, nil).Describe(t.Context())
			must(t, err)
			wantImage(t, now, other, "two")
			if got := d.get("arguments"); got != "other 3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3 3 a" {
				t.Errorf("installed with %q", got)
			}
			info, err := os.Stat(filepath.Dir(d.opts.Image))
			if err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("the folder of images: %v, %v", info.Mode(), err)
			}
		})
	}
}

// TestEnvironment shows what a tool gets to know.
func TestEnvironment(t *testing.T) {
	t.Setenv("SECRET", "of the daemon")
	d := odd(t, `case $1 in status) cat running;; install) stat -c '%a' "$2" >mode; { env; readlink /proc/$$/fd/0; } >environment;; esac`)
	must(t, install(t, d.installer(t, nil), "image"))
	var got []string
	for line := range strings.Lines(d.get("environment")) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if name == markVariable && value != "" {
			value = "…"
		}
		if name != "_" && name != "OLDPWD" && name != "SHLVL" {
			got = append(got, name+"="+value)
		}
	}
	slices.Sort(got)
	want := []string{"/dev/null=", "HOME=/", "LANG=C.UTF-8", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "PWD=" + d.dir, "ZTP_INSTALLER=…"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if mode := d.get("mode"); mode != "600" {
		t.Errorf("the image has mode %s", mode)
	}
}

// TestNoStatus is a device of which nobody can say which slot runs.
func TestNoStatus(t *testing.T) {
	d := odd(t, ":")
	d.reboot = func() {}
	d.opts.Tool.Status = nil
	d.want(t, current, current, "", other)
	must(t, install(t, d.installer(t, nil), "image"))
	d.want(t, current, current, "", other)
	must(t, d.installer(t, nil).Activate(t.Context()))
	wantImage(t, d.want(t, current, current, other, other), other, "image")
	must(t, d.installer(t, nil).MarkGood(t.Context())) // too early
	d.start()
	d.want(t, current, current, "", other)
	d.calls("")
	must(t, d.installer(t, nil).MarkGood(t.Context()))
	must(t, d.installer(t, nil).MarkGood(t.Context()))
	if diff := cmp.Diff([]string{"tool good current"}, d.calls("")); diff != "" {
		t.Error(diff)
	}
}

// TestCommandLine is a device of which only the kernel knows which slot runs.
func TestCommandLine(t *testing.T) {
	d := odd(t, ":")
	d.reboot = func() {}
	d.opts.Tool.Status = nil
	d.opts.Slots = []Slot{{Name: "a", Argument: "root=/dev/sda2"}, {Name: "b", Argument: "root=/dev/sda3"}}
	d.opts.CommandLine = filepath.Join(d.dir, "cmdline")
	d.put("cmdline", "quiet root=/dev/sda2")
	d.want(t, "a", "a", "", "b")
	must(t, install(t, d.installer(t, nil), "image"))
	must(t, d.installer(t, nil).Activate(t.Context()))
	d.want(t, "a", "a", "b", "b")
	d.put("cmdline", "quiet root=/dev/sda3")
	d.start()
	wantImage(t, d.want(t, "b", "a", "", "a"), "b", "image")
	must(t, d.installer(t, nil).MarkGood(t.Context()))
	d.want(t, "b", "b", "", "a")
}

func TestStrangeRecord(t *testing.T) {
	d := odd(t, "cat running")
	must(t, os.Mkdir(d.opts.Dir, 0o700))
	for _, text := range []string{"", "{", `{"images":7}`, `{"images":{"a":null}}`, `{"attempt":{"slot":1}}`, strings.Repeat("x", maxRecord+1)} {
		must(t, os.WriteFile(filepath.Join(d.opts.Dir, recordName), []byte(text), 0o600))
		if now := d.want(t, "a", "a", "", other); len(now.Contents) != 0 {
			t.Errorf("%.20q: %+v", text, now)
		}
	}
	must(t, os.Remove(filepath.Join(d.opts.Dir, recordName)))
	must(t, os.Mkdir(filepath.Join(d.opts.Dir, recordName), 0o700))
	_, err := d.installer(t, nil).Describe(t.Context())
	wantCode(t, err, slot.CodeUnavailable)
	d.opts.BootID += ".missing"
	must(t, os.Remove(filepath.Join(d.opts.Dir, recordName)))
	_, err = d.installer(t, nil).Describe(t.Context())
	wantCode(t, err, slot.CodeUnavailable)
}

func TestConfig(t *testing.T) {
	ok := [][]string{{"tool", "{slot}{good}", "x{slot}y"}}
	tests := []struct {
		name string
		tool Tool
		bad  bool
	}{
		{"right", Tool{Install: [][]string{{"tool", "{image}", "{sha256}", "{size}", "{slot}", "{good}"}}, Activate: ok, Deactivate: ok, MarkGood: ok}, false},
		{"no install", Tool{Activate: ok}, true},
		{"no program", Tool{Install: [][]string{{}}}, true},
		{"empty program", Tool{Install: [][]string{{""}}}, true},
		{"program is a placeholder", Tool{Install: [][]string{{"{image}"}}}, true},
		{"program depends on the slot", Tool{Install: [][]string{{"/opt/{slot}/install"}}}, true},
		{"unknown placeholder", Tool{Install: [][]string{{"tool", "{Image}"}}}, true},
		{"placeholder not closed", Tool{Install: [][]string{{"tool", "{image"}}}, true},
		{"image is not there any more", Tool{Install: ok, Activate: [][]string{{"tool", "{image}"}}}, true},
		{"status knows nothing", Tool{Install: ok, Status: ok}, true},
		{"no devices", Tool{Install: [][]string{{"tool", "{device}"}}}, true},
		{"pattern without a place", Tool{Install: ok, Answer: Answer{Good: "good=*"}}, true},
		{"pattern with two", Tool{Install: ok, Answer: Answer{Good: "(*)(*)"}}, true},
		{"needs slots", *SWUpdate(), true},
	}
	for _, tt := range tests {
		_, err := NewInstaller(Options{Tool: tt.tool})
		if (err != nil) != tt.bad {
			t.Errorf("%s: %v", tt.name, err)
		}
		if tt.bad {
			wantCode(t, err, CodeConfig)
		}
	}
	for _, name := range Presets() {
		if _, err := NewInstaller(Options{Tool: *Preset(name), Slots: make([]Slot, 2)}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if Preset("none") != nil {
		t.Error("there is a preset none")
	}
	all := Tool{Status: ok, Activate: ok, Deactivate: ok, MarkGood: ok}
	for _, o := range []Options{{}, {Tool: Tool{Status: ok, Activate: ok, Deactivate: ok}, Slots: make([]Slot, 2)}, {Tool: all, Slots: make([]Slot, 2)}, {Tool: all}} {
		_, err := NewLoader(o)
		wantCode(t, err, CodeConfig)
	}
}

// TestLoader tells a U-Boot environment, with the programs that come with it.
func TestLoader(t *testing.T) {
	dir := t.TempDir()
	config, environment := filepath.Join(dir, "fw_env.config"), filepath.Join(dir, "environment")
	must(t, os.WriteFile(environment, make([]byte, 2*4096), 0o600))
	must(t, os.WriteFile(config, fmt.Appendf(nil, "%s 0x0 0x1000\n%s 0x1000 0x1000\n", environment, environment), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "default"), []byte("bootdelay=2\n"), 0o600))
	set := func(name string, value ...string) []string {
		return append([]string{"fw_setenv", "--config", config, name}, value...)
	}
	if out, err := exec.Command("fw_setenv", "-c", config, "-f", filepath.Join(dir, "default"), "slot_good", "a").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	runs := func(root string) {
		must(t, os.WriteFile(filepath.Join(dir, "cmdline"), []byte("quiet root="+root+"\n"), 0o600))
	}
	l, err := NewLoader(Options{CommandLine: filepath.Join(dir, "cmdline"), Tool: Tool{
		Status:     [][]string{{"fw_printenv", "--config", config}},
		Answer:     Answer{Good: "slot_good=(*)", Next: "slot_next=(*)", Tries: "slot_tries=(*)"},
		Activate:   [][]string{set("slot_next", "{slot}"), set("slot_tries", "3")},
		Deactivate: [][]string{set("slot_tries", "0"), set("slot_next")},
		MarkGood:   [][]string{set("slot_good", "{slot}"), set("slot_tries", "0")},
	}, Slots: []Slot{{Name: "a", Argument: "root=/dev/mmcblk0p2"}, {Name: "b", Argument: "root=/dev/mmcblk0p3"}}})
	must(t, err)
	want := func(want slot.State) {
		t.Helper()
		got, err := l.State(t.Context())
		must(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	}
	runs("/dev/mmcblk0p2")
	want(slot.State{Running: "a", Good: "a"})
	for range 2 {
		must(t, l.Disarm(t.Context(), "b"))
		must(t, l.Arm(t.Context(), "b"))
	}
	want(slot.State{Running: "a", Good: "a", Next: "b", Tries: 3})
	runs("/dev/mmcblk0p3")
	for range 2 {
		must(t, l.Bless(t.Context(), "b"))
	}
	want(slot.State{Running: "b", Good: "b"})
	runs("/dev/mmcblk0p9")
	_, err = l.State(t.Context())
	wantCode(t, err, slot.CodeUnavailable)
	runs("/dev/mmcblk0p2")
	must(t, exec.Command("fw_setenv", "-c", config, "slot_good").Run())
	_, err = l.State(t.Context())
	wantCode(t, err, CodeAnswer)
}

// FuzzExpand puts values into arguments: each stays one argument, and has nothing else in it.
func FuzzExpand(f *testing.F) {
	f.Add("{image}", "/a b/$(c)")
	f.Add("--select=stable,{slot}", "{slot}")
	f.Add("{", "}")
	f.Fuzz(func(t *testing.T, element, value string) {
		got, err := expand([]string{"tool", element}, map[string]string{"slot": value, "image": value})
		if err != nil {
			if !strings.Contains(element, "{") {
				t.Fatal(err)
			}
			return
		}
		want := strings.NewReplacer("{slot}", value, "{image}", value).Replace(element)
		if diff := cmp.Diff([]string{"tool", want}, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

// FuzzStatus reads whatever a tool may print.
func FuzzStatus(f *testing.F) {
	f.Add("Current: a\nNext: b\n", "Next: (*)")
	f.Add(`{"slots":[{"x":null}]}`, "(*)")
	f.Add(`{"boot_primary":"x","slots":[{"x":{"class":"c","state":"booted"}},{"y":{"class":"c","bootname":"B"}}]}`, "x(*)y")
	f.Fuzz(func(t *testing.T, output, pattern string) {
		a, err := parseRAUC([]byte(output))
		if err == nil && (a.running == "" || a.other == a.running) {
			t.Fatalf("%+v", a)
		}
		a, err = (&Answer{Next: pattern}).read([]byte(output))
		if before, after, ok := strings.Cut(pattern, place); err != nil || a.next != "" && (!ok || !strings.Contains(output, before) || !strings.Contains(output, after)) {
			t.Fatalf("%+v, %v", a, err)
		}
		if usable(a.next) && (strings.HasPrefix(a.next, "-") || strings.ContainsAny(a.next, "\n\x00")) {
			t.Fatalf("%q", a.next)
		}
	})
}
