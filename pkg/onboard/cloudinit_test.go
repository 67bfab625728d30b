package onboard

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/onboard/seed"
	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/test/faultfs"
)

const (
	oldUser   = "#cloud-config\nhostname: factory\n"
	newUser   = "#cloud-config\nhostname: dpu-7\n"
	factoryID = "instance-id: iid-local01\n"
)

// cloudRig is a rig whose configuration goes to cloud-init; old is there already.
func cloudRig(t *testing.T, old map[string]string) (r *rig, folder string) {
	t.Helper()
	r = newRig(t)
	folder = filepath.Join(r.dir, "seed", "nocloud")
	r.opts.Configuration.Handler, r.opts.Configuration.Seed = "cloud-init", folder
	for name, content := range old {
		put(t, filepath.Join(folder, name), content, 0o644)
	}
	return r, folder
}

func TestCloudInit(t *testing.T) {
	factory := map[string]string{seed.UserData: oldUser, seed.MetaData: factoryID, seed.NetworkConfig: "version: 2\n", "README": "by the maker"}
	for name, tt := range map[string]struct {
		old      map[string]string
		handling artifacts.Handling
		network  bool
	}{
		"replace-nothing": {nil, artifacts.Replace, false},
		"replace":         {factory, artifacts.Replace, false},
		"merge-nothing":   {nil, artifacts.Merge, false},
		"merge":           {factory, artifacts.Merge, true},
	} {
		t.Run(name, func(t *testing.T) {
			r, folder := cloudRig(t, tt.old)
			p := plan{config: configuration(tt.handling, newUser)}
			if outcome, err := r.run(progress.Verbose, p); outcome != Complete {
				t.Fatal(err)
			}
			now, err := readSeed(folder)
			if err != nil {
				t.Fatal(err)
			}
			user := string(now.files[seed.UserData])
			if !strings.Contains(user, newUser) || strings.Contains(user, oldUser) != tt.network || (now.files[seed.NetworkConfig] != nil) != tt.network {
				t.Errorf("the seed is %q", now.files)
			}
			if seed.ID(now.files[seed.MetaData]) == "" {
				t.Errorf("meta-data %q", now.files[seed.MetaData])
			}
			for path, want := range map[string]os.FileMode{folder: os.ModeDir | 0o700, filepath.Join(folder, seed.UserData): 0o600} {
				if info, err := os.Stat(path); err != nil || info.Mode() != want {
					t.Errorf("%s: %v, %v", path, info, err)
				}
			}
			wantOnly(t, filepath.Dir(folder), "nocloud")
			// The same again is the same instance.
			if outcome, err := r.run(progress.Verbose, p); outcome != Complete {
				t.Fatal(err)
			}
			if again, err := readSeed(folder); err != nil || digest(again.files) != digest(now.files) {
				t.Errorf("the second time: %v, %q", err, again.files)
			}
		})
	}
}

func wantOnly(t *testing.T, folder string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if diff := cmp.Diff(names, got); diff != "" {
		t.Errorf("%s has %s", folder, diff)
	}
}

func TestCloudInitRollback(t *testing.T) {
	for name, tt := range map[string]struct {
		old    map[string]string
		post   string
		config *artifacts.Configuration
	}{
		"new":             {nil, "exit 1", configuration(artifacts.Replace, newUser)},
		"replaced":        {map[string]string{seed.UserData: oldUser, seed.MetaData: factoryID, "README": "x"}, "exit 1", configuration(artifacts.Replace, newUser)},
		"merged":          {map[string]string{seed.UserData: oldUser, seed.MetaData: factoryID}, "exit 1", configuration(artifacts.Merge, newUser)},
		"changed-since":   {map[string]string{seed.UserData: oldUser, seed.MetaData: factoryID}, "echo more >>%s/user-data; exit 1", configuration(artifacts.Replace, newUser)},
		"new-and-changed": {nil, "echo more >>%s/user-data; exit 1", configuration(artifacts.Replace, newUser)},
		"bad-format":      {map[string]string{seed.UserData: oldUser, seed.MetaData: factoryID}, "", configuration(artifacts.Replace, "hostname: x\n")},
		"bad-merge":       {map[string]string{seed.UserData: oldUser, seed.MetaData: "{}"}, "", configuration(artifacts.Merge, newUser)},
		"bad-handling":    {nil, "", configuration("upsert", newUser)},
	} {
		t.Run(name, func(t *testing.T) {
			r, folder := cloudRig(t, tt.old)
			before := tree(t, r.dir)
			p := plan{config: tt.config}
			if tt.post != "" {
				p.post = sh(strings.ReplaceAll(tt.post, "%s", folder))
			}
			if _, err := r.run(progress.Minimal, p); err == nil {
				t.Fatal("no error")
			}
			if diff := cmp.Diff(before, tree(t, r.dir)); diff != "" {
				t.Error(diff)
			}
			wantNothingStaged(t, r)
		})
	}
}

// TestCloudInitCommand is told what was done, and again when it was undone.
func TestCloudInitCommand(t *testing.T) {
	r, folder := cloudRig(t, map[string]string{seed.UserData: oldUser, seed.MetaData: factoryID})
	command := filepath.Join(r.dir, "take")
	put(t, command, "#!/bin/sh\necho \"$ZTP_ACTION $# $(sed -n 2p "+folder+"/user-data)\" >>"+r.dir+"/trace\n", 0o755)
	r.opts.Configuration.Command = []string{command, "now"}
	if _, err := r.run(progress.Minimal, plan{config: configuration(artifacts.Replace, newUser), post: sh("exit 1")}); err == nil {
		t.Fatal("no error")
	}
	if diff := cmp.Diff([]string{"replace 1 hostname: dpu-7", "undo 1 hostname: factory"}, r.trace()); diff != "" {
		t.Error(diff)
	}
	put(t, command, "#!/bin/sh\n[ $ZTP_ACTION = undo ]\n", 0o755)
	_, err := r.run(progress.Minimal, plan{config: configuration(artifacts.Replace, newUser)})
	wantCode(t, err, ReasonConfigFailed)
	if got, _ := os.ReadFile(filepath.Join(folder, seed.UserData)); string(got) != oldUser {
		t.Errorf("user-data %q", got)
	}
}

// TestCloudInitPlaces are those that no seed can be kept at.
func TestCloudInitPlaces(t *testing.T) {
	for name, tt := range map[string]struct {
		make func(t *testing.T, r *rig, folder string)
		want reason.Code
	}{
		"file": {func(t *testing.T, _ *rig, folder string) { put(t, folder, "x", 0o600) }, ReasonConfigFile},
		"dangling": {func(t *testing.T, _ *rig, folder string) {
			os.MkdirAll(filepath.Dir(folder), 0o755)
			os.Symlink("nowhere", folder)
		}, ReasonConfigFile},
		"file-is-a-folder": {func(t *testing.T, _ *rig, folder string) { os.MkdirAll(filepath.Join(folder, seed.UserData), 0o755) }, ReasonConfigFile},
		"not-named":        {func(_ *testing.T, r *rig, _ string) { r.opts.Configuration.Seed = "" }, ReasonConfigNoHandler},
		"cannot-swap": {func(t *testing.T, r *rig, folder string) {
			put(t, filepath.Join(folder, seed.UserData), oldUser, 0o600)
			r.opts.FS = noExchange{}
		}, ReasonConfigFile},
	} {
		t.Run(name, func(t *testing.T) {
			r, folder := cloudRig(t, nil)
			tt.make(t, r, folder)
			before := tree(t, r.dir)
			_, err := r.run(progress.Minimal, plan{config: configuration(artifacts.Replace, newUser)})
			wantCode(t, err, tt.want)
			if diff := cmp.Diff(before, tree(t, r.dir)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

type noExchange struct{ durable.OS }

func (noExchange) Exchange(string, string) error { return syscall.EINVAL }

// TestCloudInitSweep lets everything go wrong at every operation on the seed. cloud-init, which looks at boot before anybody
// else, sees the old seed or the new one, and the next run of the handler or its undoing ends where it would have.
func TestCloudInitSweep(t *testing.T) {
	config := configuration(artifacts.Replace, newUser)
	for _, old := range []map[string]string{nil, {seed.UserData: oldUser, seed.MetaData: factoryID, "README": "x"}} {
		for _, undo := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d-files/undo-%t", len(old), undo), func(t *testing.T) {
				t.Parallel()
				want := []string{"", oldUser}[min(len(old), 1)]
				var entry state.Entry // in the journal before anything happens
				start := func(on durable.FS, root string) (*session, cloudInitHandler, error) {
					r, err := openRig(root)
					if err != nil {
						return nil, cloudInitHandler{}, err
					}
					r.opts.FS, r.opts.Configuration.Handler = on, "cloud-init"
					r.opts.Configuration.Seed = filepath.Join(root, "seed", "nocloud")
					return &session{Executor: New(r.opts), id: "S"}, cloudInitHandler{path: r.opts.Configuration.Seed}, nil
				}
				task := func(on durable.FS, root string) error {
					s, h, err := start(on, root)
					if err != nil {
						return err
					}
					if entry, err = h.prepare(s, config); err == nil {
						_, err = h.commit(t.Context(), s, config)
					}
					if err == nil && undo {
						err = s.restoreSeed(t.Context(), entry)
					}
					return err
				}
				sweep := faultfs.Sweep{
					Faults: append(append(faultfs.Cuts(), faultfs.Errors()...), faultfs.Kill, faultfs.KillAfter, faultfs.KillTorn),
					Seeds:  2,
					Setup: func(root string) error {
						var err error
						for name, content := range old {
							path := filepath.Join(root, "seed", "nocloud", name)
							err = errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o600))
						}
						return err
					},
					Task: func(on *faultfs.FS, root string) error { return task(on, root) },
					Check: func(root string, _ error) error {
						s, h, err := start(nil, root)
						if err != nil {
							return err
						}
						now, err := readSeed(h.path)
						if err != nil {
							return err
						}
						wanted, err := seed.New(config.Data)
						if err != nil {
							return err
						}
						if user := string(now.files[seed.UserData]); user != want && digest(now.files) != digest(wanted) {
							return fmt.Errorf("cloud-init would see %q", now.files)
						}
						if err := s.restoreSeed(t.Context(), entry); err != nil {
							return err
						}
						back, err := readSeed(h.path)
						if err != nil {
							return err
						}
						if user := string(back.files[seed.UserData]); user != want || (back.files == nil) != (old == nil) {
							return fmt.Errorf("undone, it is %q", back.files)
						}
						names, err := os.ReadDir(filepath.Join(root, "seed"))
						if err != nil && !errors.Is(err, os.ErrNotExist) || len(names) > min(len(old), 1) {
							return fmt.Errorf("left %v, %v", names, err)
						}
						return nil
					},
				}
				if faults, err := sweep.Run(t.TempDir()); err != nil || faults < 100 {
					t.Errorf("%d faults: %v", faults, err)
				}
			})
		}
	}
}
