package command

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/slot"
)

// sonic plays sonic-installer and GRUB as the sources named at SONiC have them.
func sonic(t *testing.T) *device {
	d := newDevice(t, SONiC())
	d.put("available", "SONiC-OS-1")
	d.put("current", "SONiC-OS-1")
	d.put("saved_entry", "SONiC-OS-1")
	play(t, d.dir, "sonic-installer", `
known() { grep -qx -- "$1" available || { echo 'Error: Image does not exist'; exit 1; }; }
next() { if [ -s next_entry ]; then cat next_entry; else cat saved_entry; fi; }
version() { echo "SONiC-OS-$(sed -n 's/^version //p' "$1")"; }
case "$*" in
'binary-version '*) version "$2" ;;
list)
	echo "Current: $(cat current)"
	echo "Next: $(next)"
	echo "Available: "
	cat available
	;;
'cleanup -y')
	{ cat current; next; } | sort -u >keep
	grep -xFf keep available >available.new
	mv available.new available
	;;
'install -y '*)
	version=$(version "$3")
	if grep -qx -- "$version" available; then
		echo "Image $version is already installed. Setting it as default..."
	else
		{ echo "$version"; cat available; } >available.new
		mv available.new available
		cp "$3" "image-$version"
	fi
	put saved_entry "$version"
	;;
'set-default '*) known "$2"; put saved_entry "$2" ;;
'set-next-boot '*) known "$2"; put next_entry "$2" ;;
*) exit 2 ;;
esac
`)
	d.reboot = func() {
		next := d.get("next_entry")
		if next == "" {
			next = d.get("saved_entry")
		}
		os.Remove(filepath.Join(d.dir, "next_entry"))
		d.put("current", next)
	}
	return d
}

// blueField plays mlxbf-bootctl, the eMMC and the chip.
func blueField(t *testing.T) *device {
	d := newDevice(t, BlueField())
	d.put("primary", "0")
	d.put("second", "none")
	play(t, d.dir, "mlxbf-bootctl", `
p=$(cat primary)
if [ $# = 0 ]; then
	echo "primary: /dev/mmcblk0boot$p"
	echo "backup: /dev/mmcblk0boot$((1 - p))"
	echo "boot-bus-width: x8"
	echo "watchdog-swap: disabled"
	exit
fi
wdog=0
while [ $# -gt 0 ]; do
	case $1 in
	--bootstream) cp "$2" "boot$((1 - p))"; shift ;;
	--swap) put primary $((1 - p)) ;;
	--watchdog-swap) wdog=$2; put second swap_emmc; shift ;;
	--nowatchdog-swap) put second none ;;
	*) exit 1 ;;
	esac
	shift
done
put wdog $wdog
`)
	d.reboot = func() {
		if d.get("second") == "swap_emmc" && d.get("armed") == "yes" {
			d.put("primary", map[string]string{"0": "1", "1": "0"}[d.get("primary")])
			d.put("second", "none")
		}
		d.put("armed", "")
		if d.get("second") == "swap_emmc" {
			d.put("armed", "yes")
		}
	}
	return d
}

// rauc plays RAUC with its U-Boot back end: BOOT_ORDER, and attempts left of each slot.
func raucPlay(t *testing.T) *device {
	d := newDevice(t, RAUC())
	d.put("booted", "rootfs.0")
	d.put("order", "rootfs.0 rootfs.1")
	d.put("left-rootfs.0", "3")
	d.put("left-rootfs.1", "0")
	play(t, d.dir, "rauc", `
primary() { for s in $(cat order); do if [ "$(cat left-$s)" -gt 0 ]; then echo $s; return; fi; done; }
active() {
	put left-$1 3
	put order "$1 $(tr ' ' '\n' <order | grep -vx $1 | tr '\n' ' ')"
}
state() { if [ "$(cat booted)" = $1 ]; then echo booted; else echo inactive; fi; }
case "$*" in
'status --output-format=json')
	# As version 1.8 prints it, which lists slots in no order.
	cat <<END
{"compatible":"test","variant":"","booted":"x","boot_primary":"$(primary)","slots":[
{"appfs.1":{"class":"appfs","device":"/dev/x","type":"raw","bootname":null,"state":"inactive","parent":"rootfs.1","mountpoint":null,"boot_status":null}},
{"rootfs.1":{"class":"rootfs","device":"/dev/b","type":"raw","bootname":"B","state":"$(state rootfs.1)","parent":null,"mountpoint":null,"boot_status":"bad"}},
{"rootfs.0":{"class":"rootfs","device":"/dev/a","type":"raw","bootname":"A","state":"$(state rootfs.0)","parent":null,"mountpoint":null,"boot_status":"good"}}]}
END
	;;
'install '*)
	for s in rootfs.0 rootfs.1; do [ $s = "$(cat booted)" ] || target=$s; done
	put left-$target 0
	cp "$2" "slot-$target"
	active $target
	;;
'status mark-active '*) active "$3" ;;
'status mark-good '*) put left-$3 3 ;;
*) exit 1 ;;
esac
`)
	d.reboot = func() {
		for _, s := range []string{"rootfs.0", "rootfs.1"} {
			if d.get("order")[:8] == s && d.get("left-"+s) != "0" {
				d.put("left-"+s, string(d.get("left-" + s)[0]-1))
				d.put("booted", s)
				return
			}
		}
		d.put("order", map[string]string{"rootfs.0": "rootfs.1 rootfs.0", "rootfs.1": "rootfs.0 rootfs.1"}[d.get("order")[:8]])
		d.put("booted", d.get("order")[:8])
	}
	return d
}

// swupdate plays SWUpdate and U-Boot with ustate, bootlimit=1 and altbootcmd.
func swupdate(t *testing.T) *device {
	d := newDevice(t, SWUpdate())
	d.opts.Slots = []Slot{{Name: "copy1", Device: "/dev/mmcblk0p2"}, {Name: "copy2", Device: "/dev/mmcblk0p3"}}
	d.put("root", "/dev/mmcblk0p2")
	d.put("part", "2")
	play(t, d.dir, "swupdate", `
case "$1 $#" in
'--get-root 1') cat root ;;
'--image 4')
	case "$3 $4" in
	'--select stable,copy1') n=2 ;;
	'--select stable,copy2') n=3 ;;
	*) exit 1 ;;
	esac
	[ "$(cat root)" != /dev/mmcblk0p$n ]
	cp "$2" part$n
	put part $n
	put ustate 1
	;;
*) exit 1 ;;
esac
`)
	play(t, d.dir, "fw_setenv", `put "$1" "$2"`)
	d.reboot = func() {
		if d.get("ustate") == "1" && d.get("bootcount") == "1" {
			d.put("part", map[string]string{"2": "3", "3": "2"}[d.get("part")])
			d.put("ustate", "3")
		} else if d.get("ustate") == "1" {
			d.put("bootcount", "1")
		}
		d.put("root", "/dev/mmcblk0p"+d.get("part"))
	}
	return d
}

// TestPresets installs with each preset: one image that proves itself, and one that does not; and takes one back.
func TestPresets(t *testing.T) {
	type names struct{ old, unborn, first, second, third string } // of slots; unborn is the target before there is anything
	tests := []struct {
		name     string
		device   func(*testing.T) *device
		status   string
		slots    names
		held     string                 // file that has the image, of slot first
		install  func(*device) []string // the calls
		activate []string
		good     []string
		undo     []string // nil where that cannot be
		always   bool     // marked good at each boot
		tries    int      // boots of an image that does not prove itself; 0 is 1
	}{
		{
			name: "sonic-installer", device: sonic, status: "sonic-installer list",
			slots: names{"SONiC-OS-1", other, "SONiC-OS-2", "SONiC-OS-3", "SONiC-OS-4"}, held: "image-SONiC-OS-2",
			install: func(d *device) []string {
				return []string{"sonic-installer binary-version " + d.opts.Image, "sonic-installer cleanup -y", "sonic-installer install -y " + d.opts.Image}
			},
			activate: []string{"sonic-installer set-default SONiC-OS-1", "sonic-installer set-next-boot SONiC-OS-2"},
			good:     []string{"sonic-installer set-default SONiC-OS-2"},
			undo:     []string{"sonic-installer set-default SONiC-OS-2", "sonic-installer set-next-boot SONiC-OS-2"},
		},
		{
			name: "mlxbf-bootctl", device: blueField, status: "mlxbf-bootctl",
			slots: names{"/dev/mmcblk0boot0", "/dev/mmcblk0boot1", "/dev/mmcblk0boot1", "/dev/mmcblk0boot0", "/dev/mmcblk0boot0"}, held: "boot1",
			install:  func(d *device) []string { return []string{"mlxbf-bootctl --bootstream " + d.opts.Image} },
			activate: []string{"mlxbf-bootctl --swap --watchdog-swap 180"},
			good:     []string{"mlxbf-bootctl --nowatchdog-swap"},
			undo:     []string{"mlxbf-bootctl --swap --nowatchdog-swap"},
		},
		{
			name: "rauc", device: raucPlay, status: "rauc status --output-format=json",
			slots: names{"rootfs.0", "rootfs.1", "rootfs.1", "rootfs.0", "rootfs.0"}, held: "slot-rootfs.1",
			install:  func(d *device) []string { return []string{"rauc install " + d.opts.Image} },
			activate: []string{"rauc status mark-active rootfs.1"},
			good:     []string{"rauc status mark-good rootfs.1"},
			undo:     []string{"rauc status mark-active rootfs.1"},
			always:   true, tries: 3,
		},
		{
			name: "swupdate", device: swupdate, status: "swupdate --get-root",
			slots: names{"copy1", "copy2", "copy2", "copy1", "copy1"}, held: "part3",
			install: func(d *device) []string {
				return []string{"swupdate --image " + d.opts.Image + " --select stable,copy2"}
			},
			good: []string{"fw_setenv ustate 0", "fw_setenv upgrade_available 0", "fw_setenv bootcount 0"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := tt.device(t)
			if preset := Preset(tt.name); preset == nil || preset.Install[0][0] != d.opts.Tool.Install[0][0] {
				t.Fatal("is no preset")
			}
			calls := func(want []string) {
				t.Helper()
				if diff := cmp.Diff(want, d.calls(tt.status)); diff != "" {
					t.Fatal(diff)
				}
			}
			s := tt.slots
			d.want(t, s.old, s.old, "", s.unborn)
			must(t, install(t, d.installer(t, nil), "version 2\n"))
			calls(tt.install(d))
			if _, err := os.Stat(d.opts.Image); err == nil {
				t.Error("the image is kept")
			}
			if got := d.get(tt.held); got != "version 2" {
				t.Errorf("the slot holds %q", got)
			}
			for range 2 { // the second time as after an interruption
				must(t, d.installer(t, nil).Activate(t.Context()))
			}
			if tt.name == "mlxbf-bootctl" {
				calls(append(tt.activate, "mlxbf-bootctl --watchdog-swap 180"))
			} else {
				calls(append(tt.activate[:len(tt.activate):len(tt.activate)], tt.activate...))
			}
			wantImage(t, d.want(t, s.old, s.old, s.first, s.first), s.first, "version 2\n")
			d.start()
			wantImage(t, d.want(t, s.first, s.old, "", s.old), s.first, "version 2\n")
			wantCode(t, install(t, d.installer(t, nil), "version 3\n"), slot.CodeInTrial)
			calls(nil)
			must(t, d.installer(t, nil).MarkGood(t.Context()))
			calls(tt.good)
			must(t, d.installer(t, nil).MarkGood(t.Context()))
			if tt.always {
				calls(tt.good)
			}
			calls(nil)
			for range 5 {
				d.start()
				now := d.want(t, s.first, s.first, "", d.target(t))
				wantImage(t, now, s.first, "version 2\n")
				if tt.always {
					must(t, d.installer(t, nil).MarkGood(t.Context()))
				}
			}
			d.calls("")

			// Taken back.
			must(t, install(t, d.installer(t, nil), "version 3\n"))
			must(t, d.installer(t, nil).Activate(t.Context()))
			d.want(t, s.first, s.first, s.second, s.second)
			d.calls("")
			if tt.undo == nil {
				wantCode(t, d.installer(t, nil).Deactivate(t.Context()), CodeConfig)
				wantCode(t, install(t, d.installer(t, nil), "version 4\n"), CodeConfig)
			} else {
				for range 2 {
					must(t, d.installer(t, nil).Deactivate(t.Context()))
				}
				calls(tt.undo)
				d.want(t, s.first, s.first, "", s.second)
				d.start()
				d.want(t, s.first, s.first, "", s.second)
				if tt.always {
					must(t, d.installer(t, nil).MarkGood(t.Context()))
				}
				must(t, install(t, d.installer(t, nil), "version 4\n"))
				must(t, d.installer(t, nil).Activate(t.Context()))
				d.want(t, s.first, s.first, s.third, s.third)
			}

			// On trial and never marked good.
			for range max(tt.tries, 1) {
				d.start()
				if now := d.want(t, d.running(t), s.first, "", s.first); !now.Trial() {
					t.Fatalf("%+v", now)
				}
			}
			d.start()
			d.want(t, s.first, s.first, "", d.target(t))
		})
	}
}

func (d *device) running(t *testing.T) string {
	n, err := d.installer(t, nil).Describe(t.Context())
	must(t, err)
	return n.Running
}

func (d *device) target(t *testing.T) string {
	n, err := d.installer(t, nil).Describe(t.Context())
	must(t, err)
	return n.Target
}

// TestSONiCSameVersion refuses an image that sonic-installer would not install beside the running one.
func TestSONiCSameVersion(t *testing.T) {
	d := sonic(t)
	wantCode(t, install(t, d.installer(t, nil), "version 1\nother bytes\n"), CodeSameSlot)
	if now := d.want(t, "SONiC-OS-1", "SONiC-OS-1", "", other); len(now.Contents) != 0 {
		t.Errorf("%+v", now.Contents)
	}
	// One that is there already is installed again, since nobody knows what it holds.
	d.put("available", "SONiC-OS-1\nSONiC-OS-2")
	must(t, install(t, d.installer(t, nil), "version 2\n"))
	if got := d.get("image-SONiC-OS-2"); got != "version 2" {
		t.Errorf("%q", got)
	}
	if _, err := os.Stat(filepath.Dir(d.opts.Image)); err != nil {
		t.Error(err)
	}
}

// TestTrialTakenBack: a slot that runs on trial is not started again, by boot loaders that would, and stays on trial until then.
func TestTrialTakenBack(t *testing.T) {
	for name, tt := range map[string]struct {
		device        func(*testing.T) *device
		status        string
		old, tried    string
		calls         []string
		without, also int // boots after which it is back
	}{
		"sonic-installer": {sonic, "sonic-installer list", "SONiC-OS-1", "SONiC-OS-2",
			[]string{"sonic-installer set-default SONiC-OS-1", "sonic-installer set-next-boot SONiC-OS-1"}, 1, 1},
		"mlxbf-bootctl": {blueField, "mlxbf-bootctl", "/dev/mmcblk0boot0", "/dev/mmcblk0boot1", []string{"mlxbf-bootctl --swap --nowatchdog-swap"}, 1, 1},
		"rauc":          {raucPlay, "rauc status --output-format=json", "rootfs.0", "rootfs.1", []string{"rauc status mark-active rootfs.0"}, 3, 1},
		"swupdate":      {swupdate, "swupdate --get-root", "copy1", "copy2", nil, 1, 1}, // which cannot take it back, and needs not
	} {
		for _, taken := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s %t", name, taken), func(t *testing.T) {
				d, boots := tt.device(t), tt.without
				must(t, install(t, d.installer(t, nil), "version 2\n"))
				must(t, d.installer(t, nil).Activate(t.Context()))
				d.start()
				d.calls("")
				if taken {
					must(t, d.installer(t, nil).Deactivate(t.Context()))
					if diff := cmp.Diff(tt.calls, d.calls(tt.status)); diff != "" {
						t.Fatal(diff)
					}
					if name != "mlxbf-bootctl" { // which tells only what is started next
						d.want(t, tt.tried, tt.old, "", tt.old)
					}
					boots = tt.also
				}
				for range boots - 1 {
					d.start()
					d.want(t, tt.tried, tt.old, "", tt.old)
				}
				d.start()
				if got := d.running(t); got != tt.old {
					t.Errorf("%s runs after %d boots", got, boots)
				}
			})
		}
	}
}
