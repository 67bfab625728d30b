package command

import (
	"context"
	"encoding/hex"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/slot"
	"github.com/xpu-sztp/ztp/pkg/slot/media"
)

// Options are what an Installer needs. Tool, Dir and Image are required.
type Options struct {
	Tool    Tool
	Slots   []Slot     // where slots have devices: both. Otherwise they are called what the tool calls them
	FS      durable.FS // every change goes through it; nil is durable.OS
	Dir     string     // folder of the record of what was installed. Both systems must see the same one
	Image   string     // file that images are downloaded to, in a folder that nobody else can write to
	MaxSize int64      // of an image in bytes; 0 is what there is room for
	Limits  Limits
	System  media.System
	Now     func() time.Time
	// CommandLine and BootID are where the kernel tells its parameters and which boot this is; empty is below /proc.
	CommandLine, BootID string
}

// Names of slots that the tool has no names for.
const (
	current = "current"
	other   = "other"
)

// Installer is a slot.Backend that has a tool install images.
type Installer struct{ o Options }

var _ slot.Backend = (*Installer)(nil)

// NewInstaller refuses commands that cannot work. Nothing is run or changed yet.
func NewInstaller(o Options) (*Installer, error) {
	o.defaults()
	if o.Tool.Install == nil {
		return nil, configError("there is no command that installs an image")
	}
	if o.Tool.needsSlots && len(o.Slots) != 2 {
		return nil, configError("the installer has to be told which slot: write [image.slot.NAME] twice, with the names that it knows and the devices that its status prints")
	}
	return &Installer{o}, o.Tool.check(o.Slots)
}

func (o *Options) defaults() {
	if o.FS == nil {
		o.FS = durable.OS{}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.CommandLine == "" {
		o.CommandLine = slot.CommandLine
	}
	if o.BootID == "" {
		o.BootID = "/proc/sys/kernel/random/boot_id"
	}
	if o.Limits.Install <= 0 {
		o.Limits.Install = time.Hour
	}
	if o.Limits.Other <= 0 {
		o.Limits.Other = time.Minute
	}
}

// now is what is known of the slots.
type now struct {
	slot.Description
	record record
	boot   string // the identifier of this boot
}

// Describe asks the tool, and looks into the record.
func (i *Installer) Describe(ctx context.Context) (slot.Description, error) {
	n, err := i.look(ctx)
	if err != nil {
		return slot.Description{}, err
	}
	return n.Description, nil
}

func (i *Installer) look(ctx context.Context) (*now, error) {
	n := &now{}
	err := i.read(&n.record)
	if err != nil {
		return nil, err
	}
	id, err := os.ReadFile(i.o.BootID)
	if err != nil {
		return nil, fail(slot.CodeUnavailable, "the kernel does not tell which boot this is", "mount /proc, also for the unit", err)
	}
	n.boot = strings.TrimSpace(string(id))
	a, err := i.o.ask(ctx)
	if err != nil {
		return nil, err
	}
	if s := i.o.Slots; len(s) == 2 && a.running != "" {
		if a.other = s[0].Name; a.running == a.other {
			a.other = s[1].Name
		} else if a.running != s[1].Name {
			return nil, fail(slot.CodeUnavailable, "the device runs from \""+a.running+"\", which is no slot of the configuration",
				"have the name, entry or device of a slot in [image.slot] be exactly that, or start the device from one of its slots", nil)
		}
	}
	n.combine(a)
	return n, nil
}

// attempted tells whether the latest attempt was made in this boot.
func (n *now) attempted() bool { return n.record.Attempt != nil && n.record.Attempt.Boot == n.boot }

// combine puts together what the tool and the record say. An attempt that is not marked good is on trial wherever else than
// before it the device runs.
func (n *now) combine(a *answer) {
	none := attempt{Slot: other}
	t, same := n.record.Attempt, n.attempted() // what the attempt was made from runs on
	if t == nil {
		t = &none
	}
	running, next := a.running, a.next
	switch {
	case running != "":
	case same:
		running = t.From
	case next != "":
		running = next // the boot loader went by it, and nobody has changed it since
	default:
		running = current
	}
	good := a.good
	if good == "" {
		if good = running; t.From != "" {
			good = t.From
		}
	}
	if same && t.Armed {
		next = t.Slot // not every tool shows what is started once
	}
	target := other
	for _, name := range []string{t.Slot, next, a.other} { // the last one is the best
		if name != "" && name != running {
			target = name
		}
	}
	if good != running {
		target = good
	}
	if next == running || next == good {
		next, a.tries = "", 0
	}
	n.Running, n.Good, n.Next, n.Target, n.Tries = running, good, next, target, a.tries
	n.Contents = map[string]slot.Image{}
	for name, known := range n.record.Images {
		n.Contents[name] = slot.Image{SHA256: known.SHA256, Size: known.Size, At: known.At}
	}
}

// Open opens the file that the image is downloaded to, and takes back what was activated before. The other slot keeps what it
// holds until Commit.
func (i *Installer) Open(ctx context.Context) (slot.Writer, error) {
	n, err := i.installable(ctx)
	if err != nil {
		return nil, err
	}
	out, err := media.Place{Path: i.o.Image, FS: i.o.FS, MaxSize: i.o.MaxSize, System: i.o.System}.Open()
	if err != nil {
		return nil, err
	}
	return &writer{Writer: out, installer: i, target: n.Target}, nil
}

// installable makes sure that the running slot is the one to start and to fall back to, so that the tool has the other one for
// itself.
func (i *Installer) installable(ctx context.Context) (*now, error) {
	n, err := i.look(ctx)
	if err != nil {
		return nil, err
	}
	if n.Trial() {
		return nil, fail(slot.CodeInTrial, "slot "+n.Running+" is on trial and slot "+n.Good+" is the only one to fall back to",
			"reboot the device: it returns to slot "+n.Good+" and can install from there", nil)
	}
	// An Activate that was interrupted may have had an effect that the status does not show.
	if n.Next == "" && (!n.attempted() || i.o.Tool.Rearm != nil || i.o.Tool.Deactivate == nil) {
		return n, nil
	}
	if err := i.deactivate(ctx, n); err != nil {
		return nil, err
	}
	return i.look(ctx)
}

// Activate runs the command for it, unless installing was all.
func (i *Installer) Activate(ctx context.Context) error {
	n, err := i.look(ctx)
	if err != nil {
		return err
	}
	if _, ok := n.Contents[n.Target]; !ok || n.Trial() || i.o.Tool.Activate == nil && n.Next != n.Target {
		return fail(slot.CodeNotReady, "slot "+n.Target+" holds no image that could be activated",
			"have an image installed once more; `ztp images` tells what became of the last one", nil)
	}
	// Before the effect: the device may start anew from the slot at any time. Whether there is an effect is known after it.
	n.record.Attempt = &attempt{Slot: n.Target, From: n.Running, Boot: n.boot, Armed: i.o.Tool.Activate == nil}
	if err := i.write(&n.record); err != nil {
		return err
	}
	if err := i.o.activate(ctx, n.Target, n.Running, n.Next); err != nil {
		return err
	}
	n.record.Attempt.Armed = true
	if err := i.write(&n.record); err != nil {
		return err
	}
	return i.discard() // left where the end of installing was interrupted
}

// discard removes the downloaded image.
func (i *Installer) discard() error {
	if err := durable.Remove(i.o.FS, i.o.Image); err != nil {
		return fail(slot.CodeWriteFailed, "the downloaded image cannot be removed", fixFolder(i.o.Image), err)
	}
	return nil
}

// Deactivate runs the command for it where a slot was activated, and where one is on trial: many boot loaders start that one again.
func (i *Installer) Deactivate(ctx context.Context) error {
	n, err := i.look(ctx)
	switch {
	case err != nil:
		return err
	case n.Trial() && i.o.Tool.Deactivate != nil:
		return i.o.act(ctx, "deactivate", i.o.Tool.Deactivate, n.Running, n.Good)
	case n.Next == "":
		return nil
	}
	return i.deactivate(ctx, n)
}

func (i *Installer) deactivate(ctx context.Context, n *now) error {
	if i.o.Tool.Deactivate == nil {
		return fail(CodeConfig, "slot "+n.Target+" starts at the next boot, and there is no command that takes that back",
			"reboot the device; or write deactivate in [command], where the installer can do that", nil)
	}
	if err := i.o.act(ctx, "deactivate", i.o.Tool.Deactivate, n.Target, n.Good); err != nil {
		return err
	}
	if n.attempted() {
		n.record.Attempt.Armed = false
		if err := i.write(&n.record); err != nil {
			return err
		}
	}
	after, err := i.look(ctx)
	if err == nil && after.Next != "" {
		err = fail(CodeNoEffect, "slot "+after.Next+" was deactivated, but still starts at the next boot",
			"run the installer by hand, and compare what its status says before and after", nil)
	}
	return err
}

// MarkGood runs the command for it after a trial, or always where each boot counts.
func (i *Installer) MarkGood(ctx context.Context) error {
	n, err := i.look(ctx)
	if err != nil {
		return err
	}
	tried := n.record.Attempt != nil && !n.attempted()
	if !tried && !n.Trial() && !i.o.Tool.EachBoot {
		return nil
	}
	if err := i.o.act(ctx, "mark-good", i.o.Tool.MarkGood, n.Running, n.Running); err != nil || !tried {
		return err
	}
	n.record.Attempt = nil
	if err := i.write(&n.record); err != nil {
		return err
	}
	return i.discard()
}

// install has the tool install the verified image.
func (i *Installer) install(ctx context.Context, size int64, sum []byte) (name string, err error) {
	n, err := i.installable(ctx)
	if err != nil {
		return "", err
	}
	v := i.o.values(n.Target, n.Good)
	v["image"], v["sha256"], v["size"] = i.o.Image, hex.EncodeToString(sum), strconv.FormatInt(size, 10)
	if i.o.Tool.Identify != nil {
		if n.Target, err = i.identify(ctx, n.Running, v); err != nil {
			return "", err
		}
		v["slot"] = n.Target
	}
	// Before the effect: nobody may take what the slot held for what it holds, and whatever runs instead of this slot from now
	// on does so on trial.
	for name := range n.record.Images {
		if name != n.Running {
			delete(n.record.Images, name)
		}
	}
	n.record.Attempt = &attempt{Slot: n.Target, From: n.Running, Boot: n.boot}
	if err := i.write(&n.record); err != nil {
		return "", err
	}
	if _, err = run(ctx, "install the image", i.o.Tool.Install, v, i.o.Limits.Install); err != nil {
		return "", err
	}
	if err := i.o.settle(ctx); err != nil {
		return "", err
	}
	n.record.Attempt.Armed = i.o.Tool.Activate == nil
	if n.record.Images == nil {
		n.record.Images = map[string]*known{}
	}
	n.record.Images[n.Target] = &known{SHA256: sum, Size: size, At: i.o.Now().UTC()}
	return n.Target, i.write(&n.record)
}

// identify asks what the image is going to be called.
func (i *Installer) identify(ctx context.Context, running string, v map[string]string) (string, error) {
	printed, err := run(ctx, "identify the image", i.o.Tool.Identify, v, i.o.Limits.Other)
	if err != nil {
		return "", err
	}
	name, _, _ := strings.Cut(strings.TrimSpace(string(printed)), "\n")
	if name = strings.TrimSpace(name); name == "" || !usable(name) {
		return "", fail(CodeAnswer, "the installer calls the image "+strconv.Quote(name)+", which cannot be the name of a slot",
			"see what `"+strings.Join(i.o.Tool.Identify[0], " ")+"` prints, and publish an image whose name is of letters, digits and punctuation as in versions", nil)
	}
	if name == running {
		return "", fail(CodeSameSlot, "the image is called "+name+", as the running one, and cannot be installed beside it",
			"build the image with a version of its own", nil)
	}
	return name, nil
}

// writer downloads an image to the file. It is image.Sizer and image.Checkpointer, too.
type writer struct {
	*media.Writer
	installer *Installer
	target    string
	closed    bool
}

// Slot is where the image is going to be, as far as that is known before it is installed.
func (w *writer) Slot() string { return w.target }

// Commit makes sure that the storage holds the image, and has it installed. The file is removed then.
func (w *writer) Commit(ctx context.Context, sum []byte) error {
	if err := w.Verify(ctx); err != nil {
		return err
	}
	// The tool opens it by its name.
	if err := w.installer.o.FS.SyncDir(filepath.Dir(w.installer.o.Image)); err != nil {
		return fail(slot.CodeWriteFailed, "the downloaded image cannot be made durable", fixFolder(w.installer.o.Image), err)
	}
	// RAUC refuses what somebody could still write to.
	if err := w.Close(); err != nil {
		return err
	}
	name, err := w.installer.install(ctx, w.Size(), sum)
	if err != nil {
		return err
	}
	w.target = name
	return w.installer.discard()
}

// Close releases the file. It stays, so that a download can go on.
func (w *writer) Close() error {
	if w.closed {
		return nil
	}
	w.closed = true
	return w.Writer.Close()
}
