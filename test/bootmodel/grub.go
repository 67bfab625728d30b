package bootmodel

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/slot"
	"github.com/xpu-sztp/ztp/pkg/slot/grub"
)

// grubMachine has two environment blocks and the fragment of grub.cfg that comes with the agent, which package grub tests with
// the real GRUB.
type grubMachine struct{ dir string }

const (
	blockHead = "# GRUB Environment Block\n"
	blockSize = 1024
)

func (m grubMachine) FAT() bool             { return false }
func (m grubMachine) block(n string) string { return filepath.Join(m.dir, "disk", "boot", "grubenv"+n) }
func (m grubMachine) commandLine() string   { return filepath.Join(m.dir, "firmware", "cmdline") }
func (m grubMachine) slot(name string) string {
	return filepath.Join(m.dir, "disk", "slots", name+".img")
}

func (m grubMachine) Factory(image []byte) error {
	for _, n := range []string{"", ".copy"} {
		if err := put(m.block(n), save(nil)); err != nil {
			return err
		}
	}
	return put(m.slot("a"), image)
}

func (m grubMachine) Content(slot string) []byte { return content(m.slot(slot)) }

func (m grubMachine) Backend(on durable.FS) (slot.Backend, error) {
	loader := grub.New(grub.Options{
		FS: on, Main: m.block(""), Copy: m.block(".copy"), Slots: [2]grub.Slot{{Name: "a"}, {Name: "b"}}, Tries: 2,
		CommandLine: m.commandLine(),
	})
	return slot.NewAB(loader, [2]slot.Slot{{Name: "a", Path: m.slot("a")}, {Name: "b", Path: m.slot("b")}},
		slot.Options{FS: on, Dir: filepath.Join(m.dir, "disk", "slots"), Now: then}), nil
}

func (m grubMachine) Start() ([]byte, error) {
	v, err := load(m.block(""))
	if err != nil {
		return nil, err
	}
	counts := v["ztp_good"] != ""
	if !counts {
		if v, err = load(m.block(".copy")); err != nil {
			return nil, err
		}
	}
	start := "a"
	if good := v["ztp_good"]; good != "" {
		start = good
	}
	if tries := v["ztp_tries"]; counts && v["ztp_next"] != "" && len(tries) == 1 && tries[0] > '0' && tries[0] <= '9' {
		start = v["ztp_next"]
		v["ztp_tries"] = string(tries[0] - 1)
		if err := os.WriteFile(m.block(""), save(v), 0o600); err != nil {
			return nil, err
		}
	}
	if err := put(m.commandLine(), fmt.Appendf(nil, "ztp.slot=%s\n", start)); err != nil {
		return nil, err
	}
	return os.ReadFile(m.slot(start))
}

// load reads a block up to the place where it is damaged.
func load(path string) (map[string]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	text, ok := bytes.CutPrefix(data, []byte(blockHead))
	for line := range strings.Lines(string(text)) {
		name, value, set := strings.Cut(line, "=")
		if !ok || !set || !strings.HasSuffix(value, "\n") {
			break
		}
		values[name] = strings.TrimSuffix(value, "\n")
	}
	return values, nil
}

func save(values map[string]string) []byte {
	data := []byte(blockHead)
	for _, name := range []string{"ztp_good", "ztp_next", "ztp_tries"} {
		if value, ok := values[name]; ok {
			data = fmt.Appendf(data, "%s=%s\n", name, value)
		}
	}
	return append(data, bytes.Repeat([]byte("#"), blockSize-len(data))...)
}
