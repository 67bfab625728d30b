package daemon

import (
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/pkg/config"
)

// account is a user of the device that is looked at, which need not be this machine.
type account struct {
	uid  uint32
	gids []uint32
}

// userOf returns nil when the device has no such user, as far as its own files tell.
func userOf(paths config.Paths, name string) (a *account) {
	if name == "" {
		return nil
	}
	for entry := range entries(paths.Below("/etc/passwd")) {
		if entry[0] == name {
			a = &account{number(entry[2]), []uint32{number(entry[3])}}
		}
	}
	if a == nil {
		return nil
	}
	for entry := range entries(paths.Below("/etc/group")) {
		if slices.Contains(strings.Split(entry[3], ","), name) {
			a.gids = append(a.gids, number(entry[2]))
		}
	}
	return a
}

// entries are the lines of passwd(5) or group(5).
func entries(file string) iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		text, _ := os.ReadFile(file)
		for line := range strings.Lines(string(text)) {
			if entry := strings.Split(strings.TrimSuffix(line, "\n"), ":"); len(entry) >= 4 && !yield(entry) {
				return
			}
		}
	}
}

func number(text string) uint32 {
	n, _ := strconv.ParseUint(text, 10, 32)
	return uint32(n)
}

// What a user may do with a file, as in its mode.
const mayRead, mayWrite, mayEnter = 4, 2, 1

// needs lists what the network-facing process opens, and how.
func needs(cfg *config.Config) map[string]uint32 {
	i, list := &cfg.Identity, map[string]uint32{}
	for _, file := range slices.Concat(cfg.Files, []string{i.Key, i.Certificate, i.DecryptKey, i.DecryptCertificate}) {
		list[file] = mayRead
	}
	for _, drop := range []string{config.VendorDropIns, config.DropIns} {
		list[filepath.Dir(cfg.Paths.Below(drop))] = mayRead | mayEnter
	}
	for _, place := range slices.Concat(cfg.Trust.BootstrapServers, cfg.Trust.Vouchers, cfg.Image.Anchors, cfg.Image.Signers) {
		list[place] = mayRead
		if info, err := os.Stat(place); err == nil && info.IsDir() {
			list[place] = mayRead | mayEnter
		}
		files, _ := filepath.Glob(filepath.Join(place, "*.pem"))
		for _, file := range files {
			list[file] = mayRead
		}
	}
	list[strings.TrimPrefix(i.TPM, "unix:")] = mayRead | mayWrite
	return list
}

// denied returns which of the files the user may not use. What is not there, or cannot be looked at, is not among them.
func (a *account) denied(root string, needed map[string]uint32) (list []string) {
	for path, want := range needed {
		if strings.HasPrefix(path, "/") && !a.may(root, path, want) {
			list = append(list, path)
		}
	}
	slices.Sort(list)
	return list
}

// may reports whether the modes of a file, and of the folders above it up to root, let the user do that. Who has an access control
// list is believed to be let in by it.
func (a *account) may(root, path string, want uint32) bool {
	path, err := filepath.EvalSymlinks(path)
	for ; err == nil; path, want = filepath.Dir(path), mayEnter {
		var st unix.Stat_t
		if err = unix.Stat(path, &st); err != nil {
			break
		}
		mode := st.Mode
		switch {
		case a.uid == st.Uid:
			mode >>= 6
		case slices.Contains(a.gids, st.Gid):
			mode >>= 3
		}
		listed, _ := unix.Getxattr(path, "system.posix_acl_access", nil)
		if a.uid != 0 && mode&want != want && listed <= 0 {
			return false
		}
		if path == root || path == filepath.Dir(path) {
			break
		}
	}
	return true
}
