package onboard

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/onboard/seed"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// cloudInitHandler leaves the configuration to cloud-init, as the seed of its data source NoCloud: see package seed for what
// "replace" and "merge" mean. The seed is a folder that takes the place of the present one at one instant, since cloud-init
// runs at boot before anybody could mend half a seed. It takes the new one at the next boot, or when the command has it do so;
// that runs with ZTP_ACTION "merge" or "replace", or, after the old seed was put back, "undo".
type cloudInitHandler struct {
	path    string
	command []string // empty: none
	timeout time.Duration
}

func (h cloudInitHandler) prepare(s *session, c *artifacts.Configuration) (state.Entry, error) {
	if h.path == "" {
		return state.Entry{}, &reason.Error{
			Code: ReasonConfigNoHandler, Msg: "configuration.seed is empty", Fix: "name the folder that cloud-init reads",
		}
	}
	now, err := readSeed(h.path)
	if err != nil {
		return state.Entry{}, err
	}
	next, err := now.with(c)
	if err != nil {
		return state.Entry{}, err
	}
	backup := &state.SeedBackup{Path: now.path, New: digest(next)}
	if now.files != nil {
		backup.Old = digest(now.files)
	} else {
		backup.Folders = missingFolders(now.path)
	}
	return state.Entry{Seed: backup, Command: h.command}, nil
}

func (h cloudInitHandler) commit(ctx context.Context, s *session, c *artifacts.Configuration) (finished, error) {
	now, err := readSeed(h.path)
	if err != nil {
		return finished{}, err
	}
	next, err := now.with(c)
	if err == nil {
		err = s.putSeed(now, next)
	}
	if err != nil || len(h.command) == 0 {
		return finished{}, err
	}
	return s.runSeedCommand(ctx, h.command, string(c.Handling), s.id, h.timeout)
}

// putSeed has the new seed take the place of the present one, which stays beside it until the onboarding is at its end.
func (e *Executor) putSeed(now presentSeed, next seed.Seed) error {
	aside := durable.TempName(now.path)
	err := removeTree(e.FS, aside)
	if err == nil && now.files != nil && digest(now.files) == digest(next) {
		return nil // it is there
	}
	if err == nil {
		err = durable.MkdirAll(e.FS, filepath.Dir(now.path), 0o755)
	}
	if err == nil {
		err = e.FS.Mkdir(aside, 0o700) // seeds hold passwords
	}
	for _, name := range seed.Names() {
		if content, ok := next[name]; ok && err == nil {
			err = durable.WriteFile(e.FS, filepath.Join(aside, name), content, 0o600, nil)
		}
	}
	if err == nil {
		err = e.FS.SyncDir(filepath.Dir(now.path))
	}
	switch {
	case err != nil:
	case now.files == nil:
		err = e.FS.Rename(aside, now.path)
	default:
		err = e.FS.Exchange(aside, now.path)
	}
	if err == nil {
		err = e.FS.SyncDir(filepath.Dir(now.path))
	}
	if err != nil {
		return seedError(now.path, err)
	}
	return nil
}

// restoreSeed makes the seed what it was. Doing so twice is the same as once.
func (e *Executor) restoreSeed(ctx context.Context, entry state.Entry) error {
	b := entry.Seed
	aside := durable.TempName(b.Path)
	now, err := readSeed(b.Path)
	var beside presentSeed
	if err == nil {
		beside, err = readSeed(aside)
	}
	switch {
	case err != nil:
	case b.Old == b.New: // nothing was changed
	case b.Old == "" && now.files != nil && beside.files == nil:
		err = e.FS.Rename(b.Path, aside)
	case b.Old == "":
	case beside.files != nil && digest(beside.files) == b.Old: // it came there by the exchange, whatever became of the new one since
		err = e.FS.Exchange(b.Path, aside)
	case now.files != nil && digest(now.files) == b.New:
		err = errors.New("its backup was damaged")
	}
	if err == nil {
		err = e.syncSeed(b.Path)
	}
	if err == nil {
		err = removeTree(e.FS, aside)
	}
	if err == nil {
		err = e.removeFolders(b.Folders)
	}
	if err == nil && len(b.Folders) > 0 {
		err = e.syncSeed(b.Folders[0])
	}
	if err != nil {
		return seedError(b.Path, err)
	}
	if len(entry.Command) == 0 {
		return nil
	}
	_, err = e.runSeedCommand(ctx, entry.Command, "undo", entry.Session, time.Duration(e.Configuration.Timeout))
	return err
}

// syncSeed makes the name of a seed durable, if it can be there at all.
func (e *Executor) syncSeed(path string) error {
	err := e.FS.SyncDir(filepath.Dir(path))
	if gone(err) {
		return nil
	}
	return err
}

func (e *Executor) runSeedCommand(ctx context.Context, command []string, action, session string, timeout time.Duration) (finished, error) {
	return e.runJudged(ctx, job{
		argv: command, step: state.StepConfiguration, action: action, session: session, timeout: timeout,
	}, configReasons)
}

// oldSeed is where the seed waits that the new one has taken the place of; empty when none does.
func (e *Executor) oldSeed() string {
	if e.Configuration.Handler != "cloud-init" || e.Configuration.Seed == "" {
		return ""
	}
	path, err := resolved(e.Configuration.Seed)
	if err != nil {
		return "" // there is none
	}
	aside := durable.TempName(path)
	if _, err := os.Lstat(aside); err != nil {
		return ""
	}
	return aside
}

// presentSeed is the seed as it is.
type presentSeed struct {
	path  string    // symbolic links resolved
	files seed.Seed // nil when there is no such folder
}

func readSeed(path string) (presentSeed, error) {
	place, err := resolved(path)
	if gone(err) {
		return presentSeed{path: path}, nil
	}
	var info fs.FileInfo
	if err == nil {
		info, err = os.Stat(place)
	}
	if err == nil && !info.IsDir() {
		err = errors.New("it is not a folder")
	}
	if err != nil {
		return presentSeed{}, seedError(path, err)
	}
	now := presentSeed{path: place, files: seed.Seed{}}
	for _, name := range seed.Names() {
		content, err := readSeedFile(filepath.Join(place, name))
		if err != nil {
			return presentSeed{}, seedError(place, err)
		}
		if content != nil {
			now.files[name] = content
		}
	}
	return now, nil
}

// resolved follows symbolic links; one to nothing is an error of its own.
func resolved(path string) (string, error) {
	place, err := filepath.EvalSymlinks(path)
	if gone(err) {
		if _, linkErr := os.Lstat(path); linkErr == nil {
			return "", errors.New("it is a symbolic link to nothing")
		}
	}
	return place, err
}

// readSeedFile returns nil when there is none.
func readSeedFile(path string) ([]byte, error) {
	if _, err := os.Lstat(path); gone(err) {
		return nil, nil
	}
	f, err := readConfigFile(path)
	switch {
	case err != nil:
		return nil, err
	case len(f.content) > seed.MaxSize:
		return nil, fmt.Errorf("%s is longer than %d bytes", path, seed.MaxSize)
	case f.content == nil:
		return []byte{}, nil
	}
	return f.content, nil
}

// with returns the seed that takes the place of this one.
func (p presentSeed) with(c *artifacts.Configuration) (seed.Seed, error) {
	var next seed.Seed
	var err error
	switch c.Handling {
	case artifacts.Replace:
		next, err = seed.New(c.Data)
	case artifacts.Merge:
		next, err = seed.Merge(p.files, c.Data)
	default:
		return nil, &reason.Error{Code: ReasonConfigMerge, Msg: fmt.Sprintf("unknown configuration-handling %q", c.Handling)}
	}
	switch {
	case errors.Is(err, seed.ErrMerge):
		return nil, &reason.Error{
			Code: ReasonConfigMerge, Msg: "the configuration cannot be merged into cloud-init's seed",
			Fix: `use configuration-handling "replace"`, Err: err,
		}
	case err != nil:
		return nil, &reason.Error{
			Code: ReasonConfigFormat, Msg: "the configuration is nothing that cloud-init takes as user-data", Err: err,
			Fix: `begin it with a line such as "#cloud-config"; "cloud-init schema --config-file FILE" checks one`,
		}
	}
	return next, nil
}

// digest tells seeds apart.
func digest(s seed.Seed) string {
	hash := sha256.New()
	for _, name := range seed.Names() {
		content, ok := s[name]
		fmt.Fprintf(hash, "%s %t %x\n", name, ok, sha256.Sum256(content))
	}
	return hex.EncodeToString(hash.Sum(nil))
}

// removeTree removes a folder with everything in it, durably; it may be absent. Symbolic links in it are not followed.
func removeTree(on durable.FS, path string) error {
	entries, err := os.ReadDir(path)
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		inner := filepath.Join(path, entry.Name())
		if entry.IsDir() {
			err = removeTree(on, inner)
		} else {
			err = on.Remove(inner)
		}
		if err != nil && !gone(err) {
			return err
		}
	}
	return durable.Remove(on, path)
}

func seedError(path string, err error) error {
	return &reason.Error{
		Code: ReasonConfigFile,
		Msg:  "cannot read or change the seed of cloud-init in " + path,
		Fix: "check configuration.seed, and that the folder above it is writable and has free space; where another seed is there already, " +
			"the file system must be able to swap two folders, as ext4, XFS, Btrfs and tmpfs are",
		Err: err,
	}
}
