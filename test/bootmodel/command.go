package bootmodel

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/slot"
	"github.com/xpu-sztp/ztp/pkg/slot/command"
)

// commandMachine has an installer of its maker, which keeps slots and boot loader where only it can get at them, and is not
// interrupted itself.
type commandMachine struct{ dir string }

const tool = `#!/bin/sh
set -eu
cd "${0%/*}"
put() { printf '%s\n' "$2" >"$1.new"; mv "$1.new" "$1"; }
case $1 in
status) read running <running; read good <good; read next <next; printf 'running: %s\ngood: %s\nnext: %s\n' "$running" "$good" "$next" ;;
install)
	read running <running; read next <next
	[ "$2" != "$running" ] && [ "$2" != "$next" ] || exit 3
	cp "$3" "slot-$2" ;;
activate) put next "$2" ;;
deactivate) read good <good; put next "$good" ;;
good) put good "$2" ;;
esac
`

func (m commandMachine) FAT() bool               { return false }
func (m commandMachine) file(name string) string { return filepath.Join(m.dir, "firmware", name) }
func (m commandMachine) Content(s string) []byte { return content(m.file("slot-" + s)) }
func (m commandMachine) value(name string) string {
	return strings.TrimSpace(string(content(m.file(name))))
}

func (m commandMachine) Factory(image []byte) error {
	err := errors.Join(put(m.file("slot-a"), image), put(m.file("tool"), []byte(tool)), os.Chmod(m.file("tool"), 0o755))
	for _, name := range []string{"running", "good", "next"} {
		err = errors.Join(err, put(m.file(name), []byte("a\n")))
	}
	return err
}

func (m commandMachine) Backend(on durable.FS) (slot.Backend, error) {
	do := func(arguments ...string) [][]string {
		return [][]string{append([]string{m.file("tool")}, arguments...)}
	}
	return command.NewInstaller(command.Options{
		Tool: command.Tool{
			Status: do("status"), Answer: command.Answer{Running: "running: (*)", Good: "good: (*)", Next: "next: (*)"},
			Install: do("install", "{slot}", "{image}"), Activate: do("activate", "{slot}"), Deactivate: do("deactivate", "{slot}"),
			MarkGood: do("good", "{slot}"),
		},
		Slots: []command.Slot{{Name: "a"}, {Name: "b"}}, FS: on, Now: then, BootID: m.file("boot_id"),
		Dir: filepath.Join(m.dir, "disk", "slots"), Image: filepath.Join(m.dir, "disk", "download", "image"),
	})
}

// Start tries the next slot once.
func (m commandMachine) Start() ([]byte, error) {
	boots, _ := strconv.Atoi(m.value("boot_id"))
	start := m.value("next")
	err := errors.Join(put(m.file("boot_id"), []byte(strconv.Itoa(boots+1))),
		put(m.file("next"), content(m.file("good"))), put(m.file("running"), []byte(start+"\n")))
	if err != nil {
		return nil, err
	}
	return os.ReadFile(m.file("slot-" + start))
}
