package onboard

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// maxConfigFile bounds, in bytes, the present configuration file that is backed up and merged into.
const maxConfigFile = 64 << 20

// fileHandler puts the configuration into one file. "replace" writes it as it came. "merge" is the JSON merge patch of
// RFC 7396: both the present file and the configuration must be JSON objects, and a missing file counts as an empty one;
// anything else is refused, since guessing how to merge would leave a configuration that nobody wrote. The file keeps its
// owner and mode; a new one is readable by its owner alone. Extended attributes are not kept.
type fileHandler struct {
	path string
}

func (h fileHandler) prepare(s *session, c *artifacts.Configuration) (state.Entry, error) {
	if h.path == "" {
		return state.Entry{}, &reason.Error{
			Code: ReasonConfigNoHandler, Msg: "configuration.path is empty", Fix: "name the file that configurations go into",
		}
	}
	now, err := readConfigFile(h.path)
	if err != nil {
		return state.Entry{}, err
	}
	if _, err := now.with(c); err != nil {
		return state.Entry{}, err
	}
	backup := now.backup()
	if now.existed {
		backup.Backup = backupConfig
		if err := s.stage(backupConfig, now.content, 0o600); err != nil {
			return state.Entry{}, err
		}
	} else {
		backup.Folders = missingFolders(now.path)
	}
	return state.Entry{File: backup}, nil
}

func (h fileHandler) commit(_ context.Context, s *session, c *artifacts.Configuration) (finished, error) {
	now, err := readConfigFile(h.path)
	if err != nil {
		return finished{}, err
	}
	content, err := now.with(c)
	if err != nil {
		return finished{}, err
	}
	if err := durable.MkdirAll(s.FS, filepath.Dir(now.path), 0o755); err != nil {
		return finished{}, fileError(now.path, err)
	}
	if err := durable.WriteFile(s.FS, now.path, content, now.mode, now.owner); err != nil {
		return finished{}, fileError(now.path, err)
	}
	return finished{}, nil
}

// restore makes the file what it was. Doing so twice is the same as once.
func (e *Executor) restore(b *state.FileBackup) error {
	if err := e.FS.Remove(durable.TempName(b.Path)); err != nil && !gone(err) {
		return fileError(b.Path, err)
	}
	if !b.Existed {
		return e.removeFile(b)
	}
	content, err := os.ReadFile(filepath.Join(e.Dir, b.Backup))
	if err != nil {
		return fileError(b.Path, err)
	}
	if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != b.SHA256 {
		return fileError(b.Path, errors.New("its backup was damaged"))
	}
	if err := durable.WriteFile(e.FS, b.Path, content, b.Mode, &durable.Owner{UID: b.UID, GID: b.GID}); err != nil {
		return fileError(b.Path, err)
	}
	return nil
}

func (e *Executor) removeFile(b *state.FileBackup) error {
	if err := e.FS.Remove(b.Path); err != nil && !gone(err) {
		return fileError(b.Path, err)
	}
	if err := e.removeFolders(b.Folders); err != nil {
		return fileError(b.Path, err)
	}
	top := filepath.Dir(b.Path)
	if len(b.Folders) > 0 {
		top = filepath.Dir(b.Folders[0])
	}
	if err := e.FS.SyncDir(top); err != nil && !gone(err) {
		return fileError(b.Path, err)
	}
	return nil
}

// removeFolders removes what was made for a file, outermost first in the list. A folder that someone else uses by now stays.
func (e *Executor) removeFolders(folders []string) error {
	for _, folder := range slices.Backward(folders) {
		err := e.FS.Remove(folder)
		if err != nil && !gone(err) && !errors.Is(err, fs.ErrExist) && !errors.Is(err, syscall.EBUSY) {
			return err
		}
	}
	return nil
}

// configFile is the configuration file as it is.
type configFile struct {
	path    string // symbolic links resolved
	existed bool
	content []byte
	mode    fs.FileMode
	owner   *durable.Owner // nil for a new file
}

func readConfigFile(path string) (configFile, error) {
	resolved, err := filepath.EvalSymlinks(path)
	if gone(err) {
		if _, linkErr := os.Lstat(path); linkErr == nil {
			return configFile{}, fileError(path, errors.New("it is a symbolic link to nothing"))
		}
		return configFile{path: path, mode: 0o600}, nil
	}
	if err != nil {
		return configFile{}, fileError(path, err)
	}
	f, err := os.OpenFile(resolved, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return configFile{}, fileError(resolved, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return configFile{}, fileError(resolved, err)
	}
	if !info.Mode().IsRegular() {
		return configFile{}, fileError(resolved, errors.New("it is not a regular file"))
	}
	content, err := io.ReadAll(io.LimitReader(f, maxConfigFile+1))
	if err != nil {
		return configFile{}, fileError(resolved, err)
	}
	if len(content) > maxConfigFile {
		return configFile{}, fileError(resolved, fmt.Errorf("it is longer than %d bytes", maxConfigFile))
	}
	c := configFile{path: resolved, existed: true, content: content, mode: unixMode(info)}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		c.owner = &durable.Owner{UID: int(st.Uid), GID: int(st.Gid)}
	}
	return c, nil
}

// unixMode is everything chmod can set.
func unixMode(info fs.FileInfo) fs.FileMode {
	return info.Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
}

// with returns the content that the file gets.
func (f configFile) with(c *artifacts.Configuration) ([]byte, error) {
	switch c.Handling {
	case artifacts.Replace:
		return c.Data, nil
	case artifacts.Merge:
		present := f.content
		if !f.existed {
			present = []byte("{}")
		}
		return mergePatch(present, c.Data)
	}
	return nil, &reason.Error{Code: ReasonConfigMerge, Msg: fmt.Sprintf("unknown configuration-handling %q", c.Handling)}
}

func (f configFile) backup() *state.FileBackup {
	b := &state.FileBackup{Path: f.path, Existed: f.existed}
	if f.existed {
		sum := sha256.Sum256(f.content)
		b.SHA256, b.Mode = hex.EncodeToString(sum[:]), f.mode
	}
	if f.owner != nil {
		b.UID, b.GID = f.owner.UID, f.owner.GID
	}
	return b
}

// missingFolders lists the folders that path needs and that are not there, outermost first.
func missingFolders(path string) (missing []string) {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(dir); !gone(err) || dir == filepath.Dir(dir) {
			slices.Reverse(missing)
			return missing
		}
		missing = append(missing, dir)
	}
}

func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) }

func fileError(path string, err error) error {
	return &reason.Error{
		Code: ReasonConfigFile,
		Msg:  "cannot read or change the configuration file " + path,
		Fix:  "check configuration.path, and that its folder is writable and has free space",
		Err:  err,
	}
}
