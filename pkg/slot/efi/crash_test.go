package efi_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/slot"
	"github.com/xpu-sztp/ztp/pkg/slot/efi"
	"github.com/xpu-sztp/ztp/test/faultfs"
)

// faults are all but writes torn by SIGKILL: a variable is written with one system call.
func faults() []faultfs.Fault {
	return slices.Concat([]faultfs.Fault{faultfs.Kill, faultfs.KillAfter}, faultfs.Cuts(), faultfs.Errors())
}

// at is the machine whose partition is a folder. Its variables lie outside, where a power cut keeps them.
func (k kind) at(esp string) machine {
	return machine{esp: esp, vars: filepath.Join(filepath.Dir(esp), "efivars"), ascending: true, bare: k.bare}
}

// put installs an image into the slot that does not run, as slot.AB does but for its records.
func (m machine) put(on durable.FS, k kind, image string) error {
	l := m.loader(on, k)
	st, err := l.State(context.Background())
	if err != nil {
		return err
	}
	target := map[string]string{"a": "b", "b": "a"}[st.Running]
	if err := l.Disarm(context.Background(), target); err != nil {
		return err
	}
	path := filepath.Join(m.esp, "slots", target)
	if p, ok := l.(slot.Placer); ok {
		if path, err = p.Place(context.Background(), target); err != nil {
			return err
		}
	}
	f, err := on.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, part := range []string{image[:3], image[3:]} {
		if _, err := f.Write([]byte(part)); err != nil {
			return err
		}
	}
	if err := errors.Join(f.Sync(), on.SyncDir(filepath.Dir(path))); err != nil {
		return err
	}
	return l.Arm(context.Background(), target)
}

// bless vouches for the slot that runs.
func (m machine) bless(on durable.FS, k kind) error {
	l := m.loader(on, k)
	st, err := l.State(context.Background())
	if err != nil {
		return err
	}
	return l.Bless(context.Background(), st.Running)
}

// past brings a new machine to where an operation begins.
func past(k kind, installs ...string) func(esp string) error {
	return func(esp string) error {
		m := k.at(esp)
		m.factory(k)
		if _, err := m.boot(); err != nil {
			return err
		}
		for _, image := range installs {
			if err := m.put(quick{}, k, image); err != nil {
				return err
			}
			if _, err := m.boot(); err != nil {
				return err
			}
			if err := m.bless(quick{}, k); err != nil {
				return err
			}
		}
		return nil
	}
}

// starts boots a machine and says whether what starts is one of the images. A copy of it is kept from changes by that.
func starts(m machine, k kind, images ...string) (slot string, err error) {
	if slot, err = m.boot(); err != nil {
		return "", err
	}
	if got := m.image(k, slot); !slices.Contains(images, got) {
		return slot, fmt.Errorf("slot %s starts and holds %q, want one of %q; %v", slot, got, images, m.names())
	}
	return slot, nil
}

// repaired does something again, after fsck where that is asked for.
func repaired(m machine, do func() error) error {
	err := do()
	if code, _ := reason.Of(err); code == efi.CodeDamaged {
		m.fsck()
		err = do()
	}
	return err
}

// TestPowerCutWhileInstalling: whenever an installation is cut short, the good slot starts, or the new one with all of its
// content; without variables as well. Then the installation succeeds.
func TestPowerCutWhileInstalling(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		histories := map[string][]string{"first": nil, "second": {"MZ one"}}
		for name, history := range histories {
			t.Run(name, func(t *testing.T) {
				good := append([]string{factoryImage}, history...)[len(history)]
				target := []string{"b", "a"}[len(history)%2]
				sweep(t, faultfs.Sweep{
					Faults: faults(), FAT: true, Setup: past(k, history...),
					Task: func(on *faultfs.FS, esp string) error {
						return k.at(esp).put(on, k, "MZ new")
					},
					Check: func(esp string, err error) error {
						m := k.at(esp)
						first, bootErr := starts(m, k, good, "MZ new")
						if bootErr != nil {
							return bootErr
						}
						if err == nil && first != target {
							return fmt.Errorf("slot %s starts after an installation into %s", first, target)
						}
						// Whatever started, the good slot does next.
						if _, err := starts(m, k, good); err != nil {
							return err
						}
						again := func() error { return m.put(quick{}, k, "MZ new") }
						if err := repaired(m, again); err != nil {
							return err
						}
						if _, err := starts(m, k, "MZ new"); err != nil {
							return err
						}
						if err := m.bless(quick{}, k); err != nil {
							return err
						}
						_, err = starts(m, k, "MZ new")
						return err
					},
				})
			})
		}
	})
}

// TestPowerCutWithoutVariables: a firmware that loses its variables as well still starts something complete, in whatever order
// the entries are.
func TestPowerCutWithoutVariables(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		for _, ascending := range []bool{true, false} {
			sweep(t, faultfs.Sweep{
				Faults: append(faultfs.Cuts(), faultfs.Kill), FAT: true, Setup: past(k, "MZ one"),
				Task: func(on *faultfs.FS, esp string) error {
					return k.at(esp).put(on, k, "MZ new")
				},
				Check: func(esp string, _ error) error {
					m := k.at(esp)
					m.ascending = ascending
					m.loseVariables()
					_, err := starts(m, k, factoryImage, "MZ one", "MZ new")
					return err
				},
			})
		}
	})
}

// TestPowerCutWhileBlessing: the old slot starts, or the new one, and the new one from then on once it was blessed.
func TestPowerCutWhileBlessing(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		sweep(t, faultfs.Sweep{
			Faults: faults(), FAT: true,
			Setup: func(esp string) error {
				m := k.at(esp)
				if err := past(k)(esp); err != nil {
					return err
				}
				if err := m.put(quick{}, k, "MZ new"); err != nil {
					return err
				}
				_, err := starts(m, k, "MZ new")
				return err
			},
			Task: func(on *faultfs.FS, esp string) error { return k.at(esp).bless(on, k) },
			Check: func(esp string, err error) error {
				m := k.at(esp)
				running, bootErr := starts(m, k, factoryImage, "MZ new")
				if bootErr != nil {
					return bootErr
				}
				if err == nil && running != "b" {
					return errors.New("the old slot starts after the new one was blessed")
				}
				if again, err := m.boot(); err != nil || again != running {
					return fmt.Errorf("slot %s starts, and then %s, %v", running, again, err)
				}
				if running == "b" {
					return repaired(m, func() error { return m.put(quick{}, k, "MZ newer") })
				}
				if err := repaired(m, func() error { return m.put(quick{}, k, "MZ new") }); err != nil {
					return err
				}
				_, err = starts(m, k, "MZ new")
				return err
			},
		})
	})
}

// TestPowerCutWhileDeactivating: what was armed starts, or does not, but the good slot does next.
func TestPowerCutWhileDeactivating(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		sweep(t, faultfs.Sweep{
			Faults: faults(), FAT: true,
			Setup: func(esp string) error {
				if err := past(k)(esp); err != nil {
					return err
				}
				return k.at(esp).put(quick{}, k, "MZ new")
			},
			Task: func(on *faultfs.FS, esp string) error {
				return k.at(esp).loader(on, k).Disarm(context.Background(), "b")
			},
			Check: func(esp string, err error) error {
				m := k.at(esp)
				first, bootErr := starts(m, k, factoryImage, "MZ new")
				if bootErr != nil {
					return bootErr
				}
				if err == nil && first != "a" {
					return errors.New("what was deactivated starts")
				}
				if _, err := starts(m, k, factoryImage); err != nil {
					return err
				}
				return repaired(m, func() error { return m.put(quick{}, k, "MZ new") })
			},
		})
	})
}

// TestPowerCutWhileSettling: a vendor's entry with a counter, the only one there is, is made the default one without ever being
// missed.
func TestPowerCutWhileSettling(t *testing.T) {
	k := kinds()[0]
	sweep(t, faultfs.Sweep{
		Faults: faults(), FAT: true,
		Setup: func(esp string) error {
			m := k.at(esp)
			m.factory(k)
			entries := filepath.Join(esp, "loader/entries")
			_, err := m.boot()
			return errors.Join(err, os.Rename(filepath.Join(entries, "ztp-a.conf"), filepath.Join(entries, "ztp-a+3.conf")),
				os.Rename(filepath.Join(entries, "ztp-b.conf"), filepath.Join(entries, "ztp-b+0-3.conf")))
		},
		Task: func(on *faultfs.FS, esp string) error {
			return k.at(esp).loader(on, k).Disarm(context.Background(), "b")
		},
		Check: func(esp string, _ error) error {
			_, err := starts(k.at(esp), k, factoryImage)
			return err
		},
	})
}

func sweep(t *testing.T, s faultfs.Sweep) {
	t.Helper()
	s.Seeds = 3
	dir := memory(t)
	n, err := s.Run(dir)
	if err != nil {
		t.Error(err)
	}
	t.Logf("%d faults", n)
}

// memory is a folder of a file system in memory where there is one: thousands of disks are made, and none of them need last.
func memory(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "efi")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
