package slot_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/slot"
)

// factory makes a folder as the factory leaves it: an image in slot a and nothing else.
func factory(t interface {
	Helper()
	Fatal(...any)
}, dir string) *slot.AB {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "a.img"), []byte("factory"), 0o600); err != nil {
		t.Fatal(err)
	}
	return slot.NewFile(slot.Options{Dir: dir})
}

func install(t *testing.T, b slot.Backend, content string) {
	t.Helper()
	w, err := b.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(content))
	if err := w.Commit(t.Context(), sum[:]); err != nil {
		t.Fatal(err)
	}
	if err := b.Activate(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// boot boots and returns the slot and the content of the image that runs.
func boot(t *testing.T, dir string) (name, content string) {
	t.Helper()
	name, image, err := slot.Boot(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	return name, string(b)
}

func wantCode(t *testing.T, err error, want reason.Code) {
	t.Helper()
	if code, _ := reason.Of(err); code != want {
		t.Fatalf("got %q (%v), want code %q", code, err, want)
	}
}

func TestTrialBoot(t *testing.T) {
	type start struct{ Slot, Content string }
	tests := []struct {
		name  string
		good  bool    // the new image is marked good while it runs
		want  []start // of three boots: factory, trial, the one after
		trial bool
	}{
		{"marked good stays", true, []start{{"a", "factory"}, {"b", "new"}, {"b", "new"}}, false},
		{"not marked good falls back", false, []start{{"a", "factory"}, {"b", "new"}, {"a", "factory"}}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			b := factory(t, dir)
			var got []start
			step := func() { name, content := boot(t, dir); got = append(got, start{name, content}) }
			step()
			install(t, b, "new")
			step()
			d, err := b.Describe(t.Context())
			if err != nil || !d.Trial() || d.Next != "" {
				t.Fatalf("on trial: %+v, %v", d, err)
			}
			if tt.good {
				if err := b.MarkGood(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			step()
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestOpenRefusesTheOnlyFallback(t *testing.T) {
	dir := t.TempDir()
	b := factory(t, dir)
	boot(t, dir)
	install(t, b, "new")
	boot(t, dir)
	_, err := b.Open(t.Context())
	wantCode(t, err, slot.CodeInTrial)
	if err := b.MarkGood(t.Context()); err != nil {
		t.Fatal(err)
	}
	install(t, b, "newer")
	if name, content := boot(t, dir); name != "a" || content != "newer" {
		t.Errorf("booted %s with %q", name, content)
	}
}

func TestCommitReadsBack(t *testing.T) {
	dir := t.TempDir()
	b := factory(t, dir)
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<10)
	sum := sha256.Sum256(content)
	tests := map[string]func() error{
		"changed behind our back": func() error {
			f, err := os.OpenFile(filepath.Join(dir, "b.img"), os.O_WRONLY, 0)
			if err == nil {
				_, err = f.WriteAt([]byte("x"), 4711)
				f.Close()
			}
			return err
		},
		"storage lost bytes": func() error { return os.Truncate(filepath.Join(dir, "b.img"), 1) },
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			w, err := b.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			if _, err := w.Write(content); err != nil {
				t.Fatal(err)
			}
			if err := spoil(); err != nil {
				t.Fatal(err)
			}
			wantCode(t, w.Commit(t.Context(), sum[:]), slot.CodeReadBack)
			wantCode(t, b.Activate(t.Context()), slot.CodeNotReady)
		})
	}
}

func TestReset(t *testing.T) {
	dir := t.TempDir()
	b := factory(t, dir)
	w, err := b.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	w.Write([]byte("a longer first try"))
	if err := w.Reset(); err != nil {
		t.Fatal(err)
	}
	w.Write([]byte("new"))
	sum := sha256.Sum256([]byte("new"))
	if err := w.Commit(t.Context(), sum[:]); err != nil {
		t.Fatal(err)
	}
	d, err := b.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]slot.Image{"b": {SHA256: sum[:], Size: 3, Written: 3, Format: "raw", At: d.Contents["b"].At}}
	if diff := cmp.Diff(want, d.Contents); diff != "" {
		t.Error(diff)
	}
	check := exec.Command("sha256sum", "--check", "--strict", "b.sha256")
	check.Dir = dir
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("sha256sum does not agree: %v\n%s", err, out)
	}
}

func TestCommitCancelled(t *testing.T) {
	b := factory(t, t.TempDir())
	w, err := b.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	w.Write([]byte("new"))
	sum := sha256.Sum256([]byte("new"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Commit(ctx, sum[:]); err == nil {
		t.Fatal("committed after being cancelled")
	}
	wantCode(t, b.Activate(t.Context()), slot.CodeNotReady)
}

func TestDeactivate(t *testing.T) {
	dir := t.TempDir()
	b := factory(t, dir)
	install(t, b, "new")
	for range 2 {
		if err := b.Deactivate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if name, content := boot(t, dir); name != "a" || content != "factory" {
		t.Errorf("booted %s with %q", name, content)
	}
}

func TestBadState(t *testing.T) {
	write := func(t *testing.T, dir, name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("running names no slot", func(t *testing.T) {
		dir := t.TempDir()
		b := factory(t, dir)
		write(t, dir, "running", "c\n")
		_, err := b.Open(t.Context())
		wantCode(t, err, slot.CodeUnavailable)
	})
	t.Run("next names a slot without a complete image", func(t *testing.T) {
		dir := t.TempDir()
		factory(t, dir)
		write(t, dir, "b.img", "half")
		write(t, dir, "next", "b\n")
		if name, _ := boot(t, dir); name != "a" {
			t.Errorf("booted %s", name)
		}
	})
	t.Run("next is garbage", func(t *testing.T) {
		dir := t.TempDir()
		factory(t, dir)
		write(t, dir, "next", "../../etc\n")
		if name, _ := boot(t, dir); name != "a" {
			t.Errorf("booted %s", name)
		}
	})
	t.Run("digest is garbage", func(t *testing.T) {
		dir := t.TempDir()
		b := factory(t, dir)
		install(t, b, "new")
		write(t, dir, "b.sha256", "yes")
		wantCode(t, b.Activate(t.Context()), slot.CodeNotReady)
	})
	t.Run("nothing to boot", func(t *testing.T) {
		_, _, err := slot.Boot(t.TempDir())
		wantCode(t, err, slot.CodeNotBootable)
	})
	t.Run("folder cannot be made", func(t *testing.T) {
		dir := t.TempDir()
		write(t, dir, "file", "")
		_, err := slot.NewFile(slot.Options{Dir: filepath.Join(dir, "file", "slots")}).Open(t.Context())
		wantCode(t, err, slot.CodeUnavailable)
	})
}

// Whatever is done in whatever order, interrupted wherever, the boot loader starts a complete image: the newest one that
// was activated, once, and else the one that was last marked good.
func TestAlwaysBootable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "slots")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		b := factory(t, dir)
		ctx := context.Background()
		running, good := "factory", "factory"
		next, generation := "", byte('0')
		t.Repeat(map[string]func(*rapid.T){
			"install": func(t *rapid.T) {
				w, err := b.Open(ctx)
				if code, _ := reason.Of(err); code == slot.CodeInTrial && running != good {
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				defer w.Close()
				next = ""
				generation++
				content := bytes.Repeat([]byte{generation}, rapid.IntRange(1, 100).Draw(t, "size"))
				cut := rapid.IntRange(0, len(content)).Draw(t, "written")
				w.Write(content[:cut])
				if sum := sha256.Sum256(content); cut == len(content) {
					if err := w.Commit(ctx, sum[:]); err != nil {
						t.Fatal(err)
					}
				}
			},
			"activate": func(t *rapid.T) {
				err := b.Activate(ctx)
				d, _ := b.Describe(ctx)
				if (err == nil) != (d.Contents[d.Target].Size > 0 && !d.Trial()) {
					t.Fatalf("activated %+v: %v", d, err)
				}
				if err == nil {
					content, _ := os.ReadFile(filepath.Join(dir, d.Target+".img"))
					next = string(content)
				}
			},
			"mark good": func(t *rapid.T) {
				if err := b.MarkGood(ctx); err != nil {
					t.Fatal(err)
				}
				good = running
			},
			"boot": func(t *rapid.T) {
				_, image, err := slot.Boot(dir)
				if err != nil {
					t.Fatal(err)
				}
				content, err := os.ReadFile(image)
				if err != nil {
					t.Fatal(err)
				}
				want := good
				if next != "" {
					want = next
				}
				if running, next = string(content), ""; running != want {
					t.Fatalf("booted %.4q, want %.4q", running, want)
				}
			},
		})
	})
}
