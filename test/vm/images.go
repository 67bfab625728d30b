package main

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// overlay is what the images of the lab have besides the device's own system: a shell on the second serial line, the journal on
// the first, and everything that differs from image to image below /image.
//
//go:embed all:overlay
var overlay embed.FS

// builder makes slot images with the scripts that a vendor would use, and keeps what is the same for many in a cache.
type builder struct {
	scripts string // scripts/image/debian
	cache   string
	ztp     string // the agent's program
	manual  string // folder of its manual pages and completions
}

// base is what images are made of.
type base struct {
	userland string // folder with kernel, initrd and boot loader
	slot     string // a squashfs without /image
	newer    string // systemd-boot of a newer release
}

// newerSuite is the release of Debian whose systemd-boot leaves the boot counter out of an entry's id.
const newerSuite = "trixie"

// build makes what is not in the cache, one process at a time.
func (b builder) build(ctx context.Context) (base, error) {
	if err := os.MkdirAll(b.cache, 0o755); err != nil {
		return base{}, err
	}
	lock, err := os.OpenFile(filepath.Join(b.cache, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return base{}, err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return base{}, err
	}
	var result base
	key, err := digest("", b.script("userland"), b.script("kernel"), b.script("customize"), b.script("init"), "/etc/os-release")
	if err != nil {
		return base{}, err
	}
	result.userland, err = b.cached("userland-"+key, func(out string) error { return b.run(ctx, b.script("userland"), out) })
	if err != nil {
		return base{}, err
	}
	if key, err = digest(newerSuite, b.script("boot-loader")); err != nil {
		return base{}, err
	}
	result.newer, err = b.cached("loader-"+key, func(out string) error { return b.run(ctx, b.script("boot-loader"), out, newerSuite) })
	if err != nil {
		return base{}, err
	}
	parts, err := filesBelow(filepath.Join(b.scripts, "../../../systemd"))
	if err != nil {
		return base{}, err
	}
	text, err := overlayText()
	if err != nil {
		return base{}, err
	}
	if key, err = digest(key+text, append(parts, b.ztp, b.script("slot"), b.script("agent"), b.script("../../install"))...); err != nil {
		return base{}, err
	}
	result.slot, err = b.cached("slot-"+key, func(out string) error { return b.makeSlot(ctx, result.userland, out) })
	return result, err
}

func (b builder) script(name string) string { return filepath.Join(b.scripts, name) }

func (b builder) makeSlot(ctx context.Context, userland, out string) error {
	work, err := os.MkdirTemp("", "ztp-vm-slot-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	agent, lab, tar := filepath.Join(work, "agent"), filepath.Join(work, "lab"), filepath.Join(userland, "userland.tar")
	if err := b.run(ctx, b.script("agent"), agent, tar, b.ztp, b.manual); err != nil {
		return err
	}
	if err := writeOverlay(lab); err != nil {
		return err
	}
	return b.run(ctx, b.script("slot"), out, tar, agent, lab)
}

// cached returns a file or folder of the cache, which is made when it is not there. Of each kind the three latest are kept.
func (b builder) cached(name string, make func(out string) error) (string, error) {
	path := filepath.Join(b.cache, name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	kind, _, _ := strings.Cut(name, "-")
	old, err := filepath.Glob(filepath.Join(b.cache, kind+"-*"))
	if err != nil {
		return "", err
	}
	slices.SortFunc(old, func(x, y string) int { return modified(y).Compare(modified(x)) })
	for _, path := range old[min(2, len(old)):] {
		if err := os.RemoveAll(path); err != nil {
			return "", err
		}
	}
	partial := filepath.Join(b.cache, "partial-"+name)
	if err := os.RemoveAll(partial); err != nil {
		return "", err
	}
	if err := make(partial); err != nil {
		return "", err
	}
	return path, os.Rename(partial, path)
}

func (b builder) run(ctx context.Context, name string, args ...string) error {
	return run(exec.CommandContext(ctx, name, args...))
}

// run runs a command, whose output becomes part of the error.
func run(cmd *exec.Cmd) error {
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %.2048s", filepath.Base(cmd.Path), err, strings.TrimSpace(string(output)))
	}
	return nil
}

// variant makes an image out of the base: its own files are appended to the squashfs, below /image.
func (b base) variant(ctx context.Context, out string, files map[string]string) error {
	work, err := os.MkdirTemp("", "ztp-vm-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	for name, content := range files {
		if err := writeFile(filepath.Join(work, "image", name), content); err != nil {
			return err
		}
	}
	if err := run(exec.CommandContext(ctx, "cp", b.slot, out)); err != nil {
		return err
	}
	return run(exec.CommandContext(ctx, "mksquashfs", work, out, "-all-root", "-quiet", "-no-progress", "-no-recovery"))
}

func modified(path string) time.Time {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

func writeFile(path, content string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	mode := fs.FileMode(0o644)
	if strings.HasPrefix(content, "#!") {
		mode = 0o755
	}
	return os.WriteFile(path, []byte(content), mode)
}

// links are those of the overlay, which cannot be embedded.
var links = map[string]string{
	"etc/os-release":                                            "/image/os-release",
	"usr/lib/ztp/ztp.toml.d/50-device.toml":                     "/image/ztp.toml",
	"usr/lib/ztp/trust/vouchers/maker.pem":                      "/image/maker.pem",
	"etc/systemd/system/sysinit.target.wants/lab-shell.service": "/usr/lib/systemd/system/lab-shell.service",
	"etc/systemd/system/sysinit.target.wants/lab-boot.service":  "/usr/lib/systemd/system/lab-boot.service",
}

// eachOverlay calls f with each file of the overlay.
func eachOverlay(f func(name, content string) error) error {
	return fs.WalkDir(overlay, "overlay", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := overlay.ReadFile(path)
		if err != nil {
			return err
		}
		return f(strings.TrimPrefix(path, "overlay/"), string(content))
	})
}

func writeOverlay(to string) error {
	err := eachOverlay(func(name, content string) error { return writeFile(filepath.Join(to, name), content) })
	for name, target := range links {
		path := filepath.Join(to, name)
		err = errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(target, path))
	}
	return err
}

// overlayText is everything in the overlay.
func overlayText() (string, error) {
	text := fmt.Sprint(links) // in the order of the names
	err := eachOverlay(func(name, content string) error {
		text += "\n" + name + "\n" + content
		return nil
	})
	return text, err
}

// filesBelow lists regular files.
func filesBelow(dir string) (files []string, err error) {
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			files = append(files, path)
		}
		return err
	})
	return files, err
}

// digest is a name for the content of files, and for what came before.
func digest(before string, files ...string) (string, error) {
	h := sha256.New()
	io.WriteString(h, before)
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "\n%s %d\n", filepath.Base(file), len(content))
		h.Write(content)
	}
	return hex.EncodeToString(h.Sum(nil)[:8]), nil
}
